// SPDX-License-Identifier: Apache-2.0

// Command sallyport is what people type: administration of a verifier, hosts
// that join, an authenticator in the terminal, and a look at what a host's
// logins go through. It decides nothing about a login.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/version"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := cli.Stdio()
	err := newRoot(&app{Terminal: t, env: os.Getenv}).ExecuteContext(ctx)
	if errors.Is(ctx.Err(), context.Canceled) && errors.Is(err, context.Canceled) {
		return cli.ExitFailed // interrupted by the person: nothing to explain
	}
	return t.Fail("sallyport", err)
}

// app is what every command has: the terminal and the environment.
type app struct {
	*cli.Terminal
	env  func(string) string
	json bool
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "sallyport",
		Short: "A self-hosted second factor for Linux logins",
		Long: `sallyport administers a verifier, joins hosts to it, answers login requests and
looks after the login set-up of a host.

Exit codes: 0 done, 1 failed, 2 usage. Colour is used only on a terminal and not
if NO_COLOR is set.`,
		Version:           version.String(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		Args:              cobra.NoArgs,
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.AddCommand(a.adminCommand(), a.hostCommand(), a.authenticatorCommand(), a.rulesCommand(), a.breakglassCommand(), a.deviceCacheCommand(), a.doctorCommand(), a.statusCommand(), a.pamCommand(), a.importCommand(), a.gatewayCommand(), a.sshConfigCommand(), a.replayCommand())
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd("sallyport")
	walk(root, usageErrors)
	walk(root, func(c *cobra.Command) {
		if lines := examples[c.CommandPath()]; len(lines) > 0 {
			c.Example = "  " + strings.Join(lines, "\n  ")
		}
	})
	return root
}

func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		walk(sub, f)
	}
}

// usageErrors makes what cobra finds wrong with a command line a usage error,
// with the way to the help, and a group without its command one as well.
func usageErrors(c *cobra.Command) {
	usage := func(err error) error {
		return &cli.UsageError{Err: cli.WithHint(err, "see: "+c.CommandPath()+" --help")}
	}
	c.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usage(err) })
	if !c.Runnable() {
		// Arguments are checked before anything is opened.
		c.Args = func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usage(cli.Usagef("%s has no command %q", c.CommandPath(), args[0]))
			}
			return usage(cli.Usagef("%s needs a command: one of %s", c.CommandPath(), strings.Join(names(c), ", ")))
		}
		c.RunE = func(*cobra.Command, []string) error { return nil }
		return
	}
	if check := c.Args; check != nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if err := check(c, args); err != nil {
				return usage(err)
			}
			return nil
		}
	}
	if pre := c.PreRunE; pre == nil {
		c.PreRunE = func(c *cobra.Command, _ []string) error {
			if err := c.ValidateRequiredFlags(); err != nil {
				return usage(err)
			}
			return nil
		}
	}
}

func names(c *cobra.Command) []string {
	var out []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "help" && sub.Name() != "completion" {
			out = append(out, sub.Name())
		}
	}
	return out
}

// args is cobra.ExactArgs with the names of what is missing.
func args(want ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, got []string) error {
		if len(got) < len(want) {
			return cli.Usagef("%s is missing", strings.Join(want[len(got):], " and "))
		}
		if len(got) > len(want) {
			return cli.Usagef("%q is one argument too many", got[len(want)])
		}
		return nil
	}
}

func (a *app) jsonFlag(c *cobra.Command) {
	c.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON, with the field names of the API")
}
