// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const (
	endpointsPath  = "/admin/v1/endpoints"
	registeredPath = "/admin/v1/registered_devices"
	passportPath   = "/admin/v2/passport/config"
	logoPath       = "/admin/v1/logo"
)

func (s *admin) endpointCommand() *cobra.Command {
	c := &cobra.Command{Use: "endpoint", Short: "What people log in from"}
	c.AddCommand(&cobra.Command{
		Use: "list", Short: "List endpoints", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			found, err := s.list(c.Context(), "list endpoints", endpointsPath, nil)
			if err != nil {
				return err
			}
			type endpoint struct {
				EPKey     string `json:"epkey"`
				Username  string `json:"username"`
				Device    string `json:"device_name"`
				OS        string `json:"os_family"`
				OSVersion string `json:"os_version"`
				Updated   int64  `json:"last_updated"`
			}
			return present(s.app, found, []string{"ENDPOINT", "USER", "DEVICE", "SYSTEM", "LAST SEEN"}, func(e endpoint) []string {
				return []string{e.EPKey, e.Username, e.Device, strings.TrimSpace(e.OS + " " + e.OSVersion), unix(e.Updated)}
			})
		},
	})
	return c
}

// registeredDevice is what the commands read of a registered device.
type registeredDevice struct {
	ID      string `json:"registered_device_id"`
	Name    string `json:"device_name"`
	OS      string `json:"os_family"`
	Blocked bool   `json:"blocked"`
	Created int64  `json:"created"`
	User    struct {
		Username string `json:"username"`
	} `json:"user"`
}

func (s *admin) registeredDeviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "registered-device", Short: "Devices that people have registered"}
	c.AddCommand(s.registeredDeviceList(), &cobra.Command{
		Use: "rm ID", Short: "Remove a registered device", Args: args("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.remove(c.Context(), fmt.Sprintf("registered device %q", args[0]), registeredPath+"/"+url.PathEscape(args[0]))
		},
	}, s.registeredDeviceBlock("block", "Let a registered device remember no login", http.MethodPost),
		s.registeredDeviceBlock("unblock", "Let a registered device remember logins again", http.MethodDelete))
	return c
}

func (s *admin) registeredDeviceList() *cobra.Command {
	var blocked bool
	c := &cobra.Command{
		Use: "list", Short: "List registered devices", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			path := registeredPath
			if blocked {
				path += "/blocked"
			}
			found, err := s.list(c.Context(), "list registered devices", path, nil)
			if err != nil {
				return err
			}
			return present(s.app, found, []string{"DEVICE", "USER", "NAME", "SYSTEM", "BLOCKED", "REGISTERED"}, func(d registeredDevice) []string {
				return []string{d.ID, d.User.Username, d.Name, d.OS, fmt.Sprint(d.Blocked), unix(d.Created)}
			})
		},
	}
	c.Flags().BoolVar(&blocked, "blocked", false, "only those that are blocked")
	return c
}

func (s *admin) registeredDeviceBlock(use, short, method string) *cobra.Command {
	return &cobra.Command{
		Use: use + " ID", Short: short, Args: args("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("%s registered device %q", use, args[0]), method, registeredPath+"/blocked/"+url.PathEscape(args[0]), nil, &raw); err != nil {
				return err
			}
			return present(s.app, []json.RawMessage{raw}, []string{"DEVICE", "NAME", "BLOCKED"}, func(d registeredDevice) []string {
				return []string{d.ID, d.Name, fmt.Sprint(d.Blocked)}
			})
		},
	}
}

func (s *admin) passportCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "passport", Short: "The Passport configuration",
		Long: `The Passport configuration.

"enabled" and "disabled" switch the policy for remembered logins, which
"sallyport admin policy remembered-devices" shows in full. For groups it is kept,
and nobody is remembered.`,
	}
	c.AddCommand(&cobra.Command{
		Use: "show", Short: "Show the configuration", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error { return s.passport(c, http.MethodGet, nil) },
	}, s.passportSet())
	return c
}

func (s *admin) passport(c *cobra.Command, method string, params url.Values) error {
	var raw json.RawMessage
	if err := s.call(c.Context(), "read or change the Passport configuration", method, passportPath, params, &raw); err != nil {
		return err
	}
	if s.json {
		return s.JSON(raw)
	}
	var p struct {
		Status   string   `json:"enabled_status"`
		Enabled  []string `json:"enabled_groups"`
		Disabled []string `json:"disabled_groups"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	return s.fields("PASSPORT", p.Status, "For groups", strings.Join(p.Enabled, ","), "Not for groups", strings.Join(p.Disabled, ","))
}

func (s *admin) passportSet() *cobra.Command {
	values := map[string]*string{}
	statuses := []string{"disabled", "enabled", "enabled-for-groups", "enabled-with-exceptions"}
	c := &cobra.Command{
		Use: "set", Short: "Change the configuration", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			params := changedFlags(c, values)
			if len(params) == 0 {
				return cli.Usagef("nothing to change: give --enabled-status, --enabled-groups or --disabled-groups")
			}
			if status := params.Get("enabled_status"); params.Has("enabled_status") && !slices.Contains(statuses, status) {
				return cli.Usagef("--enabled-status %q is none of %s", status, strings.Join(statuses, ", "))
			}
			return s.passport(c, http.MethodPost, params)
		},
	}
	textFlags(c, values, map[string]string{
		"enabled-status": strings.Join(statuses, ", "), "enabled-groups": "ids of groups, comma-separated", "disabled-groups": "ids of groups, comma-separated",
	})
	complete(c, "enabled-status", statuses...)
	return c
}

func (s *admin) logoCommand() *cobra.Command {
	c := &cobra.Command{Use: "logo", Short: "The logo that clients show"}
	c.AddCommand(&cobra.Command{
		Use: "set FILE", Short: "Set the logo: a PNG of 12 to 500 pixels a side and at most 100 KiB", Args: args("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read the logo: %w", err)
			}
			params := url.Values{"logo": {base64.StdEncoding.EncodeToString(file)}}
			if err := s.call(c.Context(), "set the logo", http.MethodPost, logoPath, params, nil); err != nil {
				return err
			}
			s.Notef("set the logo\n")
			return nil
		},
	}, &cobra.Command{
		Use: "rm", Short: "Remove the logo; that of the verifier's logo_file shows again", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error { return s.remove(c.Context(), "the logo", logoPath) },
	})
	return c
}
