// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
)

func TestFailModes(t *testing.T) {
	c := parse(t, `
[services.default]
fail_mode = "offline"
[services.sudo]
fail_mode = "open"
open_minutes = 30
open_uses = 1
open_local = true
`)
	if s := c.Service("sshd", true); s.FailMode != config.FailOffline || s.OpenMinutes != 240 || s.OpenUses != 10 || s.OpenLocal {
		t.Errorf("sshd: %+v", s)
	}
	if s := c.Service("sudo", false); s.FailMode != config.FailOpen || s.OpenMinutes != 30 || s.OpenUses != 1 || !s.OpenLocal {
		t.Errorf("sudo: %+v", s)
	}
	if c.Verifier.Selection != config.SelectOrder || c.Verifier.Way() != nil {
		t.Errorf("verifier: %+v", c.Verifier)
	}
	for text, want := range map[string]string{
		"[services.sshd]\nopen_minutes = 0\n":                                                "services.sshd: open_minutes is 0",
		"[services.sshd]\nopen_minutes = 10081\n":                                            "open_minutes is 10081",
		"[services.sshd]\nopen_uses = 0\n":                                                   "open_uses is 0",
		"[limits]\nopen_people = 40000\n":                                                    "limits.open_people is 40000",
		"[timeouts]\nhealth_interval = \"500ms\"\n":                                          "timeouts.health_interval is 500ms",
		"[verifier.proxy]\n":                                                                 "verifier.proxy: url",
		"[verifier.proxy]\nurl = \"http://a:b@p\"\n":                                         "belong into username and password_file",
		"[verifier.proxy]\nurl = \"http://p\"\nusername = \"a\"\n":                           "username and password_file belong together",
		"[verifier.proxy]\nurl = \"http://p\"\nusername = \"a:b\"\npassword_file = \"/x\"\n": "a colon",
		"[verifier.proxy]\nurl = \"http://p\"\nca_file = \"/x\"\n":                           "shows no certificate",
		"[verifier.proxy]\nurl = \"http://p\"\nno_proxy = [\"10.0.0.1/8\"]\n":                "no_proxy: \"10.0.0.1/8\"",
		"[verifier.proxy]\nurl = \"http://p\"\nbypass = []\n":                                "unknown key verifier.proxy.bypass",
	} {
		if _, err := config.Parse("authd.toml", least+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := config.Parse("authd.toml", least+"selection = \"random\"\n"); err == nil || !strings.Contains(err.Error(), "verifier.selection") {
		t.Errorf("selection: %v", err)
	}
}

func TestProxyFiles(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path(name), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("secret", "hush\n", 0o600)
	write("authd.toml", strings.Replace(least, "/etc/sallyport/secret_key", path("secret"), 1)+`
[verifier.proxy]
url = "https://Proxy:3129"
username = "web1"
password_file = "`+path("password")+`"
ca_file = "`+path("ca.pem")+`"
no_proxy = ["direct.example"]
`, 0o600)
	load := func() (*config.Config, error) { return config.Load(path("authd.toml")) }
	wants := func(what, want string) {
		t.Helper()
		if _, err := load(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	wants("no password", "verifier.proxy.password_file")
	write("password", " open sesame \n", 0o644)
	wants("open password", "open to everybody")
	write("password", "two\nlines\n", 0o600)
	wants("two lines", "no password of one line")
	write("password", "\n", 0o600)
	wants("empty", "no password of one line")
	write("password", " open sesame \n", 0o600)
	wants("no CA", "verifier.proxy.ca_file")
	write("ca.pem", "x", 0o646)
	wants("CA of others", "can be changed by others")
	write("ca.pem", "no certificate", 0o644)
	wants("no certificate", "holds no certificate")
	write("ca.pem", certificate(t), 0o644)
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	way := c.Verifier.Way()
	if way.URL.String() != "https://proxy:3129" || way.Username != "web1" || way.Password != " open sesame " || way.Roots == nil || !way.Direct.Holds("direct.example") {
		t.Errorf("got %+v", way)
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
	if w := parse(t, "[verifier.proxy]\nurl = \"http://p\"\nusername = \"a\"\npassword_file = \"/x\"\n").Warnings(); len(w) != 1 {
		t.Errorf("warnings %q", w)
	}
}

// certificate is the CA of a proxy, in PEM.
func certificate(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(verifiertest.NewProxy(t, true).CAFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
