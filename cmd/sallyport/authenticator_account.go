// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/invite"
)

// account is what is shown of an account.
type account struct {
	AuthenticatorID string `json:"authenticator_id"`
	Username        string `json:"username"`
	Name            string `json:"name"`
	URL             string `json:"url"`
	Created         int64  `json:"created"`
}

func shown(a authenticator.Account) account {
	return account{AuthenticatorID: a.AuthenticatorID, Username: a.Username, Name: a.Name, URL: a.URL, Created: a.Created}
}

// accounts reads the accounts; none at all is an error.
func (d *device) accounts() ([]authenticator.Account, error) {
	store, err := d.store()
	if err != nil {
		return nil, err
	}
	accounts, err := store.List()
	if err != nil {
		return nil, err
	}
	if len(accounts) == 0 {
		return nil, cli.WithHint(errors.New("no account is activated here"), "run: sallyport authenticator activate LINK")
	}
	return accounts, nil
}

// clientOf makes the client of an account.
func (d *device) clientOf(a authenticator.Account) (*agentapi.Client, error) {
	base, err := parseBase(a.URL)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", a.AuthenticatorID, err)
	}
	vault, err := d.openVault()
	if err != nil {
		return nil, err
	}
	secrets, err := a.Secrets(vault)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CAPEM != "" {
		if config.RootCAs, err = invite.ParseCA([]byte(a.CAPEM)); err != nil {
			return nil, fmt.Errorf("account %s: CA of the verifier: %w", a.AuthenticatorID, err)
		}
	}
	// Longer than the longest wait that a call may ask for.
	client := agentapi.HTTPClient(config, agentapi.MaxWait+15*time.Second)
	return &agentapi.Client{BaseURL: base, Key: secrets.Key, KeyID: a.AuthenticatorID, HTTP: client, Now: d.Now}, nil
}

func (d *device) list() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the accounts here and the login requests that are open", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			accounts, requests, err := d.allPending(c.Context())
			if accounts == nil {
				return err
			}
			if d.json {
				out := struct {
					Accounts []account `json:"accounts"`
					Requests []request `json:"requests"`
				}{Requests: requests}
				for _, a := range accounts {
					out.Accounts = append(out.Accounts, shown(a))
				}
				return firstError(d.JSON(out), err)
			}
			var rows [][]string
			for _, a := range accounts {
				rows = append(rows, []string{a.AuthenticatorID, a.Username, a.Name, a.URL, unix(a.Created)})
			}
			if err := d.Table([]string{"ACCOUNT", "USER", "NAME", "VERIFIER", "ACTIVATED"}, rows); err != nil {
				return err
			}
			d.Printf("\n")
			if len(requests) == 0 && err == nil {
				d.Printf("no open login requests\n")
				return nil
			}
			rows = nil
			for _, r := range requests {
				rows = append(rows, r.row())
			}
			return firstError(d.Table(requestHead, rows), err)
		},
	}
}

func (d *device) forget() *cobra.Command {
	return &cobra.Command{
		Use: "rm ACCOUNT", Short: "Forget an account and its key, here; the verifier is not told", Args: args("ACCOUNT"),
		ValidArgsFunction: d.accountIDs,
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := d.store()
			if err != nil {
				return err
			}
			if err := store.Remove(args[0]); err != nil {
				return cli.WithHint(err, "sallyport authenticator list shows the accounts")
			}
			d.Notef("removed account %q; to shut it out at the verifier as well: sallyport admin phone rm %s\n", args[0], args[0])
			return nil
		},
	}
}

// accountIDs completes the first argument to the id of an account here.
func (d *device) accountIDs(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	const files = cobra.ShellCompDirectiveNoFileComp
	store, err := d.store()
	if err != nil || len(args) > 0 {
		return nil, files
	}
	accounts, err := store.List()
	if err != nil {
		return nil, files
	}
	var out []string
	for _, a := range accounts {
		out = appendCompletion(out, a.AuthenticatorID, a.Username+" at "+a.URL)
	}
	return out, files
}

// completable is what an id or label of a verifier must be for a shell to be offered it:
// shells put completions into the command line, and show them, as they are.
var completable = regexp.MustCompile(`^[A-Za-z0-9._][A-Za-z0-9._-]*$`)

// appendCompletion adds a completion and its description, unless it could be anything
// but a plain word.
func appendCompletion(to []string, value, description string) []string {
	if !completable.MatchString(value) {
		return to
	}
	return append(to, cobra.CompletionWithDesc(value, cli.Escape(description)))
}
