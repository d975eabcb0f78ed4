// SPDX-License-Identifier: Apache-2.0

// Command sallyport-authd decides the logins of a host: it talks to the PAM
// module over Unix sockets and to the verifier over HTTPS.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/daemon"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/eventlog"
	"github.com/sallyport-mfa/sallyport/internal/version"
)

func main() { os.Exit(run()) }

func run() int {
	err := command().ExecuteContext(context.Background())
	var work *failure
	if err != nil && !errors.As(err, &work) {
		err = &cli.UsageError{Err: cli.WithHint(err, "see: sallyport-authd --help")}
	}
	return cli.Stdio().Fail("sallyport-authd", err)
}

// failure is an error of the work itself; every other is one of usage.
type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

// failed makes a failure of an error; nil stays nil.
func failed(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = cli.WithHint(err, "sallyport host join writes the files that authd needs")
	}
	if err == nil {
		return nil
	}
	return &failure{err}
}

func command() *cobra.Command {
	var path, format string
	var debug bool
	root := &cobra.Command{
		Use:   "sallyport-authd",
		Short: "Decide the logins of this host",
		Long: `sallyport-authd decides the logins of this host. The PAM module brings it each
login over a Unix socket; it applies the local rules, asks the verifier, and
leads the conversation. SIGHUP reloads the configuration, SIGTERM ends it.`,
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := eventlog.FromFlags("sallyport-authd", format, debug, os.Stderr)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), path, log)
		},
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.PersistentFlags().StringVar(&path, "config", config.DefaultPath, "configuration `file`")
	root.Flags().StringVar(&format, "log", "auto", "log as `format`: auto (the journal under systemd, else text), text, json, journal")
	root.Flags().BoolVar(&debug, "debug", false, "log each step of each login")
	root.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Verify the configuration without starting",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			warnings, err := daemon.Check(path)
			if err != nil {
				return failed(err)
			}
			for _, w := range warnings {
				fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+w)
			}
			fmt.Fprintln(cmd.OutOrStdout(), path+": ok")
			return nil
		},
	})
	root.CompletionOptions.DisableDefaultCmd = true
	return root
}

func serve(ctx context.Context, path string, log *slog.Logger) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGTERM, unix.SIGINT)
	defer stop()
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, unix.SIGHUP)
	return failed(daemon.Run(ctx, daemon.Options{ConfigPath: path, Version: version.String(), Log: log, Reload: reload}))
}
