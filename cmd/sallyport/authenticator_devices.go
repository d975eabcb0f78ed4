// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

func (d *device) devicesCommand() *cobra.Command {
	var which string
	c := &cobra.Command{
		Use: "devices", Short: "Your authenticators at the verifier, this one among them",
		Long: `Your authenticators at the verifier, this one among them: phones with the web app,
and terminals. Each can rename and remove the others.`,
	}
	c.PersistentFlags().StringVar(&which, "account", "", "only those of this account here: its id, user name or verifier")
	completeFrom(c, "account", d.accountNames)
	c.AddCommand(d.devicesList(&which), d.devicesRename(&which), d.devicesRemove(&which))
	return c
}

// owned is an authenticator of a person, seen by an account here.
type owned struct {
	Account string `json:"account"` // id of the account here
	agentapi.Device

	account authenticator.Account
	client  *agentapi.Client
}

// chosen are the accounts that a selector means: all, if it is empty.
func (d *device) chosen(which string) ([]authenticator.Account, error) {
	accounts, err := d.accounts()
	if err != nil || which == "" {
		return accounts, err
	}
	var out []authenticator.Account
	for _, a := range accounts {
		host := strings.TrimPrefix(a.URL, "https://")
		if which == a.AuthenticatorID || strings.EqualFold(which, a.Username) || strings.EqualFold(which, host) || which == a.URL {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, cli.WithHint(fmt.Errorf("no account here is %q", which), "sallyport authenticator list shows the accounts")
	}
	return out, nil
}

// accountNames are what the shell completes --account to.
func (d *device) accountNames() []string {
	names, _ := d.accountIDs(nil, nil, "")
	return names
}

// owned asks the chosen accounts for the person's authenticators.
func (d *device) owned(ctx context.Context, which string) ([]owned, error) {
	accounts, err := d.chosen(which)
	if err != nil {
		return nil, err
	}
	out := []owned{}
	for _, a := range accounts {
		client, err := d.clientOf(a)
		if err != nil {
			return nil, err
		}
		devices, err := client.Devices(ctx)
		if err != nil {
			return nil, explainDevices("ask "+a.URL+" for the authenticators of "+a.Username, err)
		}
		for _, v := range devices {
			out = append(out, owned{Account: a.AuthenticatorID, Device: v, account: a, client: client})
		}
	}
	return out, nil
}

func explainDevices(what string, err error) error {
	if isMissing(err) {
		return cli.WithHint(fmt.Errorf("%s: %w", what, err), "it is of an earlier release: ask its administrator")
	}
	return explainAnswer(what, err)
}

// theOne finds the authenticator that is meant, by its id or name.
func (d *device) theOne(ctx context.Context, which, meant string) (owned, error) {
	all, err := d.owned(ctx, which)
	if err != nil {
		return owned{}, err
	}
	var found []owned
	for _, o := range all {
		if o.AuthenticatorID != meant && !strings.EqualFold(o.Name, meant) {
			continue
		}
		// Two accounts of one person see the same; the one that it is itself counts.
		i := slices.IndexFunc(found, func(f owned) bool { return f.AuthenticatorID == o.AuthenticatorID })
		if i < 0 {
			found = append(found, o)
		} else if o.This {
			found[i] = o
		}
	}
	if i := slices.IndexFunc(found, func(f owned) bool { return f.AuthenticatorID == meant }); i >= 0 {
		found = found[i : i+1] // whatever else has that name
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return owned{}, cli.WithHint(fmt.Errorf("you have no authenticator %q", meant), "sallyport authenticator devices list shows them")
	}
	return owned{}, cli.WithHint(fmt.Errorf("%d authenticators are named %q", len(found), meant), "name one by its id")
}

// deviceIDs completes the first argument to the id of an authenticator of the person.
func (d *device) deviceIDs(which *string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || d.needsPassphrase() {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
		defer cancel()
		all, err := d.owned(ctx, *which)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var out []string
		for _, o := range all {
			out = appendCompletion(out, o.AuthenticatorID, o.Name)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

func (o owned) notes() string {
	var out []string
	for _, n := range []struct {
		on   bool
		text string
	}{{o.This, "this one"}, {o.UserVerification, "confirms by fingerprint or face"}, {o.WebPush, "notified"}} {
		if n.on {
			out = append(out, n.text)
		}
	}
	return strings.Join(out, ", ")
}

func (d *device) devicesList(which *string) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List your authenticators", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			all, err := d.owned(c.Context(), *which)
			if err != nil {
				return err
			}
			if d.json {
				return d.JSON(all)
			}
			var rows [][]string
			for _, o := range all {
				rows = append(rows, []string{o.AuthenticatorID, o.Name, o.Platform, unix(o.Activated), unix(o.LastSeen), o.account.Username, o.notes()})
			}
			return d.Table([]string{"AUTHENTICATOR", "NAME", "PLATFORM", "ACTIVATED", "LAST SEEN", "USER", "NOTES"}, rows)
		},
	}
}

func (d *device) devicesRename(which *string) *cobra.Command {
	return &cobra.Command{
		Use: "rename AUTHENTICATOR NAME", Short: "Give one of your authenticators another name", Args: args("AUTHENTICATOR", "NAME"),
		ValidArgsFunction: d.deviceIDs(which),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := d.theOne(c.Context(), *which, args[0])
			if err != nil {
				return err
			}
			got, err := o.client.RenameDevice(c.Context(), o.AuthenticatorID, args[1])
			if err != nil {
				return explainDevices("rename "+o.AuthenticatorID, err)
			}
			if o.This {
				if err := d.keepName(o.account, got.Name); err != nil {
					return err
				}
			}
			if d.json {
				return d.JSON(got)
			}
			d.Printf("%s is called %s now\n", o.AuthenticatorID, got.Name)
			return nil
		},
	}
}

// keepName renames the account here.
func (d *device) keepName(a authenticator.Account, name string) error {
	store, err := d.store()
	if err != nil {
		return err
	}
	return store.Rename(a.AuthenticatorID, name)
}

func (d *device) devicesRemove(which *string) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: "rm AUTHENTICATOR", Short: "Remove one of your authenticators from the verifier, such as a lost one", Args: args("AUTHENTICATOR"),
		ValidArgsFunction: d.deviceIDs(which),
		Long: `Remove one of your authenticators from the verifier, such as a lost one: its key is
dead at once, its offline codes as soon as each host hears of it, and login requests
that wait for it end. Asks before it does so, unless --yes. If it is this one, its key
is deleted here as well.`,
		RunE: func(c *cobra.Command, args []string) error {
			o, err := d.theOne(c.Context(), *which, args[0])
			if err != nil {
				return err
			}
			if err := d.sure(yes, removal(o)); err != nil {
				return err
			}
			got, err := o.client.RemoveDevice(c.Context(), o.AuthenticatorID, agentapi.Verification{})
			if err != nil {
				return explainDevices("remove "+o.AuthenticatorID, err)
			}
			if o.This {
				store, err := d.store()
				if err != nil {
					return err
				}
				if err := store.Remove(o.AuthenticatorID); err != nil {
					return err
				}
			}
			if d.json {
				return d.JSON(got)
			}
			d.Printf("%s is removed\n", o.AuthenticatorID)
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func removal(o owned) string {
	what := "Remove " + o.AuthenticatorID
	if o.Name != "" {
		what += " (" + o.Name + ")"
	}
	if o.This {
		return what + ", which is this one? It can answer for " + o.account.Username + " no more"
	}
	return what + " of " + o.account.Username + "?"
}

// sure asks whether to go on, unless that is given.
func (d *device) sure(yes bool, question string) error {
	if yes {
		return nil
	}
	if !d.Interactive || d.json {
		return cli.WithHint(errors.New("this cannot be taken back"), "add --yes")
	}
	d.Printf("%s [y/N]: ", question)
	line, err := bufio.NewReader(d.In).ReadString('\n')
	if err != nil {
		return fmt.Errorf("read an answer: %w", err)
	}
	if a := strings.ToLower(strings.TrimSpace(line)); a != "y" && a != "yes" {
		return errors.New("not confirmed: nothing was changed")
	}
	return nil
}
