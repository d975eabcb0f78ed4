// SPDX-License-Identifier: Apache-2.0

package sshdconfig

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

const fingerprint = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func bypass(change func(*rules.Rule)) rules.Rule {
	r := rules.Rule{Name: "backup", Reason: "cron", Action: rules.Bypass, Users: []string{"backup"}}
	if change != nil {
		change(&r)
	}
	return r
}

// sshd is the real sshd with a configuration of its own.
type sshd struct{ config string }

func newSSHD(t *testing.T, text string) sshd {
	t.Helper()
	// sshd wants its folder for privilege separation even for a test of its configuration.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key := filepath.Join(dir, "host_key")
	run(t, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	config := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(config, []byte("HostKey "+key+"\nUsePAM yes\nAuthenticationMethods "+Methods+"\n"+text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "/usr/sbin/sshd", "-t", "-f", config)
	return sshd{config}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

func (s sshd) setting(t *testing.T, user, addr, keyword string) string {
	t.Helper()
	for line := range strings.Lines(run(t, "/usr/sbin/sshd", "-T", "-f", s.config, "-C", "user="+user+",addr="+addr+",host=h")) {
		if key, value, _ := strings.Cut(strings.TrimSpace(line), " "); key == keyword {
			return value
		}
	}
	t.Fatalf("sshd has no setting %s", keyword)
	return ""
}

func TestBypassBlock(t *testing.T) {
	out := Write([]rules.Rule{bypass(func(r *rules.Rule) {
		r.Users = []string{"backup", "dumper"}
		r.Sources = []string{"10.0.4.0/24", "2001:db8::/32"}
		r.Keys = []string{fingerprint}
		r.Command = `/usr/bin/rrsync -ro "/srv/a b"`
	})})
	if out.Blocks != 1 || len(out.Warnings) != 0 {
		t.Fatalf("%d blocks, warnings %q\n%s", out.Blocks, out.Warnings, out.Text)
	}
	// What a site has behind the blocks must stay for everyone.
	s := newSSHD(t, out.Text+"MaxSessions 3\n")
	for _, c := range []struct{ user, addr, keyword, want string }{
		{"alice", "192.0.2.1", "maxsessions", "3"},
		{"backup", "10.0.4.9", "authenticationmethods", "publickey"},
		{"dumper", "2001:db8::1", "authenticationmethods", "publickey"},
		{"backup", "10.0.4.9", "permittty", "no"},
		{"backup", "10.0.4.9", "allowtcpforwarding", "no"},
		{"backup", "10.0.4.9", "allowagentforwarding", "no"},
		{"backup", "10.0.4.9", "forcecommand", `/usr/bin/rrsync -ro "/srv/a b"`},
		{"backup", "10.0.5.9", "authenticationmethods", Methods},
		{"alice", "10.0.4.9", "authenticationmethods", Methods},
		{"alice", "10.0.4.9", "permittty", "yes"},
		{"alice", "10.0.4.9", "forcecommand", "none"},
	} {
		if got := s.setting(t, c.user, c.addr, c.keyword); got != c.want {
			t.Errorf("%s from %s: %s is %q, want %q", c.user, c.addr, c.keyword, got, c.want)
		}
	}
	if !strings.Contains(out.Text, fingerprint) || !strings.Contains(out.Text, "sshd cannot match keys") {
		t.Errorf("the text does not say what the keys are about:\n%s", out.Text)
	}
}

func TestNoBlocks(t *testing.T) {
	out := Write([]rules.Rule{
		bypass(func(r *rules.Rule) { r.Services = []string{"sudo"} }),
		{Name: "no", Action: rules.Deny},
	})
	if out.Blocks != 0 || len(out.Warnings) != 0 || strings.Contains(out.Text, "\nMatch") {
		t.Fatalf("%+v", out)
	}
	newSSHD(t, out.Text)
}

// A login that a require rule takes first must still be asked.
func TestRequireBeforeBypass(t *testing.T) {
	lab := rules.Rule{Name: "lab", Action: rules.Require, Sources: []string{"10.0.4.7"}}
	out := Write([]rules.Rule{lab, bypass(nil)})
	s := newSSHD(t, out.Text)
	if got := s.setting(t, "backup", "10.0.4.7", "authenticationmethods"); got != Methods {
		t.Errorf("from the lab: %q", got)
	}
	if got := s.setting(t, "backup", "10.0.4.8", "authenticationmethods"); got != "publickey" {
		t.Errorf("from elsewhere: %q", got)
	}
	if len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "no terminal") {
		t.Errorf("warnings %q", out.Warnings)
	}

	apart := Write([]rules.Rule{lab, bypass(func(r *rules.Rule) { r.Sources = []string{"10.0.5.0/24"} })})
	if len(apart.Warnings) != 0 || strings.Contains(apart.Text, "rule: lab") {
		t.Errorf("rules that never meet: %+v", apart)
	}
}

// Patterns and negation mean to sshd what they mean in a rule.
func TestPatterns(t *testing.T) {
	out := Write([]rules.Rule{
		bypass(func(r *rules.Rule) {
			r.Name, r.Users, r.Sources = "runners", []string{"ci-?", "!ci-9"}, []string{"10.0.0.0/8", "!10.9.0.0/16"}
		}),
		bypass(func(r *rules.Rule) {
			r.Name, r.Users, r.Sources, r.Services = "others", []string{"!root"}, []string{"!192.0.2.0/24"}, []string{"ssh*", "!sudo"}
			r.Broad = true
		}),
		bypass(func(r *rules.Rule) { r.Name, r.Users, r.Services = "not for sshd", []string{"root"}, []string{"!sshd"} }),
	})
	if out.Blocks != 2 || len(out.Warnings) != 0 {
		t.Fatalf("%d blocks, warnings %q\n%s", out.Blocks, out.Warnings, out.Text)
	}
	s := newSSHD(t, out.Text)
	for _, c := range []struct{ user, addr, want string }{
		{"ci-1", "10.1.2.3", "publickey"},
		{"ci-9", "10.1.2.3", "publickey"}, // by the second rule
		{"root", "10.1.2.3", Methods},
		{"alice", "192.0.2.1", Methods},
		{"ci-1", "192.0.2.1", Methods},
		{"alice", "198.51.100.1", "publickey"},
	} {
		if got := s.setting(t, c.user, c.addr, "authenticationmethods"); got != c.want {
			t.Errorf("%s from %s: %q, want %q", c.user, c.addr, got, c.want)
		}
	}
	first := newSSHD(t, Write([]rules.Rule{bypass(func(r *rules.Rule) {
		r.Users, r.Sources = []string{"ci-?", "!ci-9"}, []string{"10.0.0.0/8", "!10.9.0.0/16"}
	})}).Text)
	for _, c := range []struct{ user, addr, want string }{
		{"ci-1", "10.1.2.3", "publickey"}, {"ci-9", "10.1.2.3", Methods}, {"ci-10", "10.1.2.3", Methods}, {"ci-1", "10.9.2.3", Methods},
	} {
		if got := first.setting(t, c.user, c.addr, "authenticationmethods"); got != c.want {
			t.Errorf("%s from %s: %q, want %q", c.user, c.addr, got, c.want)
		}
	}
}

// Two keys of one account with a command each: sshd can force only one.
func TestOneCommandForBoth(t *testing.T) {
	free, forced := bypass(nil), bypass(func(r *rules.Rule) { r.Name, r.Command = "other", "/bin/b" })
	out := Write([]rules.Rule{free, forced})
	if len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], "forces one command") {
		t.Errorf("warnings %q", out.Warnings)
	}
	if got := newSSHD(t, out.Text).setting(t, "backup", "192.0.2.1", "forcecommand"); got != "/bin/b" {
		t.Errorf("sshd forces %q: the warning is wrong", got)
	}
	forced.Command = ""
	if out := Write([]rules.Rule{free, forced}); len(out.Warnings) != 0 {
		t.Errorf("warnings %q", out.Warnings)
	}
}

func TestWhatSSHDCannotExpress(t *testing.T) {
	for name, c := range map[string]struct {
		rules []rules.Rule
		want  string
	}{
		"keys alone":         {[]rules.Rule{bypass(func(r *rules.Rule) { r.Users, r.Keys = nil, []string{fingerprint} })}, "names keys alone"},
		"everyone":           {[]rules.Rule{bypass(func(r *rules.Rule) { r.Users, r.Broad = nil, true }), bypass(func(r *rules.Rule) { r.Name = "later" })}, "it is for everyone"},
		"space in a name":    {[]rules.Rule{bypass(func(r *rules.Rule) { r.Users = []string{"a b"} })}, "cannot stand in a Match line"},
		"comma in a name":    {[]rules.Rule{bypass(func(r *rules.Rule) { r.Users = []string{"a,root"} })}, "cannot stand in a Match line"},
		"open quote":         {[]rules.Rule{bypass(func(r *rules.Rule) { r.Command = "echo it's" })}, "not closed"},
		"require everyone":   {[]rules.Rule{{Name: "all", Action: rules.Require}, bypass(nil)}, "never reached"},
		"require by its key": {[]rules.Rule{{Name: "k", Action: rules.Require, Keys: []string{fingerprint}}, bypass(nil)}, "refused instead of asked"},
		"certificates alone": {[]rules.Rule{bypass(func(r *rules.Rule) {
			r.Users, r.Certificates = nil, []rules.Certificates{{CA: "ops", KeyIDs: []string{"x"}}}
		})}, "names certificates alone"},
		"LDAP groups":      {[]rules.Rule{bypass(func(r *rules.Rule) { r.LDAPGroups = []string{"staff"} })}, "sshd cannot match its ldap_groups"},
		"days and hours":   {[]rules.Rule{bypass(func(r *rules.Rule) { r.Weekdays, r.Hours = []string{"mon"}, "09:00-17:00" })}, "sshd cannot match its weekdays and hours"},
		"require by hours": {[]rules.Rule{{Name: "h", Action: rules.Require, Hours: "22:00-06:00"}, bypass(nil)}, "cannot match its hours; logins that it and"},
		"keys from networks": {[]rules.Rule{bypass(func(r *rules.Rule) {
			r.Users, r.Keys, r.Sources = nil, []string{fingerprint}, []string{"10.0.0.0/8"}
		})}, "by its keys only"},
	} {
		t.Run(name, func(t *testing.T) {
			out := Write(c.rules)
			if len(out.Warnings) != 1 || !strings.Contains(out.Warnings[0], c.want) {
				t.Fatalf("warnings %q, want %q", out.Warnings, c.want)
			}
			newSSHD(t, out.Text)
		})
	}
}

func TestQuotable(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, `a b`: true, `a "b c" 'd'`: true, `it\'s`: true, `a "b \" c"`: true, `"it's"`: true,
		`it's`: false, `"`: false, `"\"`: false, `'\'`: false,
	} {
		if quotable(s) != want {
			t.Errorf("quotable(%q) is %v", s, !want)
		}
	}
}

// Whatever a rule holds, its text never leaves the lines that are made for it.
func FuzzWrite(f *testing.F) {
	f.Add("backup", "cron", "backup", "10.0.0.0/8", "ls")
	f.Add("x\nMatch all", "y\r\nPermitRootLogin yes", "a,b", "::/0", "a\nb")
	f.Fuzz(func(t *testing.T, name, reason, user, source, command string) {
		list := []rules.Rule{{Name: name, Reason: reason, Action: rules.Bypass, Users: []string{user}, Sources: []string{source}, Command: command}}
		if _, err := rules.Compile(list); err != nil {
			return
		}
		for line := range strings.Lines(Write(list).Text) {
			line = strings.TrimSuffix(line, "\n")
			if line != "" && line[0] != '#' && !strings.HasPrefix(line, "Match ") && !strings.HasPrefix(line, "    ") {
				t.Fatalf("stray line %q", line)
			}
			if strings.HasPrefix(line, "Match ") && line != "Match all" && line != "Match User "+patterns([]string{user})+" Address "+patterns([]string{source}) {
				t.Fatalf("stray block %q", line)
			}
		}
	})
}
