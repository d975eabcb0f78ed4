// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

const caKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI"

// folder is authd.toml with what stands beside it.
func folder(t *testing.T, text string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["authd.toml"] = least + text
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "authd.toml")
}

func rule(name string) string { return "[[rules]]\nname = \"" + name + "\"\naction = \"deny\"\n" }

func TestRulesFolder(t *testing.T) {
	path := folder(t, rule("first"), map[string]string{
		"rules.d/50-b.toml":  rule("fourth") + rule("fifth"),
		"rules.d/5-a.toml":   rule("third"), // before 50: the names are compared as text
		"rules.d/10.toml":    rule("second"),
		"rules.d/README":     "not read",
		"rules.d/.new.toml":  "not read",
		"rules.d/b.toml~":    "not read",
		"rules.d/empty.toml": "# nothing yet\n",
	})
	c, err := config.LoadWithoutSecret(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range c.RuleSet().Rules() {
		got = append(got, r.Name+" "+strings.TrimPrefix(r.At(), filepath.Dir(path)+"/"))
	}
	want := []string{"first authd.toml:7", "second rules.d/10.toml:1", "third rules.d/5-a.toml:1", "fourth rules.d/50-b.toml:1", "fifth rules.d/50-b.toml:4"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// All that is wrong is named at once, each with its file.
func TestErrorsOfRuleFiles(t *testing.T) {
	path := folder(t, "[services.sshd]\nattempts = 0\n"+rule("twice"), map[string]string{
		"rules.d/1.toml": rule("twice"),
		"rules.d/2.toml": "socket_dir = \"/x\"\n",
		"rules.d/3.toml": "\n" + rule("three") + "certificates = [{ca = \"ghost\"}]\n",
		"rules.d/4.toml": "[[rules]\n",
	})
	_, err := config.LoadWithoutSecret(path)
	if err == nil {
		t.Fatal("no error")
	}
	dir := filepath.Dir(path)
	for _, want := range []string{
		path + ": services.sshd: attempts is 0",
		dir + "/rules.d/1.toml:1: rule 1 (\"twice\"): name is that of " + path + ":9: rule 1 already",
		dir + "/rules.d/2.toml:1: unknown key socket_dir",
		dir + "/rules.d/3.toml:2: rule 1 (\"three\"): certificates: there is no CA \"ghost\"",
		dir + "/rules.d/4.toml:2: ",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

func TestRuleFilesThatOthersCanChange(t *testing.T) {
	path := folder(t, "", map[string]string{"rules.d/1.toml": rule("x"), "ca.pub": caKey, "secret": "hush\n"})
	dir := filepath.Dir(path)
	text := strings.NewReplacer("/etc/sallyport/secret_key", dir+"/secret", "ca_file = \"/etc/sallyport/ca.pem\"\n", "").Replace(least) +
		"[ssh_ca.batch]\npublic_key_file = \"" + dir + "/ca.pub\"\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := config.Load(path); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"rules.d/1.toml": 0o600, "rules.d": 0o755, "ca.pub": 0o600} {
		victim := filepath.Join(dir, name)
		if err := os.Chmod(victim, mode|0o002); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(path); err == nil || !strings.Contains(err.Error(), victim+" can be changed by others") {
			t.Errorf("%s: got %v", name, err)
		}
		// Whoever only looks may look, and is told.
		if _, untrusted, err := config.LoadToCheck(path); err != nil || name != "ca.pub" && (len(untrusted) != 1 || !strings.Contains(untrusted[0], victim)) {
			t.Errorf("%s: to check: %q, %v", name, untrusted, err)
		}
		if err := os.Chmod(victim, mode); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSSHCA(t *testing.T) {
	path := folder(t, "", map[string]string{"ca.pub": "# the CA\n\n" + caKey + " ops@example\n" + caKey + "\n"})
	file := filepath.Join(filepath.Dir(path), "ca.pub")
	c := parse(t, "[ssh_ca.a]\npublic_key_file = \""+file+"\"\n[ssh_ca.b]\npublic_keys = [\""+caKey+"\"]\n"+rule("x")+"certificates = [{ca = \"a\"}, {ca = \"b\"}]\n")
	if a := c.Authorities(); len(a["a"]) != 2 || len(a["b"]) != 1 {
		t.Errorf("got %v", a)
	}
	for text, want := range map[string]string{
		"":                                    "it wants public_key_file or public_keys",
		"public_keys = []\n":                  "it wants public_key_file or public_keys",
		"public_keys = [\"ssh-ed25519 x\"]\n": "line 1",
		"public_keys = [\"cert-authority " + caKey + "\"]\n":                      `options such as "cert-authority"`,
		"public_keys = [\"" + caKey + "\"]\npublic_key_file = \"" + file + "\"\n": "and one of them",
		"public_key_file = \"/none\"\n":                                           "ssh_ca.x.public_key_file: /none",
		"public_key_file = \"/dev/zero\"\n":                                       "not a file",
	} {
		if _, err := config.Parse("authd.toml", least+"[ssh_ca.x]\n"+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if _, err := config.LoadWithoutSecret(folder(t, "", map[string]string{"rules.d/1.toml": "[ssh_ca.x]\npublic_keys = [\"" + caKey + "\"]\n"})); err == nil {
		t.Error("a file of rules.d names a CA")
	}
}

func TestRuleWarnings(t *testing.T) {
	now := time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string][]string{
		"action = \"deny\"\nnot_after = 2026-07-14\n":                             {"not_after is past"},
		"action = \"deny\"\nnot_after = 2026-07-16\n":                             nil,
		"action = \"require\"\nservices = [\"sudo\"]\ncommands = [\"/bin/ls\"]\n": {"timestamp_timeout=0"},
		"action = \"deny\"\nservices = [\"sudo\"]\ncommands = [\"/bin/ls\"]\n":    nil,
		"action = \"require\"\nservices = [\"su\"]\ntargets = [\"root\"]\n":       nil,
		"action = \"deny\"\nservices = [\"su\"]\ntargets = [\"root\"]\n":          nil,
		"action = \"deny\"\nservices = [\"sshgw\"]\ntargets = [\"db1\"]\n":        {"no target is known yet at the door"},
		"action = \"require\"\nservices = [\"sshgw\"]\ntargets = [\"db1\"]\n":     nil,

		"action = \"require\"\nfail_mode = \"open\"\n":                                                      {`fail_mode = "open"`},
		"action = \"require\"\nservices = [\"sudo\", \"su\"]\ntargets = [\"root\"]\nfail_mode = \"open\"\n": {`fail_mode = "open"`, "timestamp_timeout=0"},
	} {
		c := parse(t, "[[rules]]\nname = \"r\"\n"+text)
		got := append(c.RuleWarnings(now), c.SudoWarnings()...)
		if len(got) != len(want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
			continue
		}
		for i, w := range want {
			if !strings.Contains(got[i], w) || !strings.HasPrefix(got[i], `authd.toml:7: rule "r": `) {
				t.Errorf("%q: got %q, want %q", text, got[i], w)
			}
		}
	}
}

// sudo's tickets outlive a remembered login that an administrator has ended.
func TestSudoGoingByRememberedLogins(t *testing.T) {
	for text, want := range map[string]int{
		"":                                      0, // whether any login is remembered is the verifier's policy
		"[services.sudo]\npassport = \"use\"\n": 1,
		"[services.sudo]\npassport = \"never\"\n": 0,
	} {
		if got := parse(t, text).SudoWarnings(); len(got) != want || want > 0 && !strings.Contains(got[0], "after a remembered login was ended") {
			t.Errorf("%q: %q", text, got)
		}
	}
}

func TestServiceUnderARule(t *testing.T) {
	c := parse(t, "[services.sshd]\nattempts = 5\nautopush = true\n[[rules]]\nname = \"r\"\naction = \"require\"\nfactors = [\"push\", \"passcode\"]\nautopush = false\nattempts = 1\nfail_mode = \"offline\"\n[[rules]]\nname = \"plain\"\naction = \"require\"\n")
	list := c.RuleSet().Rules()
	s := c.Service("sshd", true)
	if got := s.Under(&list[0]); !slices.Equal(got.Factors, []string{"push", "passcode"}) || got.Takes("phone") || !got.Takes("push") || got.AutoPush || got.Attempts != 1 || got.FailMode != config.FailOffline || got.FirstFactor != s.FirstFactor {
		t.Errorf("got %+v", got)
	}
	for _, got := range []config.Service{s.Under(&list[1]), s.Under(nil)} {
		if got.Factors != nil || !got.AutoPush || got.Attempts != 5 || got.FailMode != config.FailSecure {
			t.Errorf("got %+v", got)
		}
	}
}
