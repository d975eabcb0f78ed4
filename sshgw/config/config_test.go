// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

const least = `[[rule]]
name = "administrators"
groups = ["admins"]
targets = ["*"]
`

func TestFiveLinesAreEnough(t *testing.T) {
	dir := t.TempDir()
	targets := filepath.Join(dir, "targets.toml")
	write(t, targets, "[[target]]\nname = \"db1\"\n")
	path := filepath.Join(dir, "sshgw.toml")
	write(t, path, "targets.files = [\""+targets+"\"]\n"+least)
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Inventory().Find("db1"); !ok {
		t.Error("db1 is not there")
	}
	if c.Limits.AuthTries != 10 || c.Record.Dir != "/var/lib/sallyport/sshgw/recordings" || c.First.Password || c.Targets.TrustOnFirstUse {
		t.Errorf("%+v", c)
	}
}

func TestAddress(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"": strings.ToLower(host) + ":2222", "name='gw.example.org'\nlisten=[':22', ':2222']": "gw.example.org", "name='2001:db8::1'\nlisten=['127.0.0.1:2022']": "[2001:db8::1]:2022",
	} {
		c, err := config.Parse("sshgw.toml", text)
		if err != nil || c.Address() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFilesOfOthersAreRefused(t *testing.T) {
	dir := t.TempDir()
	targets, path := filepath.Join(dir, "targets.toml"), filepath.Join(dir, "sshgw.toml")
	for _, bad := range []string{targets, path} {
		write(t, targets, "[[target]]\nname = \"db1\"\n")
		write(t, path, "targets.files = [\""+targets+"\"]\n"+least)
		if err := os.Chmod(bad, 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("%s: got %v", bad, err)
		}
		if err := os.Chmod(bad, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestErrorsNameSettingAndLine(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"unknown key":       {"\nlisten_on = []\n", "sshgw.toml:2: unknown key listen_on"},
		"rules":             {"[[rules]]\nname='x'\n", "write [[rule]]"},
		"listen":            {"\nlisten = ['gw:22']\n", `sshgw.toml:2: listen: "gw:22": "gw" is no address`},
		"name":              {"\nname = 'gw example'\n", `sshgw.toml:2: name "gw example" is no name of a host`},
		"no listen":         {"listen = []\n", "nobody could connect"},
		"limit":             {"[limits]\nchannels = 0\n", "sshgw.toml:2: limits.channels is 0"},
		"timeout":           {"[timeouts]\n\nhandshake = '2h'\n", "sshgw.toml:3: timeouts.handshake is 2h0m0s"},
		"keys of everybody": {"[first_factor]\nauthorized_keys = ['/etc/keys']\n", "sshgw.toml:2: first_factor.authorized_keys: \"/etc/keys\" does not say %u"},
		"no first factor":   {"[first_factor]\nauthorized_keys = []\nverifier_keys = false\n", "nobody could log in"},
		"secret recipient":  {"[record]\nrecipients = ['AGE-SECRET-KEY-1QQ']\n", "sshgw.toml:2: record.recipients: there is a secret key"},
		"sync":              {"[record]\nsync = '2m'\n", "sshgw.toml:2: record.sync is 2m0s"},
		"stall":             {"[record]\nstall = '0s'\n", "sshgw.toml:2: record.stall is 0s"},
		"bad recipient":     {"[record]\nrecipients = ['age1x']\n", "no public key"},
		"user CA":           {"[[user_ca]]\nname='a'\nkeys_file='x'\n", `sshgw.toml:3: user_ca "a": keys_file "x" is not an absolute path`},
		"user CA twice":     {"[[user_ca]]\nname='a'\nkeys_file='/x'\n[[user_ca]]\nname='a'\nkeys_file='/x'\n", `sshgw.toml:5: [[user_ca]]: name "a" is there twice`},
		"credential":        {"[[credential]]\nname='a'\nkind='password'\n", `sshgw.toml:3: credential "a": kind "password"`},
		"touch by anybody":  {"[[door]]\nname='a'\naction='touch'\n", `sshgw.toml:3: door "a"`},
		"door":              {"[[door]]\nname='a'\naction='open'\n", `action "open" is none of`},
		"batch":             {"[[batch]]\nname='a'\nreason='x'\nusers=['u']\ntargets=['db1']\n", "keys must name"},
		"batch of no place": {"[[batch]]\nname='a'\nreason='x'\nusers=['u']\nkeys=['SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA']\nsources=['0.0.0.0/0']\ntargets=['db1']\n", `sshgw.toml:6: batch "a": sources must name`},
		"batch everywhere":  {"[[batch]]\nname='a'\nreason='x'\nusers=['u']\ntargets=['*']\n", "targets must name"},
		"no reason":         {"[[batch]]\nname='a'\n", "reason is missing"},
		"rule":              {"\n[[rule]]\nname='a'\nusers=['u']\n", `sshgw.toml:2: rule 1 ("a"): an allow rule names targets`},
	} {
		if _, err := config.Parse("sshgw.toml", tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// authd is told the names of rules, and refuses every login by one that does not print.
func TestNamesThatAuthdWouldRefuse(t *testing.T) {
	tables := map[string]string{
		"rule": "users=['u']\ntargets=['*']\n", "door": "", "user_ca": "keys_file='/x'\n", "host_ca": "keys_file='/x'\n", "credential": "",
		"batch": "reason='x'\nusers=['u']\nkeys=['SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA']\nsources=['192.0.2.1']\ntargets=['db1']\n",
	}
	for table, rest := range tables {
		for name, good := range map[string]bool{
			"Zürich, 2nd floor": true, strings.Repeat("n", 200): true, strings.Repeat("n", 201): false,
			"a\\u009bb": false, "a\\u202eb": false, "a\\u200bb": false, "a\\u2028b": false, "a\\u00a0b": false, "a\\tb": false, "a\\u007fb": false,
		} {
			_, err := config.Parse("sshgw.toml", "[["+table+"]]\nname = \""+name+"\"\n"+rest)
			if good != (err == nil) || err != nil && !strings.Contains(err.Error(), "that print") {
				t.Errorf("[[%s]] %q: %v", table, name, err)
			}
		}
	}
}
