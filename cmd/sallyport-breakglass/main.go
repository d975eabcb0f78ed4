// SPDX-License-Identifier: Apache-2.0

// Command sallyport-breakglass lets in by break-glass codes while authd or the
// verifier cannot be asked. It reads no configuration file, needs no network and
// no room on the disk, and is started by systemd when somebody knocks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/breakglass/server"
	"github.com/sallyport-mfa/sallyport/internal/eventlog"
	"github.com/sallyport-mfa/sallyport/internal/version"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

const about = `sallyport-breakglass lets in by break-glass codes (sallyport breakglass generate)
while authd or the verifier cannot be asked. systemd passes its socket; without
systemd, --listen makes one, as root.

Usage: sallyport-breakglass [flags]
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

type options struct {
	store, policy, listen, authd string
	format                       string
	idle                         time.Duration
	debug, version               bool
}

func run(args []string, out, stderr io.Writer) int {
	var o options
	flags := flag.NewFlagSet("sallyport-breakglass", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.store, "store", breakglass.DefaultDir, "`folder` of the codes")
	flags.StringVar(&o.policy, "policy", breakglass.DefaultPolicyPath, "`file` in which authd keeps a copy of its rules")
	flags.StringVar(&o.listen, "listen", "", "make the socket at `path`, where systemd passes none")
	flags.StringVar(&o.authd, "authd-user", "sallyport-authd", "`account` of authd, which may ask beside root")
	flags.StringVar(&o.format, "log", "auto", "log as `format`: auto (the journal under systemd, else text), text, json, journal")
	flags.DurationVar(&o.idle, "idle", 5*time.Minute, "end after this time without a connection; with --listen never")
	flags.BoolVar(&o.debug, "debug", false, "log each step")
	flags.BoolVar(&o.version, "version", false, "print the version")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(out, about)
		flags.SetOutput(out)
		flags.PrintDefaults()
		return 0
	case err == nil && flags.NArg() > 0:
		err = fmt.Errorf("%q is one argument too many", flags.Arg(0))
	}
	var log *slog.Logger
	if err == nil {
		log, err = newLog(o, stderr)
	}
	if err != nil {
		fmt.Fprintf(stderr, "sallyport-breakglass: %v; see: sallyport-breakglass --help\n", err)
		return exitUsage
	}
	if o.version {
		fmt.Fprintln(out, "sallyport-breakglass "+version.String())
		return 0
	}
	if err := serve(o, log); err != nil {
		fmt.Fprintf(stderr, "sallyport-breakglass: %v\n", err)
		return exitFailed
	}
	return 0
}

func newLog(o options, stderr io.Writer) (*slog.Logger, error) {
	format, err := eventlog.Parse(o.format)
	if err != nil {
		return nil, err
	}
	level := slog.LevelInfo
	if o.debug {
		level = slog.LevelDebug
	}
	return eventlog.New("sallyport-breakglass", format, level, stderr), nil
}

func serve(o options, log *slog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	accounts := server.LocalAccounts()
	authd, ok := accounts.UID(o.authd)
	if !ok {
		authd = -1
	}
	l, err := socket(&o, accounts)
	if err != nil {
		return err
	}
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "this host"
	}
	s := &server.Server{
		Store: breakglass.Open(o.store), PolicyPath: o.policy, Accounts: accounts, Hostname: hostname, AuthdUID: authd,
		Idle: o.idle, Now: time.Now, Sleep: sleep, Log: log,
	}
	log.Debug("serving", slog.String("event", "start"), slog.String("version", version.String()), slog.String("authd_uid", strconv.FormatInt(authd, 10)))
	return s.Serve(ctx, l)
}

// socket is systemd's, else one of its own.
func socket(o *options, accounts *server.Accounts) (*net.UnixListener, error) {
	l, err := server.Passed()
	if l != nil || err != nil {
		return l, err
	}
	if !strings.HasPrefix(o.listen, "/") {
		return nil, errors.New("systemd has passed no socket; --listen PATH makes one")
	}
	o.idle = 0 // nobody would start it again
	gid, ok := accounts.GID(o.authd)
	if !ok {
		gid = -1
	}
	return server.Listen(o.listen, gid)
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
