// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// world is a login with every fact known, and which of them are hidden. Groups
// are hidden one by one.
type world struct {
	user, service, target, command string
	source                         string // "": a local login
	keys                           []string
	certs                          []rules.Certificate
	at                             time.Time
	groups                         map[string]bool // of both kinds

	noTarget, noCommand, noSource, noKeys, noCerts, noTime bool
	noGroup                                                map[string]bool
}

func (w *world) facts() rules.Facts {
	in := func(_ context.Context, g string) rules.Truth {
		if w.noGroup[g] {
			return rules.Unknown
		}
		return of(w.groups[g])
	}
	f := rules.Facts{User: w.user, Service: w.service, Target: w.target, TargetUnknown: w.noTarget, Command: w.command, CommandUnknown: w.noCommand,
		Keys: w.keys, KeysUnknown: w.noKeys, Certificates: w.certs, CertificatesUnknown: w.noCerts, SourceUnknown: w.noSource, InGroup: in, InLDAPGroup: in}
	if w.source != "" {
		f.Source = netip.MustParseAddr(w.source)
	}
	if !w.noTime {
		f.Time = w.at
	}
	return f
}

// The oracle: the text of docs/explanation/rules.md once more, without a thought
// for speed. A truth is -1, 0 (unknown) or 1.

func oracleList(values []string, known bool, have []string, fits func(value, have string) bool) int {
	if len(values) == 0 {
		return 1
	}
	if !known {
		return 0
	}
	positive, fit := false, false
	for _, v := range values {
		negated := v[0] == '!'
		positive = positive || !negated
		for _, h := range have {
			if fits(strings.TrimPrefix(v, "!"), h) {
				if negated {
					return -1
				}
				fit = true
			}
		}
	}
	if positive && !fit {
		return -1
	}
	return 1
}

func oracleGroups(w *world, values []string) int {
	or, and, positive := -1, 1, false
	for _, v := range values {
		g, negated := strings.CutPrefix(v, "!")
		t := -1
		if w.groups[g] {
			t = 1
		}
		if w.noGroup[g] {
			t = 0
		}
		if negated {
			and = min(and, -t)
		} else {
			positive, or = true, max(or, t)
		}
	}
	if positive {
		and = min(and, or)
	}
	return and
}

func oracleGlob(pattern, s string) bool {
	q := regexp.QuoteMeta(pattern)
	return regexp.MustCompile("^(?s:" + strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(q) + ")$").MatchString(s)
}

func oracleEqual(a, b string) bool { return a == b }

func oracleNetwork(network, addr string) bool {
	p, err := netip.ParsePrefix(network)
	if err != nil {
		return network == addr
	}
	return p.Contains(netip.MustParseAddr(addr))
}

func some(values ...string) []string {
	return slices.DeleteFunc(values, func(s string) bool { return s == "" })
}

func oracleRule(w *world, r rules.Rule) int {
	t := min(
		oracleList(r.Users, true, some(w.user), oracleGlob),
		oracleList(r.Services, true, some(w.service), oracleGlob),
		oracleList(r.Targets, !w.noTarget, some(w.target), oracleGlob),
		oracleList(r.Commands, !w.noCommand, some(w.command), oracleGlob),
		oracleList(r.Sources, !w.noSource, some(w.source), oracleNetwork),
		oracleList(r.Keys, !w.noKeys, w.keys, oracleEqual),
		oracleGroups(w, r.Groups),
		oracleGroups(w, r.LDAPGroups))
	if len(r.Certificates) > 0 {
		c := -1
		for _, want := range r.Certificates {
			for _, have := range w.certs {
				if want.CA == have.CA {
					c = max(c, min(oracleList(want.Principals, true, have.Principals, oracleGlob), oracleList(want.KeyIDs, true, some(have.KeyID), oracleGlob)))
				}
			}
		}
		if w.noCerts {
			c = 0
		}
		t = min(t, c)
	}
	if r.Hours != "" || !r.NotAfter.IsZero() {
		c := 1
		if r.Hours != "" {
			hour := w.at.UTC().Hour()
			day := w.at.UTC().Weekday()
			if r.Hours == "22:00-06:00" && hour < 6 {
				day = w.at.UTC().AddDate(0, 0, -1).Weekday()
			}
			in := r.Hours == "22:00-06:00" && (hour >= 22 || hour < 6) || r.Hours == "06:00-22:00" && hour >= 6 && hour < 22
			if !in || !slices.Contains(r.Weekdays, strings.ToLower(day.String())[:3]) {
				c = -1
			}
		}
		if !r.NotAfter.IsZero() && w.at.After(r.NotAfter.Time) {
			c = -1
		}
		if w.noTime {
			c = 0
		}
		t = min(t, c)
	}
	return t
}

func oracle(w *world, list []rules.Rule) (rules.Action, int) {
	for i, r := range list {
		if t := oracleRule(w, r); t == 1 || t == 0 && r.Action != rules.Bypass {
			return r.Action, i
		}
	}
	return rules.Require, -1
}

// What worlds and rules are made of: few values, so that they meet.
var (
	someUsers    = []string{"alice", "alan", "bob", "root"}
	someServices = []string{"sshd", "sudo", "su"}
	someGroups   = []string{"ops", "dev", "lab"}
	someKeys     = []string{keyA, keyB}
	someSources  = []string{"10.0.4.7", "10.1.0.1", "2001:db8::1", ""}
	someCommands = []string{"/bin/ls", "/bin/ls /root", "/usr/bin/passwd bob"}
)

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// list is up to two values, some negated.
func randomList(r *rand.Rand, from ...string) []string {
	var out []string
	for range r.IntN(3) {
		v := pick(r, from)
		if r.IntN(3) == 0 {
			v = "!" + v
		}
		out = append(out, v)
	}
	return out
}

var epoch = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

func randomWorld(r *rand.Rand) *world {
	w := &world{user: pick(r, someUsers), service: pick(r, someServices), source: pick(r, someSources), at: epoch.Add(time.Duration(r.IntN(7*24*60)) * time.Minute), groups: map[string]bool{}, noGroup: map[string]bool{}}
	if w.service != "sshd" {
		w.target = pick(r, someUsers)
	}
	if w.service == "sudo" {
		w.command = pick(r, someCommands)
	}
	for _, k := range someKeys {
		if r.IntN(3) == 0 {
			w.keys = append(w.keys, k)
		}
	}
	for range r.IntN(3) {
		w.certs = append(w.certs, rules.Certificate{CA: pick(r, []string{"ops", "dev"}), KeyID: pick(r, []string{"ci-1", "hand"}), Principals: randomNames(r)})
	}
	for _, g := range someGroups {
		w.groups[g] = r.IntN(2) == 0
	}
	return w
}

func randomNames(r *rand.Rand) []string {
	var out []string
	for _, u := range someUsers {
		if r.IntN(3) == 0 {
			out = append(out, u)
		}
	}
	return out
}

// hide makes some known facts unknown.
func (w *world) hide(r *rand.Rand) {
	for _, f := range []*bool{&w.noTarget, &w.noCommand, &w.noSource, &w.noKeys, &w.noCerts, &w.noTime} {
		*f = *f || r.IntN(4) == 0
	}
	for _, g := range someGroups {
		w.noGroup[g] = w.noGroup[g] || r.IntN(4) == 0
	}
}

func randomRule(r *rand.Rand, i int) rules.Rule {
	rule := rules.Rule{Name: fmt.Sprint("rule ", i), Reason: "r", Broad: true, Action: pick(r, []rules.Action{rules.Require, rules.Bypass, rules.Bypass, rules.Deny})}
	may := func(n int) bool { return r.IntN(n) == 0 }
	if may(2) {
		rule.Users = randomList(r, "alice", "al*", "*", "?ob", "root")
	}
	if may(3) {
		rule.Groups = randomList(r, someGroups...)
	}
	if may(4) {
		rule.LDAPGroups = randomList(r, someGroups...)
	}
	if may(4) {
		rule.Weekdays, rule.Hours, rule.Timezone = []string{"fri", "sat", "tue"}, pick(r, []string{"22:00-06:00", "06:00-22:00"}), "UTC"
	}
	if may(4) {
		rule.NotAfter.Time = epoch.Add(time.Duration(r.IntN(7*24)) * time.Hour)
	}
	switch r.IntN(4) {
	case 0:
		rule.Services = []string{"sshd"}
		rule.Keys = randomList(r, someKeys...)
		rule.Sources = randomList(r, "10.0.0.0/8", "10.0.4.7", "2001:db8::/32")
		if may(2) {
			rule.Certificates = []rules.Certificates{{CA: pick(r, []string{"ops", "dev"}), Principals: randomList(r, "alice", "al*", "root"), KeyIDs: randomList(r, "ci-*", "hand")}}
		}
	case 1:
		rule.Services = []string{"sudo"}
		if rule.Action != rules.Bypass {
			rule.Targets, rule.Commands = randomList(r, "root", "*o*"), randomList(r, "/bin/ls", "/bin/ls*", "*passwd*", "/bin/l?")
		}
	case 2:
		rule.Services = randomList(r, "sshd", "su*", "su", "*")
	case 3:
		rule.Sources = randomList(r, "10.0.0.0/8", "10.0.4.7", "::/0")
		rule.Keys = randomList(r, someKeys...)
		for _, s := range []*[]string{&rule.Sources, &rule.Keys} {
			if may(2) {
				*s = nil
			}
		}
	}
	return rule
}

func randomRules(r *rand.Rand) []rules.Rule {
	list := make([]rules.Rule, r.IntN(8))
	for i := range list {
		list[i] = randomRule(r, i)
	}
	return list
}

// checkWorld compares a set with the oracle, and with itself when less is known.
func checkWorld(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	list := randomRules(r)
	set, err := rules.Compile(list)
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	w := randomWorld(r)
	ctx := context.Background()
	before := rules.Action("")
	for range 3 {
		f := w.facts()
		got, why := set.Decide(ctx, f), set.Explain(ctx, f)
		action, index := oracle(w, list)
		name := ""
		if index >= 0 {
			name = list[index].Name
		}
		if got.Action != action || got.RuleName() != name {
			t.Fatalf("seed %d: %s by %q, the oracle says %s by %q\n%+v\n%s", seed, got.Action, got.RuleName(), action, name, w, why.Text())
		}
		if why.Decision != got {
			t.Fatalf("seed %d: explained is %+v, decided %+v", seed, why.Decision, got)
		}
		if got.Action == rules.Bypass && before != "" && before != rules.Bypass {
			t.Fatalf("seed %d: less is known, and %s became a bypass\n%s", seed, before, why.Text())
		}
		before = got.Action
		w.hide(r)
	}
}

func TestAgainstTheOracle(t *testing.T) {
	for seed := range uint64(5_000) {
		checkWorld(t, seed)
	}
}

func FuzzDecide(f *testing.F) {
	f.Add([]byte("seed"))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkWorld(t, binary.LittleEndian.Uint64(append(b, make([]byte, 8)...)))
	})
}

// Whatever stands in a file of rules, it is refused or decides.
func FuzzParse(f *testing.F) {
	f.Add("[[rules]]\nname = \"a\"\nreason = \"b\"\naction = \"bypass\"\nusers = [\"x\", \"!y*\"]\nkeys = [\"" + keyA + "\"]\nnot_after = 2026-12-31\n")
	f.Add("[[rules]]\naction = \"deny\"\nservices = [\"sudo\"]\ncommands = [\"!/bin/ls\"]\nweekdays = [\"mon-fri\"]\nhours = \"22:00-06:00\"\ntimezone = \"Europe/Berlin\"\n")
	f.Add("[[rules]]\naction = \"require\"\ncertificates = [{ca = \"ops\", principals = [\"x\"]}]\nfactors = [\"push\"]\nattempts = 2\n")
	f.Fuzz(func(t *testing.T, text string) {
		list, err := rules.Parse("f", text)
		if err != nil {
			return
		}
		set, err := rules.Compile(list)
		if err != nil {
			return
		}
		for _, r := range set.Rules() {
			if r.Action == rules.Bypass && (r.Name == "" || r.Reason == "" || len(r.Commands)+len(r.Targets) > 0) {
				t.Errorf("accepted %+v", r)
			}
		}
		ctx := context.Background()
		f := rules.Facts{User: "alice", Service: "sudo", Time: epoch, TargetUnknown: true, CommandUnknown: true}
		if got, why := set.Decide(ctx, f), set.Explain(ctx, f); got != why.Decision {
			t.Errorf("decided %+v, explained %+v", got, why.Decision)
		}
	})
}

func FuzzGlob(f *testing.F) {
	f.Add("a*b?c", "aXXbYc")
	f.Add("*é?", "xéß")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 64 || len(s) > 64 || !printable(pattern) || !printable(s) || s == "" {
			return
		}
		set, err := rules.Compile([]rules.Rule{{Action: rules.Deny, Services: []string{"sudo"}, Commands: []string{pattern}}})
		if err != nil || pattern[0] == '!' {
			return
		}
		got := set.Decide(context.Background(), rules.Facts{Service: "sudo", Command: s}).Action == rules.Deny
		if want := oracleGlob(pattern, s); got != want {
			t.Errorf("%q on %q: %v, want %v", pattern, s, got, want)
		}
	})
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r == 0x7f || r == 0xfffd })
}
