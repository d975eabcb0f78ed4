// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

const least = `
[verifier]
urls = ["https://verifier.example:8443"]
integration_key = "DIAAAAAAAAAAAAAAAAAA"
secret_key_file = "/etc/sallyport/secret_key"
ca_file = "/etc/sallyport/ca.pem"
`

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("authd.toml", least+text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLeastConfigurationIsSafe(t *testing.T) {
	c := parse(t, "")
	if c.SocketDir != "/run/sallyport" || c.Timeouts.Login != 85*time.Second {
		t.Errorf("defaults: %+v", c)
	}
	sshd := c.Service("sshd", false)
	if sshd.FailMode != config.FailSecure || sshd.FirstFactor != config.FirstFactorSSH ||
		sshd.AccountWithoutAuth != config.GateDeny || sshd.Unattended != config.UnattendedDeny ||
		sshd.Attempts != 3 || sshd.AutoPush || sshd.AcceptEnvFactor {
		t.Errorf("sshd: %+v", sshd)
	}
	if su := c.Service("su", false); su.Person != config.PersonCaller || su.AccountWithoutAuth != config.GateAllow {
		t.Errorf("su: %+v", su)
	}
	if sudo := c.Service("sudo", false); sudo.Person != config.PersonInvoking {
		t.Errorf("sudo: %+v", sudo)
	}
}

func TestServicesInherit(t *testing.T) {
	c := parse(t, `
[services.default]
attempts = 2
fail_mode = "open"
first_factor = "stack"
account_without_auth = "allow"
person = "caller"
[services.sshd]
fail_mode = "secure"
autopush = true
`)
	sshd := c.Service("sshd", false)
	if sshd.Attempts != 2 || sshd.FailMode != config.FailSecure || !sshd.AutoPush {
		t.Errorf("sshd: %+v", sshd)
	}
	if sshd.FirstFactor != config.FirstFactorSSH || sshd.AccountWithoutAuth != config.GateDeny || sshd.Person != config.PersonUser {
		t.Errorf("[services.default] must not weaken sshd: %+v", sshd)
	}
	if s := c.Service("renamed", true); s.FirstFactor != config.FirstFactorSSH || s.AccountWithoutAuth != config.GateDeny || s.Person != config.PersonUser {
		t.Errorf("sshd under another name: %+v", s)
	}
	if s := c.Service("login", false); s.FailMode != config.FailOpen || s.Attempts != 2 || s.Person != config.PersonCaller {
		t.Errorf("login: %+v", s)
	}
	if s := parse(t, "[services.sshd]\nfirst_factor = \"stack\"\n").Service("sshd", true); s.FirstFactor != config.FirstFactorStack {
		t.Errorf("sshd's own table decides: %+v", s)
	}
}

func TestErrorsNameTheSetting(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown key":      {least + "[services.sshd]\nfailmode = \"open\"\n", "authd.toml:8: unknown key services.sshd.failmode"},
		"unknown in rule":  {least + "[[rules]]\nname = \"a\"\naction = \"deny\"\nuser = [\"x\"]\n", "authd.toml:10: unknown key rules.user"},
		"wrong type":       {least + "[services.sshd]\nattempts = \"three\"\n", "attempts"},
		"not TOML":         {least + "[services.sshd\n", "authd.toml:8"},
		"no verifier":      {"", "verifier.urls is missing"},
		"plain HTTP":       {strings.Replace(least, "https:", "http:", 1), "https://HOST:PORT"},
		"path in URL":      {strings.Replace(least, ":8443", ":8443/auth", 1), "https://HOST:PORT"},
		"fail mode":        {least + "[services.sshd]\nfail_mode = \"safe\"\n", `services.sshd: fail_mode "safe" is none of`},
		"attempts":         {least + "[services.sshd]\nattempts = 0\n", "attempts is 0"},
		"caller of sshd":   {least + "[services.sshd]\nperson = \"caller\"\n", `services.sshd: person "caller"`},
		"duration":         {least + "[timeouts]\nrequest_timeout = \"1h\"\n", "timeouts.request_timeout is 1h0m0s"},
		"connect above":    {least + "[timeouts]\nconnect_timeout = \"9s\"\n", "connect_timeout is above request_timeout"},
		"throttle":         {least + "[throttle]\nmax_delay = \"2m\"\n", "throttle.max_delay is 2m0s"},
		"metrics outside":  {least + "[metrics]\nlisten = \"0.0.0.0:9176\"\n", "metrics.listen \"0.0.0.0:9176\" is no loopback address"},
		"metrics by name":  {least + "[metrics]\nlisten = \"localhost:9176\"\n", "is no ADDRESS:PORT"},
		"limits":           {least + "[limits]\ngrants = 0\n", "limits.grants is 0"},
		"relative path":    {"socket_dir = \"run\"\n" + least, "socket_dir"},
		"long socket path": {"socket_dir = \"/" + strings.Repeat("a", 100) + "\"\n" + least, "too long"},
		"bad rule":         {least + "[[rules]]\nname = \"a\"\naction = \"bypass\"\nreason = \"b\"\n", `rule 1 ("a"): a bypass rule without`},
		"contact":          {"contact = \"a\\u001bb\"\n" + least, "contact is one line"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("authd.toml", tc.text)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want it to contain %q", err, tc.want)
			}
		})
	}
}

func TestLoadReadsTheSecret(t *testing.T) {
	dir := t.TempDir()
	secret, file := filepath.Join(dir, "secret_key"), filepath.Join(dir, "authd.toml")
	write := func(path, text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(file, strings.Replace(least, "/etc/sallyport/secret_key", secret, 1), 0o644)

	if _, err := config.Load(file); err == nil || !strings.Contains(err.Error(), "verifier.secret_key_file") {
		t.Errorf("no secret: %v", err)
	}
	write(secret, "hush\n", 0o604)
	if _, err := config.Load(file); err == nil || !strings.Contains(err.Error(), "open to everybody") {
		t.Errorf("open secret: %v", err)
	}
	write(secret, "\n", 0o600)
	if _, err := config.Load(file); err == nil || !strings.Contains(err.Error(), "is empty") {
		t.Errorf("empty secret: %v", err)
	}
	write(secret, "hush\n", 0o600)
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Secret()) != "hush" {
		t.Errorf("secret %q", c.Secret())
	}
}

// Whoever can write the configuration, or the CA that it trusts, can let anybody in.
func TestFilesThatOthersCanChangeAreRefused(t *testing.T) {
	dir := t.TempDir()
	file, secret, ca := filepath.Join(dir, "authd.toml"), filepath.Join(dir, "secret_key"), filepath.Join(dir, "ca.pem")
	text := strings.NewReplacer("/etc/sallyport/secret_key", secret, "/etc/sallyport/ca.pem", ca).Replace(least)
	for path, content := range map[string]string{file: text, secret: "hush\n", ca: "PEM\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := config.Load(file); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, ca} {
		if err := os.Chmod(path, 0o646); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(file); err == nil || !strings.Contains(err.Error(), path+" can be changed by others") {
			t.Errorf("%s with mode 0646: %v", path, err)
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if os.Chown(path, 12345, -1) != nil {
			continue // only root can give a file away
		}
		if _, err := config.Load(file); err == nil || !strings.Contains(err.Error(), path+" belongs to uid 12345") {
			t.Errorf("%s of another account: %v", path, err)
		}
		if err := os.Chown(path, 0, -1); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWarnings(t *testing.T) {
	c := parse(t, `
[services.sshd]
fail_mode = "open"
first_factor = "stack"
account_without_auth = "allow"
[[rules]]
name = "lab"
reason = "no one there"
action = "bypass"
groups = ["lab"]
broad = true
`)
	if got := c.Warnings(); len(got) != 4 {
		t.Errorf("got %d warnings: %q", len(got), got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(least)
	f.Add(least + "[[rules]]\nname = \"n\"\nreason = \"r\"\naction = \"bypass\"\nusers = [\"u\"]\nsources = [\"10.0.0.0/8\"]\n")
	f.Add(least + "[services.\"a.b\"]\nx.y = 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.Parse("authd.toml", text)
		if err != nil {
			return
		}
		if s := c.Service("sshd", false); s.Attempts < 1 || s.FailMode == "" {
			t.Errorf("accepted an incomplete service: %+v", s)
		}
		if len(c.Verifier.Endpoints()) == 0 || c.RuleSet() == nil {
			t.Error("accepted a file without verifier or rules")
		}
	})
}
