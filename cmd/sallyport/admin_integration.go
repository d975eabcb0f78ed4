// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const integrationsPath = "/admin/v3/integrations"

// integration is what the commands read of an integration of the Admin API.
type integration struct {
	IntegrationKey string `json:"integration_key"`
	SecretKey      string `json:"secret_key"`
	Name           string `json:"name"`
	Type           string `json:"type"`
	Notes          string `json:"notes"`
	AllowSHA1      bool   `json:"allow_sha1"`
	AllowV1        bool   `json:"allow_v1"`
	AllowPlainPush bool   `json:"allow_plain_push"`

	UserAccess       string   `json:"user_access"`
	GroupsAllowed    []string `json:"groups_allowed"`
	Networks         string   `json:"networks_for_api_access"`
	EnrollPolicy     string   `json:"enroll_policy"`
	OldSecretExpires int64    `json:"old_secret_expires"`
}

func (i integration) relaxed() string {
	var out []string
	for name, on := range map[string]bool{"sha1": i.AllowSHA1, "v1": i.AllowV1, "plain-push": i.AllowPlainPush} {
		if on {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// grants of an Admin API integration, by the names that people type.
var grants = []string{"admins", "info", "integrations", "read-log", "read-resource", "settings", "write-resource"}

func (s *admin) integrationCommand() *cobra.Command {
	c := &cobra.Command{Use: "integration", Short: "What may call the verifier's APIs"}
	c.AddCommand(s.integrationAdd(), s.integrationList(), s.integrationShow(), s.integrationSet(), s.integrationRotate(), s.integrationRemove())
	return c
}

func (s *admin) integrationAdd() *cobra.Command {
	var kind, name, notes string
	var sha1, v1, plain bool
	var granted []string
	c := &cobra.Command{
		Use: "add --type TYPE --name NAME", Short: "Make an integration and show its secret, once", Args: args(),
		Long: `Make an integration and show its secret, once.

--allow-sha1, --allow-v1 and --allow-plain-push let in what old clients do and are
each weaker than the default: give them only to an integration whose clients need
them. Signatures of version 1 carry no time, so whoever reads one can repeat it.`,
		RunE: func(c *cobra.Command, _ []string) error {
			params := url.Values{"type": {kind}, "name": {name}}
			if notes != "" {
				params.Set("notes", notes)
			}
			for param, on := range map[string]bool{"allow_sha1": sha1, "allow_v1": v1, "allow_plain_push": plain} {
				if on {
					params.Set(param, flagged(on))
				}
			}
			for _, g := range granted {
				if g != "all" && !slices.Contains(grants, g) {
					return cli.Usagef("--grant %q is none of all, %s", g, strings.Join(grants, ", "))
				}
				for _, each := range grants {
					if g == "all" || g == each {
						params.Set("adminapi_"+strings.ReplaceAll(each, "-", "_"), flagged(true))
					}
				}
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("make integration %q", name), http.MethodPost, integrationsPath, params, &raw); err != nil {
				return err
			}
			return s.showIntegration(raw)
		},
	}
	c.Flags().StringVar(&kind, "type", "", "authapi, adminapi, deviceapi or websdk (required)")
	c.Flags().StringVar(&name, "name", "", "name, shown to people who approve (required)")
	c.Flags().StringVar(&notes, "notes", "", "notes")
	c.Flags().BoolVar(&sha1, "allow-sha1", false, "accept signatures by HMAC-SHA1")
	c.Flags().BoolVar(&v1, "allow-v1", false, "accept signatures without a date")
	c.Flags().BoolVar(&plain, "allow-plain-push", false, "push without digits, for clients that cannot show any")
	c.Flags().StringSliceVar(&granted, "grant", nil, "what an adminapi integration may do: all, or of "+strings.Join(grants, ", "))
	complete(c, "type", "authapi", "adminapi", "deviceapi", "websdk")
	complete(c, "grant", append([]string{"all"}, grants...)...)
	required(c, "type", "name")
	return c
}

func (s *admin) showIntegration(raw json.RawMessage) error {
	if s.json {
		return s.JSON(raw)
	}
	var i integration
	if err := json.Unmarshal(raw, &i); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	pairs := []string{"INTEGRATION", i.IntegrationKey, "Name", i.Name, "Type", i.Type, "Allows", i.relaxed(), "Notes", i.Notes}
	for _, more := range [][2]string{
		{"Who may log in", strings.TrimSpace(i.UserAccess + " " + strings.Join(i.GroupsAllowed, ","))}, {"Networks", i.Networks},
		{"Old secret until", unix(i.OldSecretExpires)},
	} {
		if more[1] != "" && more[1] != "ALL_USERS" {
			pairs = append(pairs, more[0], more[1])
		}
	}
	if i.SecretKey != "" {
		pairs = append(pairs, "Secret key", i.SecretKey)
	}
	return s.fields(append(pairs, "API host", s.client.BaseURL.Host)...)
}

func (s *admin) integrationList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List integrations", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			found, err := s.list(c.Context(), "list integrations", integrationsPath, nil)
			if err != nil {
				return err
			}
			return present(s.app, found, []string{"INTEGRATION", "NAME", "TYPE", "ALLOWS"}, func(i integration) []string {
				return []string{i.IntegrationKey, i.Name, i.Type, i.relaxed()}
			})
		},
	}
}

func (s *admin) integrationShow() *cobra.Command {
	return &cobra.Command{
		Use: "show KEY", Short: "Show an integration, without its secret", Args: args("KEY"),
		RunE: func(c *cobra.Command, args []string) error {
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("read integration %q", args[0]), http.MethodGet, integrationsPath+"/"+url.PathEscape(args[0]), nil, &raw); err != nil {
				return err
			}
			return s.showIntegration(raw)
		},
	}
}

func (s *admin) integrationRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm KEY", Short: "Remove an integration; its clients get 401 from then on", Args: args("KEY"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.remove(c.Context(), fmt.Sprintf("integration %q", args[0]), integrationsPath+"/"+url.PathEscape(args[0]))
		},
	}
}

func (s *admin) changeIntegration(c *cobra.Command, what, key string, params url.Values) error {
	var raw json.RawMessage
	if err := s.call(c.Context(), fmt.Sprintf("%s integration %q", what, key), http.MethodPost, integrationsPath+"/"+url.PathEscape(key), params, &raw); err != nil {
		return err
	}
	return s.showIntegration(raw)
}

func (s *admin) integrationSet() *cobra.Command {
	values := map[string]*string{}
	c := &cobra.Command{
		Use: "set KEY", Short: "Change an integration", Args: args("KEY"),
		Example: `  sallyport admin integration set DIXXXXXXXXXXXXXXXXXX --networks-for-api-access 10.0.0.0/8
  sallyport admin integration set DIXXXXXXXXXXXXXXXXXX --groups-allowed DGXXXXXXXXXXXXXXXXXX`,
		RunE: func(c *cobra.Command, args []string) error {
			params := changedFlags(c, values)
			if len(params) == 0 {
				return cli.Usagef("nothing to change: give a flag")
			}
			return s.changeIntegration(c, "change", args[0], params)
		},
	}
	textFlags(c, values, map[string]string{
		"name": "name, shown to people who approve", "notes": "notes", "networks-for-api-access": "addresses, networks and ranges that may call; blank: all",
		"user-access": "ALL_USERS, NO_USERS or PERMITTED_GROUPS", "groups-allowed": "ids of the groups that may log in, comma-separated; blank: everyone, but NO_USERS stays",
		"enroll-policy": "enroll, allow or deny", "username-normalization-policy": "Simple or None",
		"allow-sha1": "1 or 0: accept signatures by HMAC-SHA1", "allow-v1": "1 or 0: accept signatures without a date",
		"allow-plain-push": "1 or 0: push without digits",
	})
	complete(c, "user-access", "ALL_USERS", "NO_USERS", "PERMITTED_GROUPS")
	complete(c, "enroll-policy", "enroll", "allow", "deny")
	complete(c, "username-normalization-policy", "Simple", "None")
	for _, flag := range []string{"allow-sha1", "allow-v1", "allow-plain-push"} {
		complete(c, flag, "1", "0")
	}
	return c
}

func (s *admin) integrationRotate() *cobra.Command {
	var overlap span
	c := &cobra.Command{
		Use: "rotate-secret KEY", Short: "Make another secret and show it, once; the old one stays good for a while", Args: args("KEY"),
		Long: `Make another secret and show it, once.

The old secret stays good for --overlap, so that clients can be changed one by
one; the verifier's log names an integration that still uses it. For a secret
that may be stolen give --overlap 0s.`,
		RunE: func(c *cobra.Command, args []string) error {
			return s.changeIntegration(c, "rotate the secret of", args[0], url.Values{
				"reset_secret_key": {"1"}, "reset_secret_overlap_secs": {strconv.Itoa(int(time.Duration(overlap).Seconds()))},
			})
		},
	}
	spanFlag(c, &overlap, "overlap", 24*time.Hour, "how long the old secret stays good, 0s to 30d")
	return c
}
