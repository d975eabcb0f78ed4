// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const settingsPath = "/admin/v1/settings"

func (s *admin) settingsCommand() *cobra.Command {
	c := &cobra.Command{Use: "settings", Short: "Settings of the whole verifier"}
	c.AddCommand(s.settingsShow(), s.settingsSet())
	return c
}

func (s *admin) settings(ctx context.Context) (map[string]any, error) {
	var out map[string]any
	return out, s.call(ctx, "read the settings", http.MethodGet, settingsPath, nil, &out)
}

func (s *admin) settingsShow() *cobra.Command {
	return &cobra.Command{
		Use: "show", Short: "Show the settings that are in force", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			settings, err := s.settings(c.Context())
			if err != nil {
				return err
			}
			return s.presentSettings(settings)
		},
	}
}

func (s *admin) presentSettings(settings map[string]any) error {
	if s.json {
		return s.JSON(settings)
	}
	var rows [][]string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		rows = append(rows, []string{name, fmt.Sprint(settings[name])})
	}
	return s.Table([]string{"SETTING", "VALUE"}, rows)
}

func (s *admin) settingsSet() *cobra.Command {
	return &cobra.Command{
		Use: "set SETTING=VALUE...", Short: "Change settings; the others stay", Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: s.completeSettings,
		Long: `Change settings; the others stay. "settings show" lists them. For example

    sallyport admin settings set offline_enabled=false

ends all offline codes, for each host at its next contact with the verifier.`,
		RunE: func(c *cobra.Command, args []string) error {
			params := url.Values{}
			for _, a := range args {
				name, value, ok := strings.Cut(a, "=")
				if !ok || name == "" {
					return cli.Usagef("%q is not of the form SETTING=VALUE", a)
				}
				params.Set(name, value)
			}
			known, err := s.settings(c.Context())
			if err != nil {
				return err
			}
			for name := range params {
				if _, ok := known[name]; !ok {
					return cli.WithHint(fmt.Errorf("there is no setting %q", name), "sallyport admin settings show lists them")
				}
			}
			var settings map[string]any
			if err := s.call(c.Context(), "change settings", http.MethodPost, settingsPath, params, &settings); err != nil {
				return err
			}
			return s.presentSettings(settings)
		},
	}
}

// completeSettings completes names of settings, and the value that each has.
func (s *admin) completeSettings(c *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	if err := s.open(); err != nil { // completion does not run what comes before a command
		return nil, cobra.ShellCompDirectiveError
	}
	settings, err := s.settings(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		if whole := fmt.Sprintf("%s=%v", name, settings[name]); strings.HasPrefix(whole, typed) {
			out = append(out, whole)
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}
