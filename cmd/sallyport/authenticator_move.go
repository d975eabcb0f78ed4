// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

func (d *device) move() *cobra.Command {
	var which string
	c := &cobra.Command{
		Use: "move [--account ACCOUNT]", Short: "Move an account to another device: a QR code and a link for it", Args: args(),
		Long: `Move an account to another device, with the verifier's web app or a terminal. Shows a
link and, on a terminal, its QR code. Who opens it becomes this authenticator, so show it
to nobody. It works once, for some minutes. The new device makes a key of its own; from
then on the one here is dead, and so are its offline codes: each host takes those of the
new device after the next login to it. TOTP tokens are not of the account: copy each by
"sallyport authenticator totp qr".`,
		RunE: func(c *cobra.Command, _ []string) error {
			accounts, err := d.chosen(which)
			if err != nil {
				return err
			}
			if len(accounts) > 1 {
				ids := make([]string, 0, len(accounts))
				for _, a := range accounts {
					ids = append(ids, a.AuthenticatorID+" ("+a.Username+" at "+a.URL+")")
				}
				return cli.WithHint(fmt.Errorf("%d accounts are meant: %s", len(ids), strings.Join(ids, ", ")), "name one by --account")
			}
			a := accounts[0]
			client, err := d.clientOf(a)
			if err != nil {
				return err
			}
			got, err := client.Move(c.Context(), agentapi.Verification{})
			if err != nil {
				return explainDevices("move "+a.AuthenticatorID, err)
			}
			if got.Link == "" {
				return errors.New("move: the verifier gave no link")
			}
			if d.json {
				return d.JSON(got)
			}
			d.qr(got.Link)
			d.Printf("%s\n\n", got.Link)
			d.Printf("Until %s: scan the QR code or open the link on the new device, or there run\n", unix(got.Expires))
			d.Printf("    sallyport authenticator activate '%s'\n", got.Link)
			d.Printf("Then forget the dead key here:\n    sallyport authenticator rm %s\n", a.AuthenticatorID)
			return nil
		},
	}
	c.Flags().StringVar(&which, "account", "", "which account, if there are several: its id, user name or verifier")
	completeFrom(c, "account", d.accountNames)
	return c
}
