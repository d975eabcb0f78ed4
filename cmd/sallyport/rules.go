// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/sshdconfig"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

func (a *app) rulesCommand() *cobra.Command {
	var path string
	c := &cobra.Command{Use: "rules", Short: "This host's rules: who needs a second factor"}
	c.PersistentFlags().StringVar(&path, "config", config.DefaultPath, "authd.toml with the rules")
	c.AddCommand(a.rulesCheck(&path), a.rulesExplain(&path), a.rulesReplay(&path), a.rulesSSHD(&path))
	return c
}

// loadConfig reads authd.toml for a command that needs no secret.
func loadConfig(path string) (*config.Config, error) {
	c, err := config.LoadWithoutSecret(path)
	return c, explained(err)
}

// explained adds what to do about a configuration that is not there.
func explained(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return cli.WithHint(err, "sallyport host join writes one; --config names another")
	}
	return err
}

func (a *app) rulesCheck(path *string) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Check the rules and say what weakens the host", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			c, untrusted, err := config.LoadToCheck(*path)
			if err != nil {
				return explained(err)
			}
			for _, w := range slices.Concat(untrusted, c.Warnings(), c.RuleWarnings(a.Now()), c.SudoWarnings()) {
				a.Notef("warning: %s\n", w)
			}
			for _, w := range a.sshdBlocks(c).Warnings {
				a.Notef("warning: sshd: %s\n", w)
			}
			a.countRules(*path, c.RuleSet().Rules())
			return nil
		},
	}
}

// countRules says how many rules each file has.
func (a *app) countRules(path string, list []rules.Rule) {
	files, count := []string{path}, map[string]int{}
	for _, r := range list {
		if count[r.Origin]++; !slices.Contains(files, r.Origin) {
			files = append(files, r.Origin)
		}
	}
	for _, f := range files {
		a.Printf("%s: %d rules, no errors\n", f, count[f])
	}
}

// sshdBlocks is what sshd needs to know of the rules that can still match.
func (a *app) sshdBlocks(c *config.Config) sshdconfig.Config {
	expired := c.RuleSet().Expired(a.Now())
	live := slices.DeleteFunc(c.RuleSet().Rules(), func(r rules.Rule) bool {
		return slices.ContainsFunc(expired, func(e rules.Rule) bool { return e.Origin == r.Origin && e.Number == r.Number })
	})
	return sshdconfig.Write(live)
}

func (a *app) rulesSSHD(path *string) *cobra.Command {
	return &cobra.Command{
		Use: "sshd-config", Short: "Print Match blocks of sshd_config for the bypass rules", Args: args(),
		Long: `Print Match blocks of sshd_config for the bypass rules that are for sshd.

A batch job cannot answer a question, so sshd must let it in by its key alone; the
blocks say for whom, and take away terminal and forwarding. sshd cannot match keys:
the module's account and session hooks refuse every key that the rule does not
name. What sshd cannot express is left out, with a warning on standard error.`,
		RunE: func(*cobra.Command, []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			out := a.sshdBlocks(c)
			for _, w := range out.Warnings {
				a.Notef("warning: %s\n", w)
			}
			_, err = fmt.Fprint(a.Out, out.Text)
			return err
		},
	}
}
