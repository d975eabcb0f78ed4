// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// A batch login never asks: sshd runs no PAM authentication for a key alone. So a
// rule names user, key and source, `sallyport rules sshd-config` prints the Match
// block, and the module's account and session hooks are the gate.
func TestBatchLogin(t *testing.T) {
	p := town.stranger(t, "batch")
	address, err := town.client.IP(t.Context())
	must(t, err)
	fingerprint := p.fingerprint(t)
	before := town.authdConfig(t)
	t.Cleanup(func() {
		town.setAuthdConfig(t, before)
		town.setBatchMatch(t, "")
	})

	rule := p.batchRule(fingerprint, address)
	town.setAuthdConfig(t, before+rule)
	match, err := town.host.Must(t.Context(), "sallyport", "rules", "sshd-config")
	must(t, err)
	town.setBatchMatch(t, match)

	t.Run("scp passes", func(t *testing.T) {
		if out := p.scp(t, town.client, p.name); out.Code != 0 {
			t.Errorf("scp -B: %s\nMatch block:\n%s", out.Output(), match)
		}
		got, err := town.host.Read(t.Context(), "/home/"+p.name+"/copied")
		must(t, err)
		if got != "client\n" {
			t.Errorf("the copy holds %q", got)
		}
	})
	t.Run("a second key of the account is refused", func(t *testing.T) {
		private, public := newKey(t)
		_, err := town.host.Shell(t.Context(), fmt.Sprintf("echo '%s' >> /home/%s/.ssh/authorized_keys", public, p.name))
		must(t, err)
		second := p.name + "-second"
		must(t, town.client.Put(t.Context(), harness.File{Path: "/root/keys/" + second, Mode: 0o600, Data: []byte(private)}))
		if out := p.scp(t, town.client, second); out.Code == 0 {
			t.Error("scp -B with a key that the rule does not name passed")
		}
		p.forwardsNothing(t, "22", second)
		// sshd names the key of a login in the PAM environment, which a user can
		// write to through pam_env.
		p.forgeKey(t, p.key)
		if out := p.scp(t, town.client, second); out.Code == 0 {
			t.Error("scp -B passed with a key that only ~/.pam_environment calls the rule's")
		}
	})
	t.Run("another address is refused", func(t *testing.T) {
		if out := p.scp(t, town.elsewhere, p.name); out.Code == 0 {
			t.Error("scp -B from another address passed")
		}
	})
	t.Run("forwarding is refused", func(t *testing.T) {
		p.forwardsNothing(t, "22", p.name)
	})
	t.Run("a terminal is refused", func(t *testing.T) {
		terminal, err := town.client.Terminal(harness.Command{Args: append(p.sshArgs("22", "-tt"), "tty; "+inside)})
		must(t, err)
		_, err = terminal.Wait(t.Context())
		must(t, err)
		if screen := terminal.Screen(); strings.Contains(screen, "/dev/pts/") {
			t.Errorf("the batch login got a terminal:\n%s", screen)
		}
	})
	t.Run("without the rule it is refused", func(t *testing.T) {
		// The Match block stays behind in sshd_config: it must not be enough.
		town.setAuthdConfig(t, before)
		if out := p.scp(t, town.client, p.name); out.Code == 0 {
			t.Error("scp -B passed without a rule")
		}
	})
	t.Run("only the command of the rule runs", func(t *testing.T) {
		town.setAuthdConfig(t, before+rule+"command = \"/usr/bin/id -un\"\n")
		match, err := town.host.Must(t.Context(), "sallyport", "rules", "sshd-config")
		must(t, err)
		town.setBatchMatch(t, match)
		out, err := town.client.Run(t.Context(), harness.Command{Args: append(p.sshArgs("22", "-o", "BatchMode=yes"), inside)})
		must(t, err)
		if strings.Contains(out.Output(), isIn) || strings.TrimSpace(out.Stdout) != p.name {
			t.Errorf("asked for another command, got %q, want the rule's own (%s)", out.Output(), p.name)
		}
	})
}

// batchRule lets the person in by one key from one address.
func (p *person) batchRule(fingerprint, address string) string {
	return fmt.Sprintf(`
[[rules]]
name = "batch"
reason = "copies files at night, nobody at the terminal"
action = "bypass"
users = [%q]
services = ["sshd"]
keys = [%q]
sources = ["%s/32"]
`, p.name, fingerprint, address)
}

// forwardsNothing asserts that a login by key, which opens no session, does not
// reach through the host either: here the host's own sshd.
func (p *person) forwardsNothing(t *testing.T, port, key string) {
	t.Helper()
	args := []string{"ssh", "-p", port, "-i", "/root/keys/" + key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes",
		"-W", "localhost:22", p.name + "@" + p.site.host.Name}
	out, err := p.site.client.Run(t.Context(), harness.Command{Args: args})
	must(t, err)
	if strings.Contains(out.Stdout, "SSH-2.0") {
		t.Errorf("a connection was forwarded: %s", out.Output())
	}
}

// forgeKey puts what sshd says of a login by key into the account's ~/.pam_environment.
func (p *person) forgeKey(t *testing.T, private string) {
	t.Helper()
	signer, err := ssh.ParsePrivateKey([]byte(private))
	must(t, err)
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	path := "/home/" + p.name + "/.pam_environment"
	text := fmt.Sprintf("SSH_AUTH_INFO_0 OVERRIDE=\"publickey %s\"\n", public)
	must(t, p.site.host.Put(t.Context(), harness.File{Path: path, Mode: 0o644, Data: []byte(text)}))
	t.Cleanup(func() {
		_, err := p.site.host.Must(context.Background(), "rm", path)
		must(t, err)
	})
}

func (p *person) fingerprint(t *testing.T) string {
	t.Helper()
	signer, err := ssh.ParsePrivateKey([]byte(p.key))
	must(t, err)
	return ssh.FingerprintSHA256(signer.PublicKey())
}

func (p *person) scp(t *testing.T, from *harness.Container, key string) harness.Result {
	t.Helper()
	args := []string{"scp", "-B", "-i", "/root/keys/" + key, "-o", "IdentitiesOnly=yes", "/etc/hostname", p.name + "@" + p.site.host.Name + ":copied"}
	out, err := from.Run(t.Context(), harness.Command{Args: args})
	must(t, err)
	return out
}

func (s *site) authdConfig(t *testing.T) string {
	t.Helper()
	text, err := s.host.Read(t.Context(), "/etc/sallyport/authd.toml")
	must(t, err)
	return text
}

// setAuthdConfig gives authd another configuration and starts it anew.
func (s *site) setAuthdConfig(t *testing.T, text string) {
	t.Helper()
	// A cleanup runs when the test's own context is over.
	ctx := context.Background()
	must(t, s.host.Put(ctx, harness.File{Path: "/etc/sallyport/authd.toml", Mode: 0o644, Data: []byte(text)}))
	if _, err := s.host.Must(ctx, "sallyport-authd", "check", "--config", "/etc/sallyport/authd.toml"); err != nil {
		t.Fatal(err)
	}
	must(t, s.host.Signal(ctx, "authd", "TERM"))
	must(t, s.startAuthd(ctx))
}

// setBatchMatch puts Match blocks into sshd_config and makes sshd read it.
func (s *site) setBatchMatch(t *testing.T, text string) {
	t.Helper()
	ctx := context.Background()
	must(t, s.host.Put(ctx, harness.File{Path: batchMatch, Mode: 0o644, Data: []byte(text)}))
	must(t, s.host.Signal(ctx, "sshd_config", "HUP"))
	must(t, s.host.AwaitPort(ctx, "22"))
}
