// SPDX-License-Identifier: Apache-2.0

// Command sallyport-sshgw-pam asks PAM about one person on behalf of the SSH gateway,
// says yes or no over its standard input, which is a socket, and ends. systemd starts
// one for each question, so that what a PAM module does to its process it does to
// nothing else. It opens no session, changes no password and decides nothing itself.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/eventlog"
	"github.com/sallyport-mfa/sallyport/internal/version"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

// lifetime bounds one authentication, a person's typing included.
const lifetime = 5 * time.Minute

const about = `sallyport-sshgw-pam asks PAM (service sallyport-sshgw) about one person, for the
SSH gateway. systemd starts it for each connection to /run/sallyport/sshgw-pam.sock.

Usage: sallyport-sshgw-pam [flags]
`

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

func run(args []string, in *os.File, out, stderr io.Writer) int {
	var format, account string
	var debug, showVersion bool
	flags := flag.NewFlagSet("sallyport-sshgw-pam", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&account, "gateway-user", "sallyport-sshgw", "`account` of the gateway, the only one that may ask")
	flags.StringVar(&format, "log", "auto", "log as `format`: auto (the journal under systemd, else text), text, json, journal")
	flags.BoolVar(&debug, "debug", false, "log each step")
	flags.BoolVar(&showVersion, "version", false, "print the version")
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
	var logFormat eventlog.Format
	if err == nil {
		logFormat, err = eventlog.Parse(format)
	}
	if err != nil {
		fmt.Fprintf(stderr, "sallyport-sshgw-pam: %v; see: sallyport-sshgw-pam --help\n", err)
		return exitUsage
	}
	if showVersion {
		fmt.Fprintln(out, "sallyport-sshgw-pam "+version.String())
		return 0
	}
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	log := eventlog.New("sallyport-sshgw-pam", logFormat, level, stderr)
	if err := answer(account, in, log); err != nil {
		log.Error("no answer", slog.Any("error", err))
		return exitFailed
	}
	return 0
}

// answer drops what the process does not need, and serves the one connection.
func answer(account string, in *os.File, log *slog.Logger) error {
	uid, err := uidOf(account)
	if err != nil {
		return err
	}
	if err := confine(); err != nil {
		return err
	}
	c, err := net.FileConn(in)
	if err != nil {
		return fmt.Errorf("standard input is no socket; systemd passes one: %w", err)
	}
	defer func() { _ = c.Close() }()
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return errors.New("standard input is no Unix socket")
	}
	h := &helper{conn: conn, asker: uid, until: time.Now().Add(lifetime), log: log}
	return h.serve()
}
