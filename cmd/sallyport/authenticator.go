// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"errors"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

// beside is the warning that a person must have read.
const beside = "Note: this key is a file. On the machine where you log in, or one that the same\n" +
	"person can take over, it is no second factor; keep it on another device.\n"

// device is the authenticator's commands.
type device struct {
	*app
	dir            string
	passphraseFile string

	vault *authenticator.Vault // once it is open
}

func (a *app) authenticatorCommand() *cobra.Command {
	d := &device{app: a}
	c := &cobra.Command{
		Use:   "authenticator",
		Short: "An authenticator in this terminal: answer login requests, show codes",
		Long: `An authenticator in this terminal: it answers login requests, shows offline codes
and TOTP codes, and does what the web app under /app/ does, but for confirmation by
fingerprint or face.

Each account has a key of its own in a file, by default under
$XDG_STATE_HOME/sallyport/authenticators. Answers are signed with it and bound to
the very request that was shown. "sallyport authenticator passphrase" encrypts the
keys and secrets by a passphrase; without one, whoever reads the files has them.

` + strings.TrimSpace(beside),
	}
	c.PersistentFlags().StringVar(&d.dir, "dir", "", "folder of the accounts (default as above)")
	c.PersistentFlags().StringVar(&d.passphraseFile, "passphrase-file", "", "file with the passphrase, if there is one (default: it is asked for)")
	a.jsonFlag(c)
	c.AddCommand(d.activate(), d.list(), d.watch(), d.approve(), d.deny(), d.hosts(), d.offline(), d.totpCommand(),
		d.devicesCommand(), d.move(), d.passphrase(), d.forget())
	return c
}

func (d *device) store() (authenticator.Store, error) {
	if d.dir != "" {
		return authenticator.Store{Dir: d.dir}, nil
	}
	dir, err := authenticator.DefaultDir(d.env)
	if err != nil {
		return authenticator.Store{}, cli.WithHint(err, "pass --dir")
	}
	return authenticator.Store{Dir: dir}, nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// maxLine bounds a line that a person types.
const maxLine = 1024

func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}
