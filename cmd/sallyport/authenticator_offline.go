// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

// fetchTimeout bounds how long a code waits for a verifier that may be away.
const fetchTimeout = 3 * time.Second

// fetchHosts asks the verifier for the hosts of an account and keeps the answer.
func (d *device) fetchHosts(ctx context.Context, a authenticator.Account) (authenticator.OfflineHosts, error) {
	store, err := d.store()
	if err != nil {
		return authenticator.OfflineHosts{}, err
	}
	client, err := d.clientOf(a)
	if err != nil {
		return authenticator.OfflineHosts{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	hosts, err := client.OfflineHosts(ctx)
	if err != nil {
		return authenticator.OfflineHosts{}, explainAnswer("ask "+a.URL+" for the hosts of "+a.Username, err)
	}
	return store.KeepHosts(a.AuthenticatorID, hosts, d.Now())
}

// offlineHost is a host that takes offline codes, and the account that makes them.
type offlineHost struct {
	AuthenticatorID string `json:"authenticator_id"`
	Label           string `json:"label"`
	HostID          string `json:"host_id"`
	Name            string `json:"name"`
	Username        string `json:"username"`
	Number          int64  `json:"number"`
	Until           int64  `json:"until"`

	account authenticator.Account
	host    authenticator.OfflineHost
}

func (h offlineHost) row() []string {
	return []string{h.Label, h.Name, h.Username, strconv.FormatInt(h.Number, 10), unix(h.Until), h.AuthenticatorID}
}

// offlineHosts lists the hosts of all accounts: as the verifier has them now, or
// where it does not answer, had them.
func (d *device) offlineHosts(ctx context.Context) ([]offlineHost, error) {
	accounts, err := d.accounts()
	if err != nil {
		return nil, err
	}
	store, err := d.store()
	if err != nil {
		return nil, err
	}
	out := []offlineHost{}
	for _, a := range accounts {
		hosts, away := d.fetchHosts(ctx, a)
		if away != nil {
			if hosts, err = store.ReadHosts(a.AuthenticatorID); err != nil {
				return nil, err
			}
			d.Notef("as of %s: %v\n", fetchedAt(hosts), away)
		}
		for _, h := range hosts.Hosts {
			out = append(out, offlineHost{
				AuthenticatorID: a.AuthenticatorID, Label: h.Label, HostID: h.HostID, Name: h.Name, Username: h.Username,
				Number: h.Number, Until: h.Until, account: a, host: h,
			})
		}
	}
	return out, nil
}

func fetchedAt(h authenticator.OfflineHosts) string {
	if h.Fetched == 0 {
		return "never"
	}
	return unix(h.Fetched)
}

func (d *device) hosts() *cobra.Command {
	return &cobra.Command{
		Use: "hosts", Short: "List the hosts that take offline codes of this authenticator", Args: args(),
		Long: `List the hosts that take offline codes of this authenticator, and the number of
the next code of each. A host comes into the list after a login to it that the
verifier has granted, if its fail_mode is "offline". Without a verifier the list is
the one that was fetched last.`,
		RunE: func(c *cobra.Command, _ []string) error {
			hosts, err := d.offlineHosts(c.Context())
			if err != nil {
				return err
			}
			if d.json {
				return d.JSON(hosts)
			}
			if len(hosts) == 0 {
				d.Printf("no host takes offline codes of this authenticator\n")
				return nil
			}
			var rows [][]string
			for _, h := range hosts {
				rows = append(rows, h.row())
			}
			return d.Table([]string{"LABEL", "HOST", "USER", "NEXT", "UNTIL", "ACCOUNT"}, rows)
		},
	}
}

// shownCode is what offline prints with --json.
type shownCode struct {
	offlineHost
	Code string `json:"code"`
}

func (d *device) offline() *cobra.Command {
	number := int64(-1)
	c := &cobra.Command{
		Use: "offline [HOST]", Short: "Show the next offline code for a host", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: d.hostLabels,
		Long: `Show the next offline code for a host, for a login while no verifier answers.
HOST is the label that the login shows (db1-K7QX), the host's name or its id; it can
be left out if there is one only. Each code works once, on that host alone. No
network is needed, if the host was in the list before.

If the login says that it takes other numbers, show the code of one of them by
--number.`,
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("number") && number < 0 {
				return cli.Usagef("--number is a number that the login names, from 0")
			}
			hosts, err := d.offlineHosts(c.Context())
			if err != nil {
				return err
			}
			h, err := pickHost(hosts, args)
			if err != nil {
				return err
			}
			store, err := d.store()
			if err != nil {
				return err
			}
			vault, err := d.openVault()
			if err != nil {
				return err
			}
			secrets, err := h.account.Secrets(vault)
			if err != nil {
				return err
			}
			code, err := store.NextCode(h.AuthenticatorID, secrets.OfflineRoot, h.host.OfflineHost, number)
			if errors.Is(err, authenticator.ErrNoRoot) {
				err = cli.WithHint(err, "activate it again: sallyport admin phone activate makes a link")
			}
			if err != nil {
				return err
			}
			h.Number = code.Number
			if d.json {
				return d.JSON(shownCode{h, code.Code})
			}
			d.Printf("%s %s  code %d for %s: %s\n", h.Label, h.Name, code.Number, h.Username,
				d.Styled(cli.Bold, code.Code[:4]+" "+code.Code[4:]))
			return nil
		},
	}
	c.Flags().Int64Var(&number, "number", -1, "the code of that number")
	return c
}

// pickHost finds the one host that is meant.
func pickHost(hosts []offlineHost, args []string) (offlineHost, error) {
	hint := "sallyport authenticator hosts shows them"
	var found []offlineHost
	for _, h := range hosts {
		if len(args) == 0 || strings.EqualFold(args[0], h.Label) || strings.EqualFold(args[0], h.Name) || args[0] == h.HostID {
			found = append(found, h)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && len(args) == 0:
		return offlineHost{}, cli.WithHint(errors.New("no host takes offline codes of this authenticator"),
			"log in there once while the verifier answers, then run: sallyport authenticator hosts")
	case len(found) == 0:
		return offlineHost{}, cli.WithHint(fmt.Errorf("no host %q takes offline codes of this authenticator", args[0]), hint)
	}
	labels := make([]string, 0, len(found))
	for _, h := range found {
		labels = append(labels, h.Label+" ("+h.Username+")")
	}
	return offlineHost{}, cli.WithHint(fmt.Errorf("%d hosts are meant: %s", len(found), strings.Join(labels, ", ")),
		"name one by its label; with several accounts choose one by --dir")
}

// hostLabels completes the first argument to the label of a host that was fetched before.
func (d *device) hostLabels(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
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
		hosts, err := store.ReadHosts(a.AuthenticatorID)
		if err != nil {
			continue
		}
		for _, h := range hosts.Hosts {
			out = appendCompletion(out, h.Label, h.Name+" for "+h.Username)
		}
	}
	return out, files
}
