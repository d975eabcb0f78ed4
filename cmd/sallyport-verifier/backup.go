// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/verifier/backup"
)

func backupCommand(term *cli.Terminal) *cobra.Command {
	var o backup.Options
	var recipients []string
	var recipientsFile, passphraseFile string
	var asJSON bool
	cmd := command("backup --data DIR --out FILE", "Write all of a data directory to one file, also while it serves",
		"Write database, configuration, keys and certificates to one file (mode 0600), also\n"+
			"while the verifier serves. The file is read back before it takes its name; one\n"+
			"that was there before stays until then. It opens everything: encrypt it by\n"+
			"--recipient or --passphrase-file (age), or leave the keys out.",
		func(ctx context.Context) (err error) {
			if err := needData(o.Dir); err != nil {
				return err
			}
			if o.Out == "" {
				return cli.Usagef("--out FILE is missing: where the backup goes")
			}
			if o.Recipients, err = recipientsOf(recipients, recipientsFile, passphraseFile); err != nil {
				return err
			}
			o.Now = time.Now
			m, err := backup.Make(ctx, o)
			if err != nil {
				return err
			}
			return reportBackup(term, o, m, asJSON)
		})
	cmd.Example = "  sallyport-verifier backup --data /var/lib/sallyport/verifier --out /backup/verifier.age --recipient age1…"
	dataFlag(cmd, &o.Dir)
	configFlag(cmd, &o.ConfigFile)
	cmd.Flags().StringVar(&o.Out, "out", "", "`file` to write")
	cmd.Flags().BoolVar(&o.WithoutKeys, "without-keys", false, "leave out keys, credentials and secrets; a restore then needs --keys")
	cmd.Flags().StringArrayVar(&recipients, "recipient", nil, "encrypt for this age `key` (age1…); may be given several times")
	cmd.Flags().StringVar(&recipientsFile, "recipients-file", "", "encrypt for the age keys in this `file`")
	cmd.Flags().StringVar(&passphraseFile, "passphrase-file", "", "encrypt with the passphrase in this `file`")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what is in the backup as JSON")
	return cmd
}

func recipientsOf(keys []string, file, passphraseFile string) (out []age.Recipient, err error) {
	if passphraseFile != "" {
		if len(keys) > 0 || file != "" {
			return nil, cli.Usagef("--passphrase-file does not go with --recipient and --recipients-file")
		}
		text, err := passphrase(passphraseFile)
		if err != nil {
			return nil, err
		}
		r, err := age.NewScryptRecipient(text)
		return []age.Recipient{r}, err
	}
	if len(keys) > 0 {
		if out, err = age.ParseRecipients(strings.NewReader(strings.Join(keys, "\n"))); err != nil {
			return nil, cli.Usagef("--recipient: %v", err)
		}
	}
	if file == "" {
		return out, nil
	}
	in, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--recipients-file: %w", err)
	}
	defer in.Close()
	more, err := age.ParseRecipients(in)
	if err != nil {
		return nil, fmt.Errorf("--recipients-file: %w", err)
	}
	return append(out, more...), nil
}

func passphrase(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--passphrase-file: %w", err)
	}
	text := strings.TrimRight(string(b), "\r\n")
	if text == "" {
		return "", fmt.Errorf("--passphrase-file: %s is empty", file)
	}
	return text, nil
}

func reportBackup(term *cli.Terminal, o backup.Options, m backup.Manifest, asJSON bool) error {
	if asJSON {
		return term.JSON(map[string]any{"out": o.Out, "encrypted": len(o.Recipients) > 0, "backup": m})
	}
	term.Printf("Backed up %s to %s: %d files, read back.\n", o.Dir, o.Out, len(m.Files))
	if m.Keys && len(o.Recipients) == 0 {
		term.Printf("It is not encrypted and opens everything: keep it from others.\n")
	}
	if !m.Keys {
		term.Printf("It holds no keys: keep keys.json and ca.key apart from it, and anew after each rotate-keys.\n")
	}
	for _, path := range m.Outside {
		term.Printf("Not in it, since it is not in the data directory: %s\n", path)
	}
	return nil
}

func restoreCommand(term *cli.Terminal) *cobra.Command {
	o := backup.RestoreOptions{Now: time.Now}
	var identityFile, passphraseFile string
	var asJSON bool
	cmd := command("restore --data DIR --in FILE", "Make a data directory of a backup",
		"Make a data directory of a backup. The directory must be empty, or not be there.\n"+
			"What may have been used since the backup is made void: codes, remembered logins,\n"+
			"logins under way. What administrators did since is lost: do it again.",
		func(ctx context.Context) (err error) {
			if err := needData(o.Dir); err != nil {
				return err
			}
			if o.In == "" {
				return cli.Usagef("--in FILE is missing: the backup")
			}
			if o.Identities, err = identitiesOf(identityFile, passphraseFile); err != nil {
				return err
			}
			r, err := backup.Restore(ctx, o)
			if err != nil {
				return err
			}
			return reportRestore(term, o, r, asJSON)
		})
	cmd.Example = "  sallyport-verifier restore --data /var/lib/sallyport/verifier --in verifier.age --identity key.txt"
	dataFlag(cmd, &o.Dir)
	cmd.Flags().StringVar(&o.In, "in", "", "`file` that backup wrote")
	cmd.Flags().StringVar(&identityFile, "identity", "", "`file` with the age key that opens it")
	cmd.Flags().StringVar(&passphraseFile, "passphrase-file", "", "`file` with the passphrase that opens it")
	cmd.Flags().StringVar(&o.KeysDir, "keys", "", "`directory` with keys.json and ca.key, for a backup made without keys")
	cmd.Flags().Int64Var(&o.HOTPAdvance, "hotp-advance", -1, "how far the counters of HOTP tokens move; -1: 10 for each begun day since the backup")
	cmd.Flags().BoolVar(&o.KeepBypass, "keep-bypass-codes", false, "keep bypass codes whose uses are counted, though they may have been used since; recovery codes are void all the same")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print what was done as JSON")
	return cmd
}

func identitiesOf(file, passphraseFile string) ([]age.Identity, error) {
	switch {
	case file != "" && passphraseFile != "":
		return nil, cli.Usagef("--identity and --passphrase-file do not go together")
	case passphraseFile != "":
		text, err := passphrase(passphraseFile)
		if err != nil {
			return nil, err
		}
		i, err := age.NewScryptIdentity(text)
		return []age.Identity{i}, err
	case file == "":
		return nil, nil
	}
	in, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("--identity: %w", err)
	}
	out, err := age.ParseIdentities(in)
	if err := errors.Join(err, in.Close()); err != nil {
		return nil, fmt.Errorf("--identity: %w", err)
	}
	return out, nil
}

func reportRestore(term *cli.Terminal, o backup.RestoreOptions, r backup.Restored, asJSON bool) error {
	if asJSON {
		return term.JSON(r)
	}
	term.Printf("Restored %s as of %s.\n", o.Dir, r.Manifest.Created.Format(time.RFC3339))
	term.Printf("Void: %d bypass codes, %d SMS codes, %d activation links, %d enrolment links, %d join tokens, %d remembered logins, %d logins under way.\n",
		r.Void.Bypass, r.Void.SMS, r.Void.Activations, r.Void.EnrollLinks, r.Void.JoinTokens, r.Void.Sessions, r.Void.Transactions)
	term.Printf("%d TOTP tokens take no code of before now. %d HOTP tokens moved on by %d codes, %d YubiKeys by one insertion.\n",
		r.Void.TOTP, r.Void.HOTP, r.HOTP, r.Void.YubiKeys)
	for _, path := range r.Missing {
		term.Printf("Missing, and not in the backup: %s\n", path)
	}
	term.Printf("What administrators did since then is undone: look at what the log streams have kept, and do it again.\n")
	return nil
}
