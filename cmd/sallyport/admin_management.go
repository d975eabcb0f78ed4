// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/durable"
)

const managementPath = "/sallyport/v1/admin/management_systems"

// managedCache is a device cache as the Admin API tells of it.
type managedCache struct {
	CacheKey    string `json:"cache_key"`
	DeviceCount int    `json:"device_count"`
}

// managementSystem is what the commands read of a management system.
type managementSystem struct {
	MKey           string        `json:"mkey"`
	Name           string        `json:"name"`
	OS             string        `json:"os"`
	Status         string        `json:"status"`
	GroupIDs       []string      `json:"group_ids"`
	IntegrationKey string        `json:"integration_key"`
	SecretKey      string        `json:"secret_key"`
	APIHostname    string        `json:"api_hostname"`
	Active         *managedCache `json:"active_cache"`
	Pending        *managedCache `json:"pending_cache"`
	AgeSeconds     int64         `json:"age_secs"`
	Stale          bool          `json:"stale"`
}

func (m managementSystem) devices() string {
	if m.Active == nil {
		return ""
	}
	return strconv.Itoa(m.Active.DeviceCount)
}

// age is how old the list is, in words.
func (m managementSystem) age() string {
	if m.Active == nil {
		return "no list"
	}
	age := strings.TrimSuffix((time.Duration(m.AgeSeconds) * time.Second).Truncate(time.Minute).String(), "m0s")
	switch {
	case m.AgeSeconds < 60:
		age = "0m"
	case !strings.HasSuffix(age, "s"):
		age += "m"
	}
	if m.Stale {
		return age + " (old)"
	}
	return age
}

type managementFlags struct {
	name, status string
	groups       []string
}

func (f *managementFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.status, "status", "", "whose devices it vouches for: disabled (nobody's), test-group or all")
	c.Flags().StringSliceVar(&f.groups, "group", nil, "group of the status test-group, by its id; may repeat")
	complete(c, "status", "disabled", "test-group", "all")
}

func (f *managementFlags) params(c *cobra.Command) url.Values {
	params := url.Values{}
	if c.Flags().Changed("status") {
		params.Set("status", f.status)
	}
	if c.Flags().Changed("group") {
		params.Set("group_ids", strings.Join(f.groups, ","))
	}
	if f.name != "" {
		params.Set("name", f.name)
	}
	return params
}

func (s *admin) managementCommand() *cobra.Command {
	c := &cobra.Command{Use: "management-system", Short: "Tools that know the organisation's devices, and their lists"}
	c.AddCommand(s.managementAdd(), s.managementList(), s.managementShow(), s.managementSet(), s.managementRemove())
	return c
}

func (s *admin) managementAdd() *cobra.Command {
	var f managementFlags
	var os, out string
	c := &cobra.Command{
		Use: "add NAME --os OS", Short: "Make a management system with its Device API integration, whose secret is shown once", Args: args("NAME"),
		Long: `Make a management system with its Device API integration, whose secret is shown once.

It begins disabled: upload a list first (sallyport device-cache sync), then set its
status. With --out the secret goes into a profile for that command, a file of mode
0600, and not to the terminal.`,
		RunE: func(c *cobra.Command, args []string) error {
			if out != "" {
				if err := absent(out); err != nil {
					return err
				}
			}
			params := f.params(c)
			params.Set("name", args[0])
			params.Set("os", os)
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("make management system %q", args[0]), http.MethodPost, managementPath, params, &raw); err != nil {
				return err
			}
			if out == "" {
				return s.showManagement(raw)
			}
			return s.writeManagement(out, raw)
		},
	}
	f.define(c)
	c.Flags().StringVar(&os, "os", "", "operating system of its devices: windows, macos or linux (required)")
	c.Flags().StringVar(&out, "out", "", "write a profile for sallyport device-cache sync to this file")
	complete(c, "os", "windows", "macos", "linux")
	required(c, "os")
	return c
}

// absent refuses to write over a file, before there is a secret to lose.
func absent(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return cli.WithHint(fmt.Errorf("%s is there already", path), "choose another file, or remove it")
	}
	return nil
}

// writeManagement writes the profile and shows the rest. If it cannot be written,
// the secret is shown, for it is not to be had again.
func (s *admin) writeManagement(path string, raw json.RawMessage) error {
	var m managementSystem
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	own, err := readProfile(s.profileFile())
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(duoapi.Profile{
		IntegrationKey: m.IntegrationKey, SecretKey: m.SecretKey, APIHostname: m.APIHostname, CAFile: own.CAFile, MKey: m.MKey,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode profile: %w", err)
	}
	if err := durable.Replace(path, append(text, '\n'), 0o600); err != nil {
		_ = s.showManagement(raw)
		return fmt.Errorf("write profile %s: %w; the management system is made, and this was its secret", path, err)
	}
	var shown map[string]any
	if err := json.Unmarshal(raw, &shown); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	delete(shown, "secret_key")
	rest, err := json.Marshal(shown)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return s.showManagement(rest)
}

func (s *admin) showManagement(raw json.RawMessage) error {
	if s.json {
		return s.JSON(raw)
	}
	var m managementSystem
	if err := json.Unmarshal(raw, &m); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	pairs := []string{
		"MANAGEMENT SYSTEM", m.MKey, "Name", m.Name, "Operating system", m.OS, "Status", m.Status,
		"Groups", strings.Join(m.GroupIDs, ", "), "Devices", m.devices(), "Age", m.age(),
	}
	if m.Pending != nil {
		pairs = append(pairs, "Pending cache", fmt.Sprintf("%s, %d devices", m.Pending.CacheKey, m.Pending.DeviceCount))
	}
	pairs = append(pairs, "Integration", m.IntegrationKey)
	if m.SecretKey != "" {
		pairs = append(pairs, "Secret key", m.SecretKey)
	}
	return s.fields(append(pairs, "API host", m.APIHostname)...)
}

func (s *admin) managementList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List management systems, with how old their lists are", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			found, err := s.list(c.Context(), "list management systems", managementPath, nil)
			if err != nil {
				return err
			}
			return present(s.app, found, []string{"MANAGEMENT SYSTEM", "NAME", "OS", "STATUS", "DEVICES", "AGE"}, func(m managementSystem) []string {
				return []string{m.MKey, m.Name, m.OS, m.Status, m.devices(), m.age()}
			})
		},
	}
}

func (s *admin) managementShow() *cobra.Command {
	return &cobra.Command{
		Use: "show MKEY", Short: "Show a management system, without the secret", Args: args("MKEY"),
		RunE: func(c *cobra.Command, args []string) error {
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("read management system %q", args[0]), http.MethodGet, managementPath+"/"+url.PathEscape(args[0]), nil, &raw); err != nil {
				return err
			}
			return s.showManagement(raw)
		},
	}
}

func (s *admin) managementSet() *cobra.Command {
	var f managementFlags
	c := &cobra.Command{
		Use: "set MKEY", Short: "Change the name or the status of a management system", Args: args("MKEY"),
		RunE: func(c *cobra.Command, args []string) error {
			params := f.params(c)
			if len(params) == 0 {
				return cli.Usagef("nothing to set: pass --status, --group or --name")
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("change management system %q", args[0]), http.MethodPost, managementPath+"/"+url.PathEscape(args[0]), params, &raw); err != nil {
				return err
			}
			return s.showManagement(raw)
		},
	}
	f.define(c)
	c.Flags().StringVar(&f.name, "name", "", "name")
	return c
}

func (s *admin) managementRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm MKEY", Short: "Remove a management system with its lists and its integration", Args: args("MKEY"),
		Long: `Remove a management system with its lists and its integration.

Its devices are not trusted any more. Change the policies that demand trusted
endpoints first.`,
		RunE: func(c *cobra.Command, args []string) error {
			return s.remove(c.Context(), fmt.Sprintf("management system %q", args[0]), managementPath+"/"+url.PathEscape(args[0]))
		},
	}
}
