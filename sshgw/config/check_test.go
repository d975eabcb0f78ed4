// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

const keyA = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// people knows alice and the group admins.
type people struct{ directory.Directory }

func (people) ByName(_ context.Context, name string) (directory.Account, error) {
	if name == "alice" {
		return directory.Account{Name: name}, nil
	}
	return directory.Account{}, directory.ErrNoSuchUser
}

func (people) InGroup(_ context.Context, _ directory.Account, group string) (bool, error) {
	if group == "admins" {
		return false, nil
	}
	return false, fmt.Errorf("look up group %q: the name service does not know it", group)
}

// site is a configuration without a fault.
type site struct {
	dir, head, targets string
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir()}
	for _, d := range []string{"state", "keys.d"} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	_, signer := newKey(t)
	write(t, s.file("known_hosts"), "db1 "+string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	s.targets = "[[target]]\nname='db1'\naliases=['primary']\ngroups=['databases']\n"
	s.head = fmt.Sprintf("state_dir=%q\nfirst_factor.authorized_keys=[%q]\ntargets.files=[%q]\ntargets.known_hosts=[%q]\n",
		s.file("state"), s.file("keys.d/%u"), s.file("targets.toml"), s.file("known_hosts"))
	return s
}

func (s *site) file(name string) string { return filepath.Join(s.dir, name) }

func newKey(t *testing.T) (ed25519.PrivateKey, ssh.Signer) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, signer
}

// check returns what is found, a line each.
func (s *site) check(t *testing.T, text string) string {
	t.Helper()
	write(t, s.file("targets.toml"), s.targets)
	write(t, s.file("sshgw.toml"), s.head+text)
	c, err := config.Load(s.file("sshgw.toml"))
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, f := range c.Check(t.Context(), people{}, time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)) {
		out.WriteString(strings.TrimPrefix(f.String(), s.dir+"/") + "\n")
	}
	return out.String()
}

const good = "[[rule]]\nname='r'\nusers=['alice']\ngroups=['admins']\ntargets=['db1']\n"

func TestCheckFindsNothingWhereNothingIsWrong(t *testing.T) {
	if got := newSite(t).check(t, good); got != "" {
		t.Errorf("found:\n%s", got)
	}
}

func TestCheckFindsWhatKeepsTheGatewayFromStarting(t *testing.T) {
	s := newSite(t)
	s.head += "record.group='no-such-group-here'\n"
	if got := s.check(t, good); !strings.Contains(got, "sshgw.toml:5: error: record.group: group: unknown group no-such-group-here") {
		t.Errorf("the group is not there; found:\n%s", got)
	}
	for name, want := range map[string]string{"user_ca": "error: keys.dir: read the key", "host_ca.next": "error: keys.dir:"} {
		s := newSite(t)
		if err := os.Mkdir(s.file("state/keys"), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, s.file("state/keys/"+name), "garbage")
		if got := s.check(t, good); !strings.Contains(got, want) {
			t.Errorf("%s is garbage; found:\n%s", name, got)
		}
	}
}

func TestCheckFindsRulesThatAreNotWhatTheySeem(t *testing.T) {
	for name, c := range map[string]struct{ rules, want string }{
		"none":               {"", "there is no [[rule]]"},
		"hidden":             {good + "[[rule]]\nname='s'\nusers=['alice']\ngroups=['admins']\ntargets=['db1']\nshell=true\n", `sshgw.toml:10: warning: rule "s": it is never asked: rule "r" (line 5)`},
		"hidden by a deny":   {"[[rule]]\nname='n'\naction='deny'\ntargets=['*']\n" + good, `rule "r": it is never asked: rule "n"`},
		"hidden by networks": {"[[rule]]\nname='n'\nusers=['al*']\nsources=['10.0.0.0/8']\ntargets=['*']\nlogins=['*']\n[[rule]]\nname='s'\nusers=['alice']\nsources=['10.1.0.0/16']\ntargets=['db1']\n", `rule "s": it is never asked`},
		"over":               {good + "[[rule]]\nname='s'\nusers=['*']\ntargets=['*']\nnot_after=2026-11-01\n", `rule "s": it has ended`},
		"no such target":     {"[[rule]]\nname='s'\nusers=['*']\ntargets=['db2']\n", `rule "s": it never matches: no target is one of db2`},
		"one is not there":   {"[[rule]]\nname='s'\nusers=['*']\ntargets=['db1', 'db2']\n", `there is no target "db2"`},
		"no such group":      {"[[rule]]\nname='s'\nusers=['*']\ntargets=['group:web']\n", "it never matches"},
		"takes back":         {"[[rule]]\nname='s'\nusers=['alice','!alice']\ntargets=['db1']\n", "users takes back all that it names"},
		"no such user":       {"[[rule]]\nname='s'\nusers=['bob']\ntargets=['db1']\n", `the name service knows no user "bob"`},
		"no such Unix group": {"[[rule]]\nname='s'\ngroups=['nobodies']\ntargets=['db1']\n", `look up group "nobodies"`},
		"limits of sftp":     {"[[rule]]\nname='s'\nusers=['*']\ntargets=['db1']\nshell=true\nsftp_read=['/srv/**']\n", "limit nothing"},
		"limits of exec":     {"[[rule]]\nname='s'\nusers=['*']\ntargets=['db1']\nshell=true\nexec=['uptime']\n", "exec limits nothing"},
		"limits of shell":    {"[[rule]]\nname='s'\nusers=['*']\ntargets=['db1']\nexec=['*']\n", "shell limits nothing"},
		"agent alone":        {"[[rule]]\nname='s'\nusers=['*']\ntargets=['db1']\nagent=true\n", "of no use"},
		"recorded patterns":  {"[[rule]]\nname='s'\nusers=['*']\ntargets=['db1']\nshell=true\nexec=['*']\nforward=['*:80']\nrecord='required'\n", `"*:80" is a pattern`},
		"batch goes nowhere": {good + "[[batch]]\nname='b'\nreason='x'\nusers=['bob']\nkeys=['" + keyA + "']\nsources=['10.0.0.1']\ntargets=['db1']\n", `batch "b": no [[rule]] that names no group lets "bob"`},
		"batch without":      {good + "[[batch]]\nname='b'\nreason='x'\nusers=['bob']\nkeys=['" + keyA + "']\nsources=['10.0.0.1']\ntargets=['db7']\n", `batch "b": no target is one of db7`},
		"door is hidden":     {good + "[[door]]\nname='d'\n[[door]]\nname='e'\nusers=['alice']\naction='hold'\n", `door "e" is never asked`},
		"first sight":        {"[targets]\ntrust_on_first_use=true\n" + good, "whoever answers first"},
	} {
		s := newSite(t)
		text := c.rules
		if strings.HasPrefix(text, "[targets]\n") {
			s.head, text = s.head+"targets.trust_on_first_use=true\n", good
		}
		if got := s.check(t, text); !strings.Contains(got, c.want) {
			t.Errorf("%s: found:\n%swant %q", name, got, c.want)
		}
	}
}

// A rule that only looks like a hidden one is left in peace.
func TestCheckIsNeverWrongAboutHiddenRules(t *testing.T) {
	for name, first := range map[string]string{
		"another login":      "users=['*']\ntargets=['*']\nlogins=['root']",
		"one is left out":    "users=['*','!alice']\ntargets=['*']",
		"a group":            "users=['*']\ngroups=['admins']\ntargets=['*']",
		"hours":              "users=['*']\ntargets=['*']\nhours='10:00-11:00'",
		"ends":               "users=['*']\ntargets=['*']\nnot_after=2027-01-01",
		"a network":          "users=['*']\nsources=['10.0.0.0/8']\ntargets=['*']",
		"target by a label":  "users=['*']\ntargets=['label:env=prod']",
		"target is left out": "users=['*']\ntargets=['*','!db1']",
		"name of a pattern":  "users=['*']\ntargets=['prim*']",
	} {
		got := newSite(t).check(t, "[[rule]]\nname='n'\n"+first+"\n[[rule]]\nname='s'\nusers=['alice']\ntargets=['primary']\n")
		if strings.Contains(got, `"s": it is never asked`) {
			t.Errorf("%s: found:\n%s", name, got)
		}
	}
}

func TestCheckLooksIntoFiles(t *testing.T) {
	s := newSite(t)
	s.targets += "[[target]]\nname='db2'\ncredential='stored'\n"
	key, signer := newKey(t)
	block, err := ssh.MarshalPrivateKeyWithPassphrase(key, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, s.file("stored"), string(pem.EncodeToMemory(block)))
	write(t, s.file("keys.d/alice"), string(ssh.MarshalAuthorizedKey(signer.PublicKey()))+"nonsense\n")
	write(t, s.file("ca"), string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	got := s.check(t, good+fmt.Sprintf("[[credential]]\nname='stored'\nkind='key'\nkey_file=%q\n[[user_ca]]\nname='u'\nkeys_file=%q\nrevoked_keys=%q\n",
		s.file("stored"), s.file("ca"), s.file("none")))
	for _, want := range []string{
		"keys.d/alice:2: error: this is no public key",
		`sshgw.toml:13: error: credential "stored": ` + s.file("stored") + " has a passphrase",
		`sshgw.toml:17: error: user_ca "u": revoked_keys: no certificate of it counts: read configuration: stat ` + s.file("none"),
		"no host key is known of 1 targets (db2)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("found:\n%swant %q", got, want)
		}
	}
	if err := os.Chmod(s.file("stored"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.check(t, good+fmt.Sprintf("[[credential]]\nname='stored'\nkind='key'\nkey_file=%q\n", s.file("stored"))); !strings.Contains(got, "is open to others (mode 0644)") {
		t.Errorf("found:\n%s", got)
	}
}

func TestCheckReadsListsOfKeys(t *testing.T) {
	s := newSite(t)
	_, signer := newKey(t)
	write(t, s.file("ca"), string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	write(t, s.file("krl"), "SSHKRL\n\x00")
	write(t, s.file("list"), "serial: 1-9\n\nserial: many\n")
	write(t, s.file("known_hosts"), "# ours\ndb1 ssh-ed25519 rubbish\n\n@revoked\ndb2 "+string(ssh.MarshalAuthorizedKey(signer.PublicKey()))+"@strange "+string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
	s.targets = "[[target]]\nname='db1'\n"
	got := s.check(t, fmt.Sprintf("first_factor.revoked_keys=%q\n[[user_ca]]\nname='u'\nkeys_file=%q\nrevoked_keys=%q\n", s.file("krl"), s.file("ca"), s.file("list")))
	for _, want := range []string{
		"error: first_factor.revoked_keys: no key counts: " + s.file("krl") + ": line 1: ",
		`error: user_ca "u": revoked_keys: no certificate of it counts: ` + s.file("list") + ": line 3: ",
		"known_hosts:2: error: ", "known_hosts:4: error: ", "known_hosts:6: error: ",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("found:\n%swant %q", got, want)
		}
	}
	if strings.Contains(got, "known_hosts:5") {
		t.Errorf("a good line is wrong:\n%s", got)
	}
}

func TestLoadRefusesWhatRulesRestOn(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"CA is not there":     {"[[user_ca]]\nname='u'\nkeys_file='/nonexistent/ca'\n", `sshgw.toml:7: user_ca "u"`},
		"targets name no CA":  {"", `"db1": host_cas: no [[host_ca]] of sshgw.toml is named "x"`},
		"CA that others make": {"[[host_ca]]\nname='x'\nkeys_file='DIR/ca'\n", "chmod go-w"},
	} {
		s := newSite(t)
		if name == "targets name no CA" {
			s.targets = "[[target]]\nname='db1'\nhost_cas=['x']\n"
		}
		_, signer := newKey(t)
		write(t, s.file("ca"), string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
		if err := os.Chmod(s.file("ca"), 0o666); err != nil {
			t.Fatal(err)
		}
		write(t, s.file("targets.toml"), s.targets)
		write(t, s.file("sshgw.toml"), s.head+strings.ReplaceAll(c.text, "DIR", s.dir))
		if _, err := config.Load(s.file("sshgw.toml")); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

func TestDoorsAndBatches(t *testing.T) {
	c, err := config.Parse("sshgw.toml", `
[[door]]
name = "strict"
action = "ask"
groups = ["unknown"]
users = ["carol"]

[[door]]
name = "touch"
action = "touch"
users = ["alice"]
keys = ["`+keyA+`"]
sources = ["10.0.0.0/8"]

[[door]]
name = "hold"
action = "hold"
groups = ["unknown"]

[[batch]]
name = "dumps"
reason = "cron"
users = ["backup"]
keys = ["`+keyA+`"]
sources = ["10.0.4.0/24", "2001:db8::/64"]
targets = ["db1"]
`)
	if err != nil {
		t.Fatal(err)
	}
	ask := func(user, key, source string) string {
		q := config.DoorQuery{User: user, Key: key, Source: source, InGroup: func(context.Context, string) (bool, error) { return false, errors.New("no answer") }}
		if b := c.Batch(q); b != nil {
			return "batch " + b.Name
		}
		if d := c.Door(t.Context(), q); d != nil {
			return d.Name
		}
		return ""
	}
	for _, tc := range []struct{ user, key, source, want string }{
		{"alice", keyA, "10.1.2.3", "touch"},
		{"alice", keyA, "::ffff:10.1.2.3", "touch"},
		{"alice", "", "10.1.2.3", ""},
		{"alice", keyA, "192.0.2.1", ""},
		{"alice", keyA, "nonsense", ""},
		{"alice", keyA, "10.1.2.3:22", ""},
		{"carol", keyA, "10.1.2.3", "strict"},
		{"bob", keyA, "10.1.2.3", ""},
		{"backup", keyA, "10.0.4.9", "batch dumps"},
		{"backup", keyA, "::ffff:10.0.4.9", "batch dumps"},
		{"backup", keyA, "2001:db8::9", "batch dumps"},
		{"backup", keyA, "10.0.5.9", ""},
		{"backup", keyA, "", ""},
		{"backup", "", "10.0.4.9", ""},
		{"Backup", keyA, "10.0.4.9", ""},
	} {
		if got := ask(tc.user, tc.key, tc.source); got != tc.want {
			t.Errorf("%s %s from %s: %q, want %q", tc.user, tc.key, tc.source, got, tc.want)
		}
	}
	if c.Batches[0].Reaches(nil) {
		t.Error("a batch rule reaches no target")
	}
}
