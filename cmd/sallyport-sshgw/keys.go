// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/keys"
)

const reloadHint = "systemctl reload sallyport-sshgw"

// keysCommand is `sallyport-sshgw keys`. path is read when a command runs.
func keysCommand(path *string) *cobra.Command {
	c := &cobra.Command{
		Use:   "keys",
		Short: "See and change the gateway's own keys",
		Long: `The gateway has host keys, a CA that vouches for people towards targets (user-ca),
and a CA that vouches for targets inside a jump (host-ca). They are files in keys.dir
of sshgw.toml, made when the gateway first starts.

A change of keys has three steps, so that nobody is locked out:

  sallyport-sshgw keys rotate KIND            make and publish the coming key
  sallyport-sshgw keys rotate KIND            the coming key takes over
  sallyport-sshgw keys rotate KIND --finish   the old key goes

KIND is host, user-ca or host-ca.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return cli.Usagef("keys: list, rotate or public") },
	}
	c.AddCommand(keysList(path), keysRotate(path), keysPublic(path))
	return c
}

func keysFolder(path string) (keys.Folder, error) {
	c, err := config.LoadWithoutTrust(path)
	if err != nil {
		return keys.Folder{}, err
	}
	return keys.In(c.Keys.Dir), nil
}

func keysList(path *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the keys",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			f, err := keysFolder(*path)
			if err != nil {
				return failed(err)
			}
			list, err := f.List()
			if err != nil {
				return failed(err)
			}
			t := cli.Stdio()
			if asJSON {
				return failed(t.JSON(list))
			}
			var rows [][]string
			for _, k := range list {
				rows = append(rows, []string{string(k.Kind), string(k.Stage), k.Type, k.Made.Format(time.DateOnly), k.Fingerprint, k.File})
			}
			return failed(t.Table([]string{"KIND", "STAGE", "TYPE", "MADE", "FINGERPRINT", "FILE"}, rows))
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func keysRotate(path *string) *cobra.Command {
	var finish bool
	var grace time.Duration
	c := &cobra.Command{
		Use:       "rotate host|user-ca|host-ca",
		Short:     "Do the next step of a change of keys",
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"host", "user-ca", "host-ca"},
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := keysFolder(*path)
			if err != nil {
				return failed(err)
			}
			kind := keys.Kind(args[0])
			t := cli.Stdio()
			if finish {
				if err := f.Finish(kind); err != nil {
					return failed(err)
				}
				t.Printf("The retired key is gone. Now: %s\n", reloadHint)
				return nil
			}
			done, err := f.Rotate(kind, grace)
			if err != nil {
				return failed(err)
			}
			t.Printf("%s\n", rotated(kind, done, grace))
			return nil
		},
	}
	c.Flags().BoolVar(&finish, "finish", false, "remove the retired key: the last step")
	c.Flags().DurationVar(&grace, "grace", 7*24*time.Hour, "how `long` the coming key is published before it takes over")
	return c
}

// rotated says what was done and what is to be done before the next step.
func rotated(kind keys.Kind, done keys.Stage, grace time.Duration) string {
	again := fmt.Sprintf("sallyport-sshgw keys rotate %s", kind)
	if done == keys.Current {
		return fmt.Sprintf("The new key has taken over, and the old one is still believed. Now: %s\nWhen all is well: %s --finish", reloadHint, again)
	}
	first := map[keys.Kind]string{
		keys.Host:   "Clients with UpdateHostKeys learn it when they connect.",
		keys.UserCA: "Give it to every target: sallyport-sshgw keys public user-ca prints what belongs into TrustedUserCAKeys.",
		keys.HostCA: "Give it to every client: sallyport-sshgw keys public host-ca prints what belongs into known_hosts.",
	}[kind]
	return fmt.Sprintf("The coming key is made. Now: %s\n%s\nNot before %v from now: %s", reloadHint, first, grace, again)
}

func keysPublic(path *string) *cobra.Command {
	var hosts string
	c := &cobra.Command{
		Use:   "public user-ca|host-ca|host",
		Short: "Print what makes others believe the keys",
		Long: `Of user-ca: the lines of a target's TrustedUserCAKeys (sshd_config). Of host-ca and
host: the lines of a client's known_hosts, for the hosts of --hosts.`,
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{"host", "user-ca", "host-ca"},
		RunE: func(_ *cobra.Command, args []string) error {
			f, err := keysFolder(*path)
			if err != nil {
				return failed(err)
			}
			pattern := hosts
			if pattern == "" {
				if pattern, err = hostsOf(keys.Kind(args[0])); err != nil {
					return failed(err)
				}
			}
			text, err := f.Public(keys.Kind(args[0]), pattern)
			if err != nil {
				return failed(err)
			}
			_, err = fmt.Fprint(cli.Stdio().Out, text)
			return failed(err)
		},
	}
	c.Flags().StringVar(&hosts, "hosts", "", "`names` of hosts as in known_hosts (default: every target for host-ca, this machine for host)")
	return c
}

func hostsOf(kind keys.Kind) (string, error) {
	if kind != keys.Host {
		return "*", nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", cli.WithHint(fmt.Errorf("look up this machine's name: %w", err), "name the gateway with --hosts")
	}
	return name, nil
}
