// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/cmd/sallyport/sshconfig"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/tomlfile"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

func (a *app) sshConfigCommand() *cobra.Command {
	var gateway, user, hostCA string
	var files []string
	var knownHosts bool
	c := &cobra.Command{
		Use: "ssh-config", Short: "Print what an SSH client needs to go through the gateway", Args: args(),
		Long: `Print what an SSH client needs to go through the gateway, for ~/.ssh/config: the
gateway, one shared connection to it, and the servers behind it. With --known-hosts it
prints the lines for ~/.ssh/known_hosts by which the client believes the gateway inside a
jump; they need --host-ca, the file host_ca.pub of the gateway's keys.

The servers are those of the files in --inventory. On the gateway's own machine they are
those of sshgw.toml, and the gateway is the one of that file's name.`,
		RunE: func(c *cobra.Command, _ []string) error {
			here, away, err := gatewayHere(config.DefaultPath, len(files) == 0 || gateway == "" && !knownHosts)
			if err != nil {
				return err
			}
			if gateway == "" && here != nil {
				gateway = here.Address()
			}
			if gateway == "" && !knownHosts {
				return cli.Usagef("--gateway is missing: HOST or HOST:PORT")
			}
			inventories, err := readInventories(files, here)
			if err != nil {
				return err
			}
			if away != nil && len(files) == 0 && !knownHosts {
				a.Notef("no server is named, for the targets of a gateway cannot be seen here: %s; name a file of them by --inventory\n", away.Error())
			}
			var text string
			if knownHosts {
				text, err = knownHostsOf(hostCA, inventories)
			} else {
				text, err = clientConfig(gateway, user, inventories)
			}
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(a.Out, text)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&gateway, "gateway", "", "where the gateway is, HOST or HOST:PORT (default: on its own machine, what sshgw.toml says)")
	f.StringVar(&user, "user", "", "user at the gateway (default: ssh's own choice)")
	f.StringSliceVar(&files, "inventory", nil, "file of targets; may repeat")
	f.StringVar(&hostCA, "host-ca", "", "file with the public key of the gateway's host CA")
	f.BoolVar(&knownHosts, "known-hosts", false, "print lines for known_hosts")
	return c
}

func clientConfig(gateway, user string, inventories []*inventory.Inventory) (string, error) {
	g, err := sshconfig.ParseGateway(gateway)
	if err != nil {
		return "", cli.Usagef("--gateway: %v", err)
	}
	if g.User = user; user != "" {
		if err := sshconfig.CheckUser(user); err != nil {
			return "", cli.Usagef("--user: %v", err)
		}
	}
	return sshconfig.Config(g, inventories)
}

func knownHostsOf(file string, inventories []*inventory.Inventory) (string, error) {
	if file == "" {
		return "", cli.Usagef("--known-hosts needs --host-ca, the file host_ca.pub of the gateway's keys")
	}
	if !slices.ContainsFunc(inventories, func(i *inventory.Inventory) bool { return len(i.All())+len(i.Samples()) > 0 }) {
		return "", cli.Usagef("--known-hosts needs targets, for the gateway's host CA is to be believed for them alone, and none is known: name a file of them by --inventory")
	}
	authority, err := tomlfile.Read(file)
	if err != nil {
		return "", fmt.Errorf("--host-ca: %w", err)
	}
	return sshconfig.KnownHosts(authority, inventories)
}

// gatewayHere is the gateway of this machine if it is asked for. Where there is none, or it
// may not be read, away says so.
func gatewayHere(path string, wanted bool) (c *config.Config, away, err error) {
	if !wanted {
		return nil, nil, nil
	}
	c, err = config.LoadWithoutTrust(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, err, nil
	}
	return c, nil, err
}

// readInventories reads files of targets, or takes those of the gateway on this machine.
func readInventories(files []string, here *config.Config) ([]*inventory.Inventory, error) {
	if len(files) == 0 {
		if here == nil {
			return nil, nil
		}
		return []*inventory.Inventory{here.Inventory()}, nil
	}
	for _, f := range files {
		if _, err := os.Stat(f); err != nil {
			return nil, fmt.Errorf("--inventory: %w", err)
		}
	}
	book, err := inventory.Open(files, func(string) error { return nil }, nil)
	if err != nil {
		return nil, err
	}
	return []*inventory.Inventory{book.Inventory()}, nil
}
