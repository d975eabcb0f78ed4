// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/pamswitch"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/pam"
)

// examination is what doctor prints with --json.
type examination struct {
	Failed   int              `json:"failed"`
	Warned   int              `json:"warned"`
	Findings []doctor.Finding `json:"findings"`
}

func (a *app) doctorCommand() *cobra.Command {
	var h doctor.Host
	var addresses []string
	c := &cobra.Command{
		Use: "doctor", Short: "Look at everything that a login on this host goes through", Args: args(),
		Long: `Look at everything that a login on this host goes through: the configuration, the
module, the PAM stacks, the sockets, the verifier, the LDAP servers, and what sshd
itself says it would ask of a login. Nothing is changed. Run it as root.

Each finding is ok, warn (works, but weaker or more fragile than it should be) or
fail (logins fail, or the second factor can be got round), with what to do about it.
The exit code is 1 if anything failed.`,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, s := range addresses {
				addr, err := netip.ParseAddr(s)
				if err != nil {
					return cli.Usagef("--address %q is no IP address", s)
				}
				h.Addresses = append(h.Addresses, addr)
			}
			for _, u := range h.Users {
				if !doctor.ValidUser(u) {
					return cli.Usagef("--user %q is no user name", u)
				}
			}
			if len(h.Users) == 0 {
				h.Users = a.ordinaryUsers()
			}
			h.Run, h.Load, h.Probe, h.HTTP, h.Now = runCommand, doctor.Load, pam.Probe, doctor.HTTP, a.Now
			return a.showFindings(append(h.Examine(c.Context()), unconfirmed(h.Root)...))
		},
	}
	c.Flags().StringVar(&h.Config, "config", config.DefaultPath, "authd.toml")
	c.Flags().StringSliceVar(&h.Users, "user", nil, "ask sshd about this user; may repeat (default root and who runs sudo)")
	c.Flags().StringSliceVar(&addresses, "address", nil, "ask sshd about a login from here; may repeat (default 192.0.2.1 and 127.0.0.1)")
	c.Flags().StringVar(&h.Root, "root", "", "look at the system below this folder")
	c.Flags().StringVar(&h.SSHD, "sshd", "/usr/sbin/sshd", "path of sshd")
	c.Flags().StringVar(&h.SSHDConfig, "sshd-config", "", "configuration of sshd (default sshd's own)")
	c.Flags().Uint32Var(&h.UID, "owner", 0, "whom module and sockets must belong to, for tests")
	for _, hidden := range []string{"owner"} {
		if err := c.Flags().MarkHidden(hidden); err != nil {
			panic(err) // the flag is defined above
		}
	}
	a.jsonFlag(c)
	return c
}

// unconfirmed finds a change of the stacks that is about to be taken back.
func unconfirmed(root string) []doctor.Finding {
	c, err := pamswitch.Store{Dir: filepath.Join(root, pamswitch.DefaultDir)}.Pending()
	if err != nil {
		return nil // none, or not for this user to see
	}
	return []doctor.Finding{{
		Area: "pam", Subject: strings.Join(c.Services, ", "), Status: doctor.Warn,
		Message: fmt.Sprintf("%s waits for its confirmation: it is taken back at %s", c.Action, c.Until().Format(time.TimeOnly)),
		Fix:     "log in once, then: sallyport pam confirm",
	}}
}

// ordinaryUsers are root and the person behind sudo.
func (a *app) ordinaryUsers() []string {
	users := []string{"root"}
	if u := a.env("SUDO_USER"); doctor.ValidUser(u) {
		users = append(users, u)
	}
	return slices.Compact(users)
}

func runCommand(ctx context.Context, name string, arg ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, name, arg...)
	// A child that holds the pipes does not make it wait for ever.
	cmd.WaitDelay = time.Second
	return cmd.CombinedOutput()
}

func (a *app) showFindings(findings []doctor.Finding) error {
	failed, warned := doctor.Count(findings, doctor.Fail), doctor.Count(findings, doctor.Warn)
	if a.json {
		if err := a.JSON(examination{failed, warned, findings}); err != nil {
			return err
		}
	} else {
		a.printFindings(findings)
		a.Printf("\n%d failed, %d warnings, %d ok\n", failed, warned, doctor.Count(findings, doctor.OK))
	}
	if failed > 0 {
		return cli.ErrReported
	}
	return nil
}

func (a *app) printFindings(findings []doctor.Finding) {
	styles := map[doctor.Status]cli.Style{doctor.OK: cli.Good, doctor.Warn: cli.Warn, doctor.Fail: cli.Bad}
	area := ""
	for _, f := range findings {
		if f.Area != area {
			area = f.Area
			a.Printf("%s\n", area)
		}
		status := a.Styled(styles[f.Status], string(f.Status)) + strings.Repeat(" ", 4-len(f.Status))
		_, _ = a.Out.Write([]byte("  " + status))
		a.Printf("  %s: %s\n", f.Subject, strings.ReplaceAll(f.Message, "\n", "; "))
		if f.Fix != "" {
			a.Printf("        %s\n", f.Fix)
		}
	}
}

// hostKeyFile is beside authd.toml: host join writes both.
func hostKeyFile(configFile string) string {
	return filepath.Join(filepath.Dir(configFile), "host_key.pem")
}
