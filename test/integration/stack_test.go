// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// The password and the factor in one PAM stack, both asked by sshd.
func TestPasswordThenFactor(t *testing.T) {
	t.Parallel()
	p := town.person(t, "stack")
	token := p.hotp(t)
	v := p.sshPassword(t, p.password)
	v.answers(token.next())
	v.comesIn()
}

// A wrong password ends the visit before the factor is asked for.
func TestWrongPasswordFirst(t *testing.T) {
	const wrong = "not the password"
	for name, knock := range map[string]func(t *testing.T, p *person) *visit{
		"sshd": func(t *testing.T, p *person) *visit { return p.sshPassword(t, wrong) },
		"sudo": func(t *testing.T, p *person) *visit { p.password = wrong; return p.sudo(t) },
		"su":   func(t *testing.T, p *person) *visit { return p.suWith(t, wrong) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := town.person(t, "badpassword")
			p.hotp(t)
			v := knock(t, p)
			v.isRefused()
			if screen := strings.ToLower(v.terminal.Screen()); strings.Contains(screen, "passcode") {
				t.Errorf("the factor was asked for after a wrong password:\n%s", screen)
			}
			if events := p.events(t); len(events) != 0 {
				t.Errorf("a wrong password reached the verifier: %+v", events)
			}
		})
	}
}

func (p *person) sshPassword(t *testing.T, password string) *visit {
	t.Helper()
	v := p.ssh(t, p.site.client, "2202", "-o", "PubkeyAuthentication=no")
	v.expect(`(?i)password: ?$`)
	v.types(password)
	return v
}

// sshd's password method answers hidden questions with the Unix password and
// fails at all others. So it comes to nothing where a factor is needed, and the
// password is never taken for a passcode.
func TestPasswordMethod(t *testing.T) {
	t.Parallel()
	p := town.person(t, "method")
	p.hotp(t)
	conn, err := town.client.Dial("host", "2204")
	must(t, err)
	defer conn.Close()
	_, _, _, err = ssh.NewClientConn(conn, "host:2204", &ssh.ClientConfig{
		User:            p.name,
		HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth:            []ssh.AuthMethod{ssh.Password(p.password)},
	})
	if err == nil {
		t.Error("the password alone let someone in")
	}
	if events := p.events(t); len(events) != 0 {
		t.Errorf("the password reached the verifier as a passcode: %+v", events)
	}
	p.lastDecision(t, decision{Reason: "unattended", Setting: "unattended"})
}

// sudo under NOPASSWD runs no PAM authentication. The account hook sees it, and
// the service says whether it may pass.
func TestSudoWithoutPassword(t *testing.T) {
	t.Parallel()
	passes, gated := town.stranger(t, "nopasswd"), town.stranger(t, "gated")
	passes.joins(t, "nopasswd")
	gated.joins(t, "nopasswd")
	gated.joins(t, "gated")
	for p, want := range map[*person]int{passes: 0, gated: 1} {
		out, err := town.host.Run(t.Context(), harness.Command{User: p.name, Args: []string{"sudo", "-n", "id", "-u"}})
		must(t, err)
		if out.Code != want {
			t.Errorf("sudo of %s ended with %d, want %d: %s", p.name, out.Code, want, out.Output())
		}
	}
}

// Where the line AuthenticationMethods is lost, sshd would take the second
// factor as the only one. Nobody comes in by it alone.
func TestLostAuthenticationMethods(t *testing.T) {
	t.Parallel()
	p := town.person(t, "lost")
	token := p.hotp(t)
	bypassed := town.person(t, "lostbypass", "--status", "bypass")

	t.Run("with ssh", func(t *testing.T) {
		p.ssh(t, town.client, "2201", "-o", "PubkeyAuthentication=no").isRefused()
		bypassed.ssh(t, town.client, "2201", "-o", "PubkeyAuthentication=no").isRefused()
	})
	t.Run("with a client that answers everything", func(t *testing.T) {
		conn, err := town.client.Dial("host", "2201")
		must(t, err)
		defer conn.Close()
		_, _, _, err = ssh.NewClientConn(conn, "host:2201", &ssh.ClientConfig{
			User:            p.name,
			HostKeyCallback: ssh.InsecureIgnoreHostKey(),
			Auth: []ssh.AuthMethod{ssh.RetryableAuthMethod(ssh.KeyboardInteractive(
				func(_, _ string, questions []string, _ []bool) ([]string, error) {
					answers := make([]string, len(questions))
					for i := range answers {
						answers[i] = token.next()
					}
					return answers, nil
				}), 3)},
		})
		if err == nil {
			t.Error("the second factor alone let someone in")
		}
	})
	// The key alone is what this sshd is satisfied with; the account and session
	// hooks are the gate behind it.
	t.Run("with the key alone", func(t *testing.T) {
		p.ssh(t, town.client, "2201", "-o", "KbdInteractiveAuthentication=no").isRefused()
		p.forwardsNothing(t, "2201", p.name)
	})
}
