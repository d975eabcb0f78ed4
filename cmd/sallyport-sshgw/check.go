// SPDX-License-Identifier: Apache-2.0

package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

// checkCommand verifies a configuration without starting.
func checkCommand(path *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check",
		Short: "Verify the configuration without starting",
		Long: `Verify the configuration without starting: the file, the targets, keys and
authorities that it names, and the rules. A warning names what weakens the gateway,
or is not what it seems.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := terminal(cmd)
			conf, err := config.Load(*path)
			if err != nil {
				if !asJSON {
					return failed(err)
				}
				out := checked{File: *path, Findings: []config.Finding{{Level: config.Fault, File: *path, Text: err.Error()}}}
				if err := t.JSON(out); err != nil {
					return failed(err)
				}
				return cli.ErrReported
			}
			var people directory.Directory
			if nss, err := directory.NewNSS(); err == nil {
				people = nss
			}
			return failed(report(t, conf, conf.Check(cmd.Context(), people, time.Now()), asJSON))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// checked is what check --json prints.
type checked struct {
	File     string           `json:"file"`
	OK       bool             `json:"ok"`
	Targets  int              `json:"targets"`
	Rules    int              `json:"rules"`
	Findings []config.Finding `json:"findings"`
}

func report(t *cli.Terminal, conf *config.Config, findings []config.Finding, asJSON bool) error {
	out := checked{File: conf.Path, OK: true, Targets: len(conf.Inventory().All()), Rules: len(conf.Rule), Findings: findings}
	for _, f := range findings {
		out.OK = out.OK && f.Level != config.Fault
	}
	if asJSON {
		if out.Findings == nil {
			out.Findings = []config.Finding{}
		}
		if err := t.JSON(out); err != nil {
			return err
		}
	} else {
		for _, f := range findings {
			t.Notef("%s\n", f.String())
		}
		if out.OK {
			t.Printf("%s: ok, %s, %s\n", conf.Path, cli.Count(out.Targets, "target"), cli.Count(out.Rules, "rule"))
		}
	}
	if !out.OK {
		return cli.ErrReported
	}
	return nil
}

// terminal is where a command reads and writes.
func terminal(cmd *cobra.Command) *cli.Terminal {
	t := cli.Stdio()
	t.Out, t.Err = cmd.OutOrStdout(), cmd.ErrOrStderr()
	return t
}
