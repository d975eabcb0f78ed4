// SPDX-License-Identifier: Apache-2.0

package sshconfig_test

import (
	"crypto/ed25519"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/cmd/sallyport/sshconfig"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

const targets = `
[[target]]
name = "db1"
aliases = ["primary"]
logins = ["postgres"]
port = 2222

[[target]]
name = "app"

[[pattern]]
name = "web*.example"
`

func inv(t *testing.T) []*inventory.Inventory {
	t.Helper()
	i, err := inventory.Parse("t.toml", targets, nil)
	if err != nil {
		t.Fatal(err)
	}
	return []*inventory.Inventory{i}
}

// effective is what ssh makes of a configuration for a host.
func effective(t *testing.T, config, host string) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ssh", "-G", "-F", file, host).CombinedOutput()
	if err != nil {
		t.Fatalf("ssh -G %s: %v: %s", host, err, out)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		got[key] = value
	}
	return got
}

func TestSSHUnderstandsTheSnippet(t *testing.T) {
	text, err := sshconfig.Config(sshconfig.Gateway{Host: "gw.example", Port: 2022, User: "alice"}, inv(t))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]map[string]string{
		"sallyport-gw":  {"hostname": "gw.example", "port": "2022", "user": "alice", "controlmaster": "auto", "proxyjump": ""},
		"gw.example":    {"hostname": "gw.example", "port": "2022", "user": "alice"},
		"db1":           {"hostname": "db1", "port": "22", "user": "postgres", "proxyjump": "sallyport-gw", "controlmaster": "false"},
		"primary":       {"user": "postgres", "proxyjump": "sallyport-gw"},
		"app":           {"proxyjump": "sallyport-gw"},
		"web7.example":  {"proxyjump": "sallyport-gw"},
		"other.example": {"proxyjump": "", "controlmaster": "false"},
	} {
		got := effective(t, text, host)
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%s: %s is %q, want %q", host, key, got[key], value)
			}
		}
		if first, _, _ := strings.Cut(got["ciphers"], ","); want["proxyjump"] != "" && first != "aes128-gcm@openssh.com" {
			t.Errorf("%s: ciphers %s", host, got["ciphers"])
		}
		if got["user"] == "postgres" && host == "app" {
			t.Error("app has the login of another target")
		}
	}
	if got := effective(t, text, "alice%root@db1@sallyport-gw"); got["hostname"] != "gw.example" || got["user"] != "alice%root@db1" {
		t.Errorf("the other way through: %s as %s", got["hostname"], got["user"])
	}
}

func TestWithoutTargetsTheSnippetSaysHow(t *testing.T) {
	text, err := sshconfig.Config(sshconfig.Gateway{Host: "2001:db8::1", Port: 22}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := effective(t, text, "sallyport-gw"); got["hostname"] != "2001:db8::1" {
		t.Errorf("hostname %q", got["hostname"])
	}
	if !strings.Contains(text, "ssh -J sallyport-gw NAME") {
		t.Error(text)
	}
}

func TestGatewaysAndUsers(t *testing.T) {
	for s, want := range map[string]sshconfig.Gateway{
		"gw":                  {Host: "gw", Port: 22},
		"GW.example.:2022":    {Host: "gw.example", Port: 2022},
		"10.0.0.1:2022":       {Host: "10.0.0.1", Port: 2022},
		"[2001:db8::1]:2022":  {Host: "2001:db8::1", Port: 2022},
		"2001:db8::1":         {Host: "2001:db8::1", Port: 22},
		"gw:0":                {},
		"gw:x":                {},
		"gw\nProxyCommand id": {},
		"-oProxyCommand=id":   {},
		"":                    {},
	} {
		if got, err := sshconfig.ParseGateway(s); got != want || (err == nil) != (want.Host != "") {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "a b", "a\nProxyCommand id", `a"`, "a%h", "-x"} {
		if sshconfig.CheckUser(s) == nil {
			t.Errorf("%q is a user", s)
		}
	}
}

// ssh believes the gateway's host CA for the targets, and for no other host.
func TestKnownHostsAreForTargetsAlone(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	authority := "# the gateway's\n" + string(ssh.MarshalAuthorizedKey(signer.PublicKey()))
	text, err := sshconfig.KnownHosts(authority, inv(t))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{"db1": true, "primary": true, "web9.example": true, "other.example": false} {
		err := exec.Command("ssh-keygen", "-F", host, "-f", file).Run()
		if (err == nil) != want {
			t.Errorf("%s: %v", host, err)
		}
	}
	for name, bad := range map[string]string{"nothing": "", "no key": "nonsense\n", "options": "no-pty " + string(ssh.MarshalAuthorizedKey(signer.PublicKey()))} {
		if _, err := sshconfig.KnownHosts(bad, inv(t)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := sshconfig.KnownHosts(authority, nil); err == nil {
		t.Error("the CA is believed for everybody")
	}
}
