// SPDX-License-Identifier: Apache-2.0

// Command sallyport-sshgw is the SSH gateway: one door to many servers, behind which a
// first and a second factor, rules and recordings stand.
package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/eventlog"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/gateway"
	"github.com/sallyport-mfa/sallyport/sshgw/transport"
)

func main() { os.Exit(run()) }

func run() int {
	ran, err := command().ExecuteContextC(context.Background())
	var work *failure
	if err != nil && !errors.As(err, &work) && !errors.Is(err, cli.ErrReported) {
		help := "sallyport-sshgw"
		if ran != nil {
			help = ran.CommandPath()
		}
		err = &cli.UsageError{Err: cli.WithHint(err, "see: "+help+" --help")}
	}
	return cli.Stdio().Fail("sallyport-sshgw", err)
}

// failure is an error of the work itself; every other is one of usage.
type failure struct{ error }

func (f *failure) Unwrap() error { return f.error }

// failed makes a failure of an error; nil stays nil.
func failed(err error) error {
	if err == nil {
		return nil
	}
	var hint *cli.Hint
	if errors.Is(err, fs.ErrNotExist) && !errors.As(err, &hint) {
		err = cli.WithHint(err, "docs/how-to/run-a-gateway.md says which files a gateway needs")
	}
	return &failure{err}
}

func command() *cobra.Command {
	var path, format string
	var debug bool
	root := &cobra.Command{
		Use:   "sallyport-sshgw",
		Short: "Serve SSH to many servers through one door",
		Long: `sallyport-sshgw serves SSH: it asks for a first and a second factor, lets through
what the rules permit, and records what they demand. SIGHUP reads the configuration
again, and sessions go on; SIGTERM lets them end within timeouts.drain, and a second
one ends them at once. "sallyport gateway" looks after it while it runs.`,
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := eventlog.FromFlags("sallyport-sshgw", format, debug, os.Stderr)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), path, log)
		},
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.PersistentFlags().StringVar(&path, "config", config.DefaultPath, "configuration `file`")
	root.Flags().StringVar(&format, "log", "auto", "log as `format`: auto (the journal under systemd, else text), text, json, journal")
	root.Flags().BoolVar(&debug, "debug", false, "log each step of each connection")
	root.AddCommand(checkCommand(&path), explainCommand(&path), keysCommand(&path))
	root.CompletionOptions.HiddenDefaultCmd = true
	completeFixed(root, "log", "auto", "text", "json", "journal")
	return root
}

func serve(ctx context.Context, path string, log *slog.Logger) error {
	transport.Tune()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ends, reload := make(chan os.Signal, 2), make(chan os.Signal, 1)
	hurry := make(chan os.Signal, 1)
	signal.Notify(ends, unix.SIGTERM, unix.SIGINT)
	signal.Notify(reload, unix.SIGHUP)
	go func() {
		<-ends
		stop()
		hurry <- <-ends
	}()
	return failed(gateway.Run(ctx, gateway.Options{ConfigPath: path, Version: version.String(), Log: log, Reload: reload, Hurry: hurry}))
}
