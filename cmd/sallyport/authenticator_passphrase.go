// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

// openVault opens the vault of the store, once, and asks for its passphrase if it has one.
func (d *device) openVault() (*authenticator.Vault, error) {
	if d.vault != nil {
		return d.vault, nil
	}
	store, err := d.store()
	if err != nil {
		return nil, err
	}
	vault, err := store.Vault(func() (string, error) {
		return d.secret("Passphrase of the authenticator: ", d.passphraseFile, "give it by --passphrase-file")
	})
	if err != nil {
		return nil, err
	}
	d.vault = vault
	return vault, nil
}

// completionTimeout bounds how long the shell waits for the verifier.
const completionTimeout = 2 * time.Second

// needsPassphrase says whether the vault cannot be opened without asking.
func (d *device) needsPassphrase() bool {
	store, err := d.store()
	if err != nil {
		return true
	}
	protected, err := store.Protected()
	return err != nil || protected && d.passphraseFile == ""
}

// secret reads a secret from the first line of a file, or asks for it without echo.
func (d *device) secret(question, file, elsewhere string) (string, error) {
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read a passphrase: %w", err)
		}
		defer f.Close()
		text, err := io.ReadAll(io.LimitReader(f, maxLine))
		if err != nil {
			return "", fmt.Errorf("read a passphrase: %w", err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		return strings.TrimSuffix(line, "\r"), nil
	}
	// Standard output may be a pipe while a person sits there.
	in, ok := d.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return "", cli.WithHint(errors.New("the passphrase of the authenticator is needed, and there is no terminal to ask on"), elsewhere)
	}
	d.Notef("%s", question)
	text, err := term.ReadPassword(int(in.Fd()))
	d.Notef("\n")
	if err != nil {
		return "", fmt.Errorf("read a passphrase: %w", err)
	}
	return string(text), nil
}

func (d *device) passphrase() *cobra.Command {
	var remove bool
	var newFile string
	c := &cobra.Command{
		Use: "passphrase", Short: "Protect keys and secrets here by a passphrase, change or remove it", Args: args(),
		Long: `Protect the private keys, offline roots and TOTP secrets of this authenticator by a
passphrase, which each command then asks for. It guards against whoever copies or steals
the files; not against whoever can run programs as you, who can read it as you type.
Copies that were made before, such as backups, stay as open as they were. A passphrase
that is forgotten cannot be got back: activate again.`,
		RunE: func(*cobra.Command, []string) error {
			if remove && newFile != "" {
				return cli.Usagef("--remove and --new-file exclude each other")
			}
			store, err := d.store()
			if err != nil {
				return err
			}
			vault, err := d.openVault()
			if err != nil {
				return err
			}
			passphrase := ""
			if !remove {
				if passphrase, err = d.newPassphrase(newFile); err != nil {
					return err
				}
			}
			if err := store.SetPassphrase(vault, passphrase); err != nil {
				return err
			}
			protected, err := store.Protected()
			if err != nil {
				return err
			}
			if d.json {
				return d.JSON(struct {
					Protected bool `json:"protected"`
				}{protected})
			}
			if remove {
				d.Printf("keys and secrets here need no passphrase now: whoever reads the files has them\n")
				return nil
			}
			d.Printf("keys and secrets here need the passphrase now\n")
			return nil
		},
	}
	c.Flags().BoolVar(&remove, "remove", false, "take the passphrase away")
	c.Flags().StringVar(&newFile, "new-file", "", "file with the new passphrase (default: it is asked for)")
	return c
}

func (d *device) newPassphrase(file string) (string, error) {
	const elsewhere = "give it by --new-file"
	first, err := d.secret("New passphrase: ", file, elsewhere)
	if err != nil {
		return "", err
	}
	if first == "" {
		return "", cli.WithHint(errors.New("the new passphrase is empty"), "--remove takes the passphrase away")
	}
	if file != "" {
		return first, nil
	}
	second, err := d.secret("The same again: ", "", elsewhere)
	if err != nil {
		return "", err
	}
	if first != second {
		return "", errors.New("the two differ: nothing was changed")
	}
	return first, nil
}
