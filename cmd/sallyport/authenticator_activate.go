// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/url"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/internal/version"
)

func (d *device) activate() *cobra.Command {
	var name, address string
	c := &cobra.Command{
		Use: "activate LINK", Short: "Become an authenticator by a one-time link (quote it: it has a #)", Args: args("LINK"),
		Long: `Become an authenticator by a one-time link, as "sallyport admin phone activate"
and enrolment make it. Quote the link: it has a #. An activation code (sa1.…) does
as well, with the verifier's address in --url.`,
		RunE: func(c *cobra.Command, args []string) error {
			made, err := d.activateBy(c.Context(), args[0], address, name)
			if err != nil {
				return err
			}
			fmt.Fprint(d.Err, beside)
			if client, err := d.clientOf(made); err == nil {
				_ = d.announce(c.Context(), client) // watch does it again
			}
			if d.json {
				return d.JSON(shown(made))
			}
			d.Printf("authenticator %s answers for %s at %s\n", made.AuthenticatorID, made.Username, made.URL)
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "what to call this authenticator (default: the phone's name)")
	c.Flags().StringVar(&address, "url", "", "address of the verifier, if LINK is an activation code")
	return c
}

func (d *device) activateBy(ctx context.Context, link, address, name string) (authenticator.Account, error) {
	var made authenticator.Account
	base, code, err := parseActivation(link, address)
	if err != nil {
		return made, &cli.UsageError{Err: cli.WithHint(err, "copy the link whole, in quotes")}
	}
	store, err := d.store()
	if err != nil {
		return made, err
	}
	if err := store.Prepare(); err != nil {
		return made, err
	}
	vault, err := d.openVault()
	if err != nil {
		return made, err
	}
	key, err := keyproof.GenerateKey()
	if err != nil {
		return made, fmt.Errorf("make the authenticator's key: %w", err)
	}
	id, err := keyproof.ID(agentapi.ActivationPrefix, &key.PublicKey)
	if err != nil {
		return made, fmt.Errorf("make the authenticator's key: %w", err)
	}
	config, ca := pinned(code, base.Hostname())
	client := &agentapi.Client{BaseURL: base, Key: key, KeyID: id, HTTP: agentapi.HTTPClient(config, 30*time.Second), Now: d.Now}
	got, err := client.Activate(ctx, code.String(), name, runtime.GOOS)
	if err != nil {
		return made, explainInvite("activate", err)
	}
	made, err = store.Add(authenticator.Account{
		AuthenticatorID: got.AuthenticatorID, URL: base.String(), UserID: got.UserID, Username: got.Username,
		Name: got.Name, CAPEM: string(ca()), Created: d.Now().Unix(),
	}, authenticator.Secrets{Key: key, OfflineRoot: got.OfflineRoot}, vault)
	if err != nil {
		return made, cli.WithHint(err, "the link is spent: ask for another one")
	}
	return made, nil
}

// announce tells the verifier what this authenticator can do. One of an earlier
// release does not want to know.
func (d *device) announce(ctx context.Context, client *agentapi.Client) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	program := "sallyport/" + version.String()
	_, err := client.Announce(ctx, agentapi.Announcement{
		Capabilities: []string{agentapi.CapabilityDigits, agentapi.CapabilityStream, agentapi.CapabilityDevices},
		Program:      program[:min(len(program), agentapi.MaxProgramBytes)],
		Platform:     runtime.GOOS,
	})
	return err
}

func parseActivation(link, address string) (base *url.URL, code invite.Token, err error) {
	if address == "" {
		return invite.ParseLink(link)
	}
	if base, err = duoapi.ParseBase(address); err != nil {
		return nil, code, fmt.Errorf("--url: %w", err)
	}
	code, err = invite.Parse(invite.Activate, link)
	return base, code, err
}
