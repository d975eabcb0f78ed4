// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh/knownhosts"

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

// oneKind wants one kind of keys.
func oneKind(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cli.Usagef("%s needs one of %s", c.Name(), strings.Join(c.ValidArgs, ", "))
	}
	if len(args) > 1 {
		return cli.Usagef("%q is one argument too many", args[1])
	}
	return cobra.OnlyValidArgs(c, args)
}

func keysFolder(path string) (keys.Folder, error) {
	c, err := config.LoadWithoutTrust(path)
	if err != nil {
		return keys.Folder{}, err
	}
	return keys.In(c.Keys.Dir), nil
}

// beforeTheFirst says who makes keys where there are none yet.
func beforeTheFirst(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return cli.WithHint(err, "start the gateway once: it makes them")
	}
	return err
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
			if err = beforeTheFirst(err); err != nil {
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
		Args:      oneKind,
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
					return failed(beforeTheFirst(err))
				}
				t.Printf("The retired key is gone. Now: %s\n", reloadHint)
				return nil
			}
			done, err := f.Rotate(kind, grace)
			if err != nil {
				return failed(beforeTheFirst(err))
			}
			for _, line := range rotated(kind, done, grace) {
				t.Printf("%s\n", line)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&finish, "finish", false, "remove the retired key: the last step")
	c.Flags().DurationVar(&grace, "grace", 7*24*time.Hour, "how `long` the coming key is published before it takes over")
	return c
}

// rotated says what was done and what is to be done before the next step.
func rotated(kind keys.Kind, done keys.Stage, grace time.Duration) []string {
	again := fmt.Sprintf("sallyport-sshgw keys rotate %s", kind)
	if done == keys.Current {
		return []string{"The new key has taken over, and the old one is still believed. Now: " + reloadHint, "When all is well: " + again + " --finish"}
	}
	first := map[keys.Kind]string{
		keys.Host:   "Clients with UpdateHostKeys learn it when they connect.",
		keys.UserCA: "Give it to every target: sallyport-sshgw keys public user-ca prints what belongs into TrustedUserCAKeys.",
		keys.HostCA: "Give it to every client: " + knownHostsHint + " prints what belongs into known_hosts.",
	}[kind]
	return []string{"The coming key is made. Now: " + reloadHint, first, "Not before " + span(grace) + " from now: " + again}
}

// knownHostsHint is the command that names the targets alone.
const knownHostsHint = "sallyport ssh-config --known-hosts --host-ca KEYS_DIR/host_ca.pub"

// span is a duration as people say it, where it is whole days.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d <= 0 || d%day != 0:
		return d.String()
	case d == day:
		return "1 day"
	}
	return fmt.Sprintf("%d days", d/day)
}

func keysPublic(path *string) *cobra.Command {
	var hosts string
	c := &cobra.Command{
		Use:   "public user-ca|host-ca|host",
		Short: "Print what makes others believe the keys",
		Long: `Of user-ca: the lines of a target's TrustedUserCAKeys (sshd_config). Of host-ca and
host: the lines of a client's known_hosts, for the hosts of --hosts. Of host-ca they say
that the gateway may speak for those hosts, so they are to be the targets and no others:
"sallyport ssh-config --known-hosts" prints them for the targets that there are.`,
		Args:      oneKind,
		ValidArgs: []string{"host", "user-ca", "host-ca"},
		RunE: func(_ *cobra.Command, args []string) error {
			kind := keys.Kind(args[0])
			if kind == keys.HostCA && hosts == "" {
				return cli.WithHint(cli.Usagef("--hosts is missing: the targets for which clients are to believe the gateway, as in known_hosts"),
					knownHostsHint+" prints the lines for all targets")
			}
			c, err := config.LoadWithoutTrust(*path)
			if err != nil {
				return failed(err)
			}
			if hosts == "" {
				hosts = knownhosts.Normalize(c.Address())
			}
			text, err := keys.In(c.Keys.Dir).Public(kind, hosts)
			err = beforeTheFirst(err)
			if err != nil {
				return failed(err)
			}
			_, err = fmt.Fprint(cli.Stdio().Out, text)
			return failed(err)
		},
	}
	c.Flags().StringVar(&hosts, "hosts", "", "`names` of hosts as in known_hosts (needed for host-ca; default for host: the gateway)")
	return c
}
