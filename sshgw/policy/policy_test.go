// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/tomlfile"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
)

const keyA = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func rules(t testing.TB, text string) (*policy.Set, error) {
	t.Helper()
	var file struct {
		Rule []policy.Rule `toml:"rule"`
	}
	if err := tomlfile.Decode("sshgw.toml", text, &file); err != nil {
		t.Fatal(err)
	}
	policy.Locate(file.Rule, "sshgw.toml", text)
	return policy.Compile(file.Rule)
}

func set(t testing.TB, text string) *policy.Set {
	t.Helper()
	s, err := rules(t, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var db1 = &inventory.Target{Name: "db1", Aliases: []string{"primary"}, Host: "10.0.0.1", Port: 22,
	Groups: []string{"databases"}, Labels: map[string]string{"env": "prod"}}

var friday = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func query() policy.Query {
	return policy.Query{
		Account: directory.Account{Name: "alice"},
		InGroup: func(_ context.Context, g string) (bool, error) {
			if g == "unknown" {
				return false, errors.New("nobody answers")
			}
			return g == "dba", nil
		},
		Key: keyA, Source: netip.MustParseAddr("192.0.2.7"), Time: friday, Target: db1, Login: "alice",
	}
}

// allow is a rule for alice that says more.
func allow(more string) string {
	return "[[rule]]\nname = \"r\"\nusers = [\"alice\"]\ntargets = [\"*\"]\n" + more + "\n"
}

func TestNoRuleIsNoWay(t *testing.T) {
	for name, s := range map[string]*policy.Set{"nil": nil, "none": set(t, ""), "of another": set(t, "[[rule]]\nname='r'\nusers=['bob']\ntargets=['*']\n")} {
		g := s.Decide(t.Context(), query())
		if g.Allowed || g.Reason != policy.ReasonNoRule || g.Shell || g.MayExec("true") || g.MayEnv("LANG") {
			t.Errorf("%s: %+v", name, g)
		}
	}
	if g := set(t, allow("")).Decide(t.Context(), policy.Query{Account: directory.Account{Name: "alice"}}); g.Allowed {
		t.Errorf("without a target: %+v", g)
	}
}

func TestTheZeroGrantPermitsNothing(t *testing.T) {
	var g policy.Grant
	may, unrestricted := g.MaySFTP()
	forward, exact := g.MayForward("db1", 22)
	unix, unixExact := g.MayForwardUnix("/run/x")
	if g.Allowed || g.Raw || g.Shell || g.Agent || g.X11 || may || unrestricted || forward || exact || unix || unixExact ||
		g.MayExec("true") || g.MaySubsystem("netconf") || g.MayRead("/") || g.MayWrite("/") || g.MayListen("localhost", 80) || g.MayListenUnix("/x") || g.MayEnv("LANG") {
		t.Errorf("%+v", g)
	}
}

func TestConditions(t *testing.T) {
	for name, c := range map[string]struct {
		rule string
		want bool
	}{
		"user":                  {"users=['alice']\ntargets=['*']", true},
		"user is negated":       {"users=['*','!alice']\ntargets=['*']", false},
		"pattern of users":      {"users=['al*']\ntargets=['*']", true},
		"group":                 {"groups=['dba']\ntargets=['*']", true},
		"no group":              {"groups=['web']\ntargets=['*']", false},
		"unknown group":         {"groups=['unknown']\ntargets=['*']", false},
		"not in unknown group":  {"users=['*']\ngroups=['!unknown']\ntargets=['*']", false},
		"one group is known":    {"groups=['unknown','dba']\ntargets=['*']", true},
		"key":                   {"keys=['" + keyA + "']\ntargets=['*']", true},
		"key is negated":        {"users=['*']\nkeys=['!" + keyA + "']\ntargets=['*']", false},
		"source":                {"users=['*']\nsources=['192.0.2.0/24']\ntargets=['*']", true},
		"another source":        {"users=['*']\nsources=['10.0.0.0/8']\ntargets=['*']", false},
		"name of target":        {"users=['*']\ntargets=['db1']", true},
		"name in upper case":    {"users=['*']\ntargets=['DB1.']", true},
		"alias":                 {"users=['*']\ntargets=['primary']", true},
		"pattern of an alias":   {"users=['*']\ntargets=['prim*']", false},
		"alias is negated":      {"users=['*']\ntargets=['*','!primary']", false},
		"pattern":               {"users=['*']\ntargets=['db*']", true},
		"label":                 {"users=['*']\ntargets=['label:env=prod']", true},
		"label by pattern":      {"users=['*']\ntargets=['label:env=p*']", true},
		"another label":         {"users=['*']\ntargets=['label:env=test']", false},
		"label that is not":     {"users=['*']\ntargets=['label:room=*']", false},
		"group of targets":      {"users=['*']\ntargets=['group:databases']", true},
		"group is negated":      {"users=['*']\ntargets=['*','!group:databases']", false},
		"own login":             {"users=['*']\ntargets=['*']\nlogins=['%u']", true},
		"another login":         {"users=['*']\ntargets=['*']\nlogins=['root']", false},
		"own login or another":  {"users=['*']\ntargets=['*']\nlogins=['root','%u']", true},
		"any login but own":     {"users=['*']\ntargets=['*']\nlogins=['*','!%u']", false},
		"own login, negated":    {"users=['*']\ntargets=['*']\nlogins=['%u','!al*']", false},
		"none but negated":      {"users=['*']\ntargets=['*']\nlogins=['!root']", true},
		"weekday":               {"users=['*']\ntargets=['*']\nweekdays=['mon-fri']\ntimezone='UTC'", true},
		"weekend":               {"users=['*']\ntargets=['*']\nweekdays=['sat-sun']\ntimezone='UTC'", false},
		"hours":                 {"users=['*']\ntargets=['*']\nhours='11:00-13:00'\ntimezone='UTC'", true},
		"hours of another zone": {"users=['*']\ntargets=['*']\nhours='11:00-13:00'\ntimezone='Asia/Tokyo'", false},
		"it is over":            {"users=['*']\ntargets=['*']\nnot_after=2026-11-19\ntimezone='UTC'", false},
		"its last day":          {"users=['*']\ntargets=['*']\nnot_after=2026-11-20\ntimezone='UTC'", true},
	} {
		g := set(t, "[[rule]]\nname='r'\n"+c.rule+"\n").Decide(t.Context(), query())
		if g.Allowed != c.want {
			t.Errorf("%s: allowed %t (%s)", name, g.Allowed, g.Reason)
		}
	}
}

// What is not known never opens, and always shuts.
func TestTheUnknownDenies(t *testing.T) {
	deny := "[[rule]]\nname='no'\naction='deny'\n%s\n" + allow("")
	for name, c := range map[string]struct {
		rule   string
		change func(q *policy.Query)
	}{
		"group":      {"groups=['unknown']", func(*policy.Query) {}},
		"nobody":     {"groups=['web']", func(q *policy.Query) { q.InGroup = nil }},
		"source":     {"sources=['10.0.0.0/8']", func(q *policy.Query) { q.Source = netip.Addr{} }},
		"time":       {"hours='01:00-02:00'", func(q *policy.Query) { q.Time = time.Time{} }},
		"not source": {"sources=['!192.0.2.7']", func(q *policy.Query) { q.Source = netip.Addr{} }},
	} {
		q := query()
		c.change(&q)
		if g := set(t, strings.Replace(deny, "%s", c.rule, 1)).Decide(t.Context(), q); g.Allowed || g.Rule != "no" || g.Reason != policy.ReasonUnknown {
			t.Errorf("%s: %+v", name, g)
		}
	}
}

func TestEachGroupIsAskedForOnce(t *testing.T) {
	text := ""
	for i := range 50 {
		text += "[[rule]]\nname='r" + string(rune('A'+i)) + "'\nusers=['*']\ngroups=['web','!dba']\ntargets=['*']\n"
	}
	asked := map[string]int{}
	q := query()
	q.InGroup = func(_ context.Context, g string) (bool, error) { asked[g]++; return false, nil }
	set(t, text).Decide(t.Context(), q)
	if asked["web"] != 1 || asked["dba"] > 1 {
		t.Errorf("asked %v", asked)
	}
}

func TestTheFirstRuleDecidesAlone(t *testing.T) {
	s := set(t, `
[[rule]]
name = "reading"
users = ["alice"]
targets = ["group:databases"]
sftp_read = ["/srv/**"]

[[rule]]
name = "all"
users = ["*"]
targets = ["*"]
`)
	g := s.Decide(t.Context(), query())
	if !g.Allowed || g.Rule != "reading" || g.Shell || g.MayExec("true") || !g.MayRead("/srv/a") || g.MayWrite("/srv/a") || g.Raw {
		t.Errorf("%+v", g)
	}
	q := query()
	q.Account.Name, q.Login = "bob", "bob"
	if g := s.Decide(t.Context(), q); g.Rule != "all" || !g.Shell || !g.Raw {
		t.Errorf("bob: %+v", g)
	}
}

// A rule that names nothing that may be done permits all; one that names something, that alone.
func TestWhatARulePermits(t *testing.T) {
	g := set(t, allow("")).Decide(t.Context(), query())
	may, unrestricted := g.MaySFTP()
	forward, exact := g.MayForward("anything.example", 22)
	if !g.Raw || !g.Shell || !g.Agent || !g.X11 || !g.MayExec("a; b") || !g.MaySubsystem("netconf") || !may || !unrestricted || !forward || exact ||
		!g.MayRead("/etc") || !g.MayListen("", 80) || !g.MayEnv("FOO") || g.MayEnv("A=B") {
		t.Errorf("%+v", g)
	}
	g = set(t, allow("agent = true")).Decide(t.Context(), query())
	may, _ = g.MaySFTP()
	forward, _ = g.MayForward("anything.example", 22)
	if g.Raw || g.Shell || !g.Agent || g.X11 || g.MayExec("true") || g.MaySubsystem("netconf") || may || forward || g.MayListen("localhost", 80) || g.MayEnv("FOO") || !g.MayEnv("LC_ALL") {
		t.Errorf("%+v", g)
	}
}

// SFTP has paths that are permitted; as any subsystem it would have none that are not.
func TestSFTPIsNoSubsystemAmongOthers(t *testing.T) {
	for _, more := range []string{"", "subsystems = ['*']", "subsystems = ['s*', 'netconf']"} {
		g := set(t, allow(more)).Decide(t.Context(), query())
		if g.MaySubsystem("sftp") || !g.MaySubsystem("netconf") {
			t.Errorf("%q: sftp %t, netconf %t", more, g.MaySubsystem("sftp"), g.MaySubsystem("netconf"))
		}
	}
}

func TestRawNeedsNothingToLookAt(t *testing.T) {
	for more, want := range map[string]bool{
		"":                       true,
		"mode = 'raw'":           true,
		"mode = 'terminated'":    false,
		"record = 'on'":          false,
		"record = 'required'":    false,
		"step_up = true":         false,
		"exec = ['*']":           false,
		"logins = ['root','%u']": false,
		"logins = ['*']":         true,
		"env = ['*']":            false,
		"record = 'off'":         true,
	} {
		if g := set(t, allow(more)).Decide(t.Context(), query()); !g.Allowed || g.Raw != want {
			t.Errorf("%s: %+v", more, g)
		}
	}
}

// A jump does not say who it will be at the target: it goes through unseen only if that makes
// no difference.
func TestAJumpWhoseLoginDecidesIsNotRaw(t *testing.T) {
	for name, c := range map[string]struct {
		rules                   string
		allowed, unsettled, raw bool
	}{
		"no logins":                 {allow(""), true, false, true},
		"any login":                 {allow("logins=['*']"), true, false, true},
		"some logins":               {allow("logins=['root']"), true, true, false},
		"recorded":                  {allow("record='required'"), true, true, false},
		"a login is denied before":  {"[[rule]]\nname='no'\naction='deny'\nlogins=['root']\n" + allow(""), true, true, false},
		"denied before, none after": {"[[rule]]\nname='no'\naction='deny'\nlogins=['root']\n", false, false, false},
		"a login is denied after":   {allow("") + "[[rule]]\nname='no'\naction='deny'\nlogins=['root']\n", true, true, false},
		"all are denied after":      {allow("") + "[[rule]]\nname='no'\naction='deny'\ntargets=['*']\n", true, false, true},
		"any login, denied after":   {allow("logins=['*']") + "[[rule]]\nname='no'\naction='deny'\nlogins=['root']\n", true, false, true},
		"some login at another":     {"[[rule]]\nname='x'\nusers=['*']\ntargets=['web']\nlogins=['root']\n", false, false, false},
	} {
		q := query()
		q.Login = ""
		g := set(t, c.rules).Decide(t.Context(), q)
		if g.Allowed != c.allowed || g.Unsettled != c.unsettled || g.Raw != c.raw {
			t.Errorf("%s: %+v", name, g)
		}
		if g.Unsettled && (g.Shell || g.MayExec("true") || g.MayRead("/")) {
			t.Errorf("%s: something may be done before it is settled", name)
		}
	}
}

func TestErrorsNameRuleAndLine(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"no name":            {"[[rule]]\nusers=['a']\ntargets=['*']\n", "sshgw.toml:1: rule 1 (\"\"): name is missing"},
		"name twice":         {allow("") + allow(""), "sshgw.toml:6: rule 2 (\"r\"): name is that of sshgw.toml:1: rule 1"},
		"action":             {allow("action='permit'"), `action "permit" is none of`},
		"mode":               {allow("mode='x'"), `mode "x" is none of`},
		"record":             {allow("record='x'"), `record "x" is none of`},
		"input alone":        {allow("record_input=true"), "record_input says nothing without record"},
		"nobody":             {"[[rule]]\nname='r'\ntargets=['*']\n", "users, groups or keys"},
		"no target":          {"[[rule]]\nname='r'\nusers=['a']\n", "names targets"},
		"raw with limits":    {allow("mode='raw'\nexec=['*']\nrecord='on'"), `mode = "raw": the gateway would have to look inside for exec, record`},
		"raw with logins":    {allow("mode='raw'\nlogins=['root']"), "logins"},
		"deny with limits":   {allow("action='deny'\nexec=['*']"), "a deny rule refuses the target altogether; exec"},
		"group by pattern":   {allow("groups=['a*']"), "groups are asked for by name"},
		"host bits":          {allow("sources=['10.0.0.1/8']"), "did you mean 10.0.0.0/8"},
		"fingerprint":        {allow("keys=['MD5:x']"), "is not a fingerprint"},
		"target":             {"[[rule]]\nname='r'\nusers=['a']\ntargets=['d b']\n", "neither the name of a target"},
		"homograph":          {"[[rule]]\nname='r'\nusers=['a']\ntargets=['dbа1']\n", "neither the name of a target"},
		"label":              {"[[rule]]\nname='r'\nusers=['a']\ntargets=['label:env']\n", "label:key=value"},
		"percent in a login": {allow("logins=['x%u']"), "%u stands by itself"},
		"relative path":      {allow("sftp_read=['srv/**']"), "no pattern of absolute paths"},
		"path that climbs":   {allow("sftp_read=['/srv/../etc/**']"), "no pattern of absolute paths"},
		"percent in a path":  {allow("sftp_read=['/home/%x/**']"), "%u is the user's name"},
		"metacharacter":      {allow("exec=['ls; rm *']"), "or else * alone"},
		"wildcard program":   {allow("exec=['* --version']"), "the program must be named"},
		"negated forward":    {allow("forward=['!db:22']"), "nothing is negated here"},
		"no port":            {allow("forward=['db']"), "host:port"},
		"bad port":           {allow("forward=['db:0x16']"), "neither a port"},
		"wild address":       {allow("forward=['10.*:22']"), "networks are written"},
		"bare IPv6":          {allow("forward=['2001:db8::1:22']"), "stands in brackets"},
		"sftp as subsystem":  {allow("subsystems=['sftp']"), "sftp_read"},
		"time zone alone":    {allow("timezone='UTC'"), "says nothing without"},
	} {
		if _, err := rules(t, c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// What explain says is what is decided.
func TestExplainAgreesWithDecide(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	seen := map[string]int{}
	for range 3000 {
		text := ""
		for i := range 1 + r.IntN(5) {
			text += fmt.Sprintf("[[rule]]\nname='r%d'\nusers=[%s]\ntargets=[%s]\n%s\n%s\n%s\n%s\n", i,
				pick("'alice'", "'*'", "'bob'", "'!alice'", "'a*'"), pick("'db1'", "'*'", "'label:env=prod'", "'!db1'", "'web'", "'*','!group:databases'"),
				pick("", "", "groups=['dba']", "groups=['unknown']", "groups=['!unknown']", "groups=['web']"),
				pick("", "logins=['root']", "logins=['*']", "logins=['*','!root']", "logins=['!%u']"),
				pick("", "", "action='deny'", "record='on'"), pick("", "", "sources=['192.0.2.0/24']", "hours='13:00-14:00'\ntimezone='UTC'"))
		}
		s := set(t, text)
		q := query()
		q.Login = pick("", "alice", "root")
		g, e := s.Decide(t.Context(), q), s.Explain(t.Context(), q)
		if e.Grant.Rule != g.Rule || e.Grant.Allowed != g.Allowed || e.Grant.Reason != g.Reason {
			t.Fatalf("%s\ndecided %+v, explained %+v", text, g, e.Grant)
		}
		seen[g.Reason]++
		last := e.Steps[len(e.Steps)-1]
		switch {
		case g.Unsettled:
			if q.Login != "" || g.Raw || g.Shell {
				t.Fatalf("%s\n%+v", text, g)
			}
		case g.Rule != "" && (!last.Matched || last.Rule.Name != g.Rule):
			t.Fatalf("%s\ndecided by %q, and the last step is %+v", text, g.Rule, last)
		case g.Rule == "" && last.Matched:
			t.Fatalf("%s\nno rule decides, and %+v matches", text, last)
		}
		for _, step := range e.Steps[:len(e.Steps)-1] {
			if step.Matched {
				t.Fatalf("%s\nrule %q matches and does not decide", text, step.Rule.Name)
			}
		}
		// A login that a rule denies by name is not reached by a jump that goes through raw.
		if q.Login == "" && g.Raw {
			for _, login := range []string{"alice", "root", "other"} {
				q.Login = login
				denied := false
				h := s.Decide(t.Context(), q)
				for _, rule := range s.Rules() {
					denied = denied || rule.Name == h.Rule && rule.Action == policy.Deny && len(rule.Logins) > 0
				}
				if denied || h.Allowed && !h.Raw && h.Rule == g.Rule {
					t.Fatalf("%s\na jump is raw, and as %s %+v", text, login, h)
				}
			}
		}
	}
	for _, reason := range []string{policy.ReasonRule, policy.ReasonNoRule, policy.ReasonDenied, policy.ReasonUnknown, policy.ReasonLogin} {
		if seen[reason] < 20 {
			t.Errorf("%s was seen %d times: this test shows little of it", reason, seen[reason])
		}
	}
}
