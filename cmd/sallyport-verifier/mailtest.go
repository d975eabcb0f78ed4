// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/mail"
)

func mailTestCommand(term *cli.Terminal) *cobra.Command {
	var dir, file string
	cmd := &cobra.Command{
		Use: "mail-test --data DIR ADDRESS", Short: "Send a mail by the settings [mail], to try them", Args: usageArgs(cobra.ExactArgs(1)),
		Long: "Send a mail to ADDRESS by the settings [mail] of verifier.toml, and wait until the\nserver has taken it. Whether it then arrives is for you to see.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needData(dir); err != nil {
				return err
			}
			settings, err := datadir.LoadConfig(dir, file)
			if err != nil {
				return err
			}
			if !settings.Mail.On() {
				return cli.WithHint(errors.New("mail is not set up"), "set [mail] in verifier.toml; docs/reference/verifier.md lists its keys")
			}
			log := slog.New(slog.NewTextHandler(term.Err, nil))
			m, err := mail.New(settings.Mail, nil, nil, settings.Base(), time.Now, rand.Reader, log)
			if err != nil {
				return err
			}
			if err := m.Test(cmd.Context(), args[0]); err != nil {
				return fmt.Errorf("send a mail to %q: %w", args[0], err)
			}
			term.Printf("A mail to %s was taken.\n", args[0])
			return nil
		},
	}
	dataFlag(cmd, &dir)
	configFlag(cmd, &file)
	return cmd
}
