// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// Each condition alone, in a deny rule and in a require rule that says "not
// unless", so that the table shows true, false and unknown apart.
func TestConditions(t *testing.T) {
	sudo := func(change func(*rules.Facts)) rules.Facts {
		f := rules.Facts{User: "alice", Service: "sudo", Target: "root", Command: "/usr/bin/systemctl restart nginx",
			InGroup: func(_ context.Context, g string) rules.Truth {
				return map[string]rules.Truth{"ops": rules.True, "gone": rules.Unknown}[g]
			},
			InLDAPGroup: func(_ context.Context, g string) rules.Truth { return map[string]rules.Truth{"staff": rules.True}[g] }}
		if change != nil {
			change(&f)
		}
		return f
	}
	services := func(r rules.Rule) rules.Rule {
		r.Services = []string{"sudo", "sshd"}
		if r.Targets != nil || r.Commands != nil {
			r.Services = []string{"sudo"}
		}
		if r.Sources != nil || r.Keys != nil || r.Certificates != nil {
			r.Services = nil
		}
		return r
	}
	from := func(addr string) rules.Facts { return rules.Facts{Service: "sshd", Source: netip.MustParseAddr(addr)} }
	certs := func(c ...rules.Certificate) rules.Facts { return rules.Facts{Service: "sshd", Certificates: c} }
	deploy := rules.Certificate{CA: "ops", KeyID: "ci-42", Principals: []string{"deploy", "web"}}

	for name, tc := range map[string]struct {
		rule  rules.Rule
		facts rules.Facts
		want  rules.Truth
	}{
		"user":                           {rules.Rule{Users: []string{"bob", "alice"}}, sudo(nil), rules.True},
		"user, pattern":                  {rules.Rule{Users: []string{"a*e"}}, sudo(nil), rules.True},
		"user, other pattern":            {rules.Rule{Users: []string{"a?e"}}, sudo(nil), rules.False},
		"user, nobody else":              {rules.Rule{Users: []string{"!bob"}}, sudo(nil), rules.True},
		"user, but not this one":         {rules.Rule{Users: []string{"*", "!alice"}}, sudo(nil), rules.False},
		"user, pattern negated":          {rules.Rule{Users: []string{"!al*"}}, sudo(nil), rules.False},
		"user, domain":                   {rules.Rule{Users: []string{`EX\*`}}, rules.Facts{User: `EX\alice`, Service: "sudo"}, rules.True},
		"order of negation says nothing": {rules.Rule{Users: []string{"!alice", "alice"}}, sudo(nil), rules.False},
		"service":                        {rules.Rule{Services: []string{"su*"}}, sudo(nil), rules.True},

		"group":                       {rules.Rule{Groups: []string{"ops"}}, sudo(nil), rules.True},
		"group, other":                {rules.Rule{Groups: []string{"dev"}}, sudo(nil), rules.False},
		"group, unknown":              {rules.Rule{Groups: []string{"gone"}}, sudo(nil), rules.Unknown},
		"group, true or unknown":      {rules.Rule{Groups: []string{"gone", "ops"}}, sudo(nil), rules.True},
		"group, not unknown":          {rules.Rule{Groups: []string{"!gone"}}, sudo(nil), rules.Unknown},
		"group, true but not unknown": {rules.Rule{Groups: []string{"ops", "!gone"}}, sudo(nil), rules.Unknown},
		"group, unknown but not true": {rules.Rule{Groups: []string{"gone", "!ops"}}, sudo(nil), rules.False},
		"group, nobody to ask":        {rules.Rule{Groups: []string{"ops"}}, rules.Facts{Service: "sudo"}, rules.Unknown},
		"LDAP group":                  {rules.Rule{LDAPGroups: []string{"staff"}}, sudo(nil), rules.True},
		"LDAP group is no Unix group": {rules.Rule{LDAPGroups: []string{"ops"}}, sudo(nil), rules.False},
		"LDAP group, nobody to ask":   {rules.Rule{LDAPGroups: []string{"!staff"}}, rules.Facts{Service: "sudo"}, rules.Unknown},

		"target":                {rules.Rule{Targets: []string{"root"}}, sudo(nil), rules.True},
		"target, other":         {rules.Rule{Targets: []string{"!root"}}, sudo(nil), rules.False},
		"target, unknown":       {rules.Rule{Targets: []string{"!root"}}, sudo(func(f *rules.Facts) { f.TargetUnknown = true }), rules.Unknown},
		"command":               {rules.Rule{Commands: []string{"/usr/bin/systemctl restart *"}}, sudo(nil), rules.True},
		"command, all but":      {rules.Rule{Commands: []string{"!/usr/bin/systemctl restart *"}}, sudo(nil), rules.False},
		"command, longer":       {rules.Rule{Commands: []string{"/usr/bin/systemctl"}}, sudo(nil), rules.False},
		"command with brackets": {rules.Rule{Commands: []string{"/bin/[ *"}}, sudo(func(f *rules.Facts) { f.Command = "/bin/[ -e x" }), rules.True},
		"command, unknown":      {rules.Rule{Commands: []string{"/bin/ls"}}, sudo(func(f *rules.Facts) { f.CommandUnknown = true }), rules.Unknown},

		"network but for a host":         {rules.Rule{Sources: []string{"10.0.0.0/8", "!10.0.4.7"}}, from("10.0.4.7"), rules.False},
		"network, other host":            {rules.Rule{Sources: []string{"10.0.0.0/8", "!10.0.4.7"}}, from("10.0.4.8"), rules.True},
		"outside of a network":           {rules.Rule{Sources: []string{"!10.0.0.0/8"}}, from("2001:db8::1"), rules.True},
		"no address is in no network":    {rules.Rule{Sources: []string{"!10.0.0.0/8"}}, rules.Facts{Service: "login"}, rules.True},
		"unknown address":                {rules.Rule{Sources: []string{"!10.0.0.0/8"}}, rules.Facts{Service: "sshd", SourceUnknown: true}, rules.Unknown},
		"any key but one":                {rules.Rule{Keys: []string{"!" + keyA}}, rules.Facts{Service: "sshd", Keys: []string{keyB}}, rules.True},
		"any key but one, and it is it":  {rules.Rule{Keys: []string{"!" + keyA}}, rules.Facts{Service: "sshd", Keys: []string{keyB, keyA}}, rules.False},
		"any key but one, key not known": {rules.Rule{Keys: []string{"!" + keyA}}, rules.Facts{Service: "sshd", KeysUnknown: true}, rules.Unknown},

		"certificate":                     {rules.Rule{Certificates: []rules.Certificates{{CA: "ops"}}}, certs(deploy), rules.True},
		"certificate of another CA":       {rules.Rule{Certificates: []rules.Certificates{{CA: "dev"}}}, certs(deploy), rules.False},
		"certificate, none":               {rules.Rule{Certificates: []rules.Certificates{{CA: "ops"}}}, certs(), rules.False},
		"certificate, not known":          {rules.Rule{Certificates: []rules.Certificates{{CA: "ops"}}}, rules.Facts{Service: "sshd", CertificatesUnknown: true}, rules.Unknown},
		"certificate for a principal":     {rules.Rule{Certificates: []rules.Certificates{{CA: "ops", Principals: []string{"db", "w*"}}}}, certs(deploy), rules.True},
		"certificate but for a principal": {rules.Rule{Certificates: []rules.Certificates{{CA: "ops", Principals: []string{"deploy", "!web"}}}}, certs(deploy), rules.False},
		"certificate with a key id":       {rules.Rule{Certificates: []rules.Certificates{{CA: "ops", KeyIDs: []string{"ci-*"}}}}, certs(deploy), rules.True},
		"certificate, both":               {rules.Rule{Certificates: []rules.Certificates{{CA: "ops", Principals: []string{"deploy"}, KeyIDs: []string{"hand-*"}}}}, certs(deploy), rules.False},
		"certificates do not add up": {rules.Rule{Certificates: []rules.Certificates{{CA: "ops", Principals: []string{"deploy"}, KeyIDs: []string{"hand-*"}}}},
			certs(deploy, rules.Certificate{CA: "ops", KeyID: "hand-1"}), rules.False},
		"certificate for nobody": {rules.Rule{Certificates: []rules.Certificates{{CA: "ops", Principals: []string{"deploy"}}}}, certs(rules.Certificate{CA: "ops"}), rules.False},
	} {
		t.Run(name, func(t *testing.T) {
			r := services(tc.rule)
			r.Name, r.Action = "r", rules.Deny
			e := mustCompile(t, r).Explain(context.Background(), tc.facts)
			if got := e.Steps[0].Truth; got != tc.want {
				t.Errorf("%s, want %s\n%s", got, tc.want, e.Text())
			}
		})
	}
}

func TestHours(t *testing.T) {
	zone := func(name string) *time.Location {
		l, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	berlin, kolkata := zone("Europe/Berlin"), zone("Asia/Kolkata")
	work := rules.Rule{Weekdays: []string{"mon-fri"}, Hours: "09:00-17:30", Timezone: "Europe/Berlin"}
	night := rules.Rule{Weekdays: []string{"fri", "saturday"}, Hours: "22:00-06:00", Timezone: "Europe/Berlin"}
	early := rules.Rule{Hours: "02:00-03:00", Timezone: "Europe/Berlin"}
	for name, tc := range map[string]struct {
		rule rules.Rule
		at   time.Time
		want rules.Truth
	}{
		"at work":                 {work, time.Date(2026, 7, 15, 9, 0, 0, 0, berlin), rules.True},
		"the last second":         {work, time.Date(2026, 7, 15, 17, 29, 59, 0, berlin), rules.True},
		"the end is out":          {work, time.Date(2026, 7, 15, 17, 30, 0, 0, berlin), rules.False},
		"on Sunday":               {work, time.Date(2026, 7, 19, 12, 0, 0, 0, berlin), rules.False},
		"by the rule's clock":     {work, time.Date(2026, 7, 15, 12, 29, 0, 0, kolkata), rules.False}, // 08:59 in Berlin
		"by the rule's clock too": {work, time.Date(2026, 7, 15, 12, 31, 0, 0, kolkata), rules.True},
		"clock not known":         {work, time.Time{}, rules.Unknown},

		"Friday evening":                  {night, time.Date(2026, 7, 17, 22, 0, 0, 0, berlin), rules.True},
		"still Friday's night":            {night, time.Date(2026, 7, 18, 5, 59, 0, 0, berlin), rules.True},
		"Friday's early morning":          {night, time.Date(2026, 7, 17, 5, 0, 0, 0, berlin), rules.False},
		"Saturday's night ends on Sunday": {night, time.Date(2026, 7, 19, 3, 0, 0, 0, berlin), rules.True},
		"Sunday's night does not begin":   {night, time.Date(2026, 7, 19, 23, 0, 0, 0, berlin), rules.False},
		"between the nights":              {night, time.Date(2026, 7, 18, 12, 0, 0, 0, berlin), rules.False},

		// 2026-03-29 has no 02:30 in Berlin, 2026-10-25 has two.
		"before the lost hour":   {early, time.Date(2026, 3, 29, 0, 59, 0, 0, time.UTC), rules.False}, // 01:59 CET
		"after the lost hour":    {early, time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), rules.False},  // 03:00 CEST
		"first of two hours":     {early, time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC), rules.True}, // 02:30 CEST
		"second of two hours":    {early, time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC), rules.True}, // 02:30 CET
		"after both":             {early, time.Date(2026, 10, 25, 2, 0, 0, 0, time.UTC), rules.False}, // 03:00 CET
		"work after the change":  {work, time.Date(2026, 3, 30, 7, 0, 0, 0, time.UTC), rules.True},    // 09:00 CEST
		"work before the change": {work, time.Date(2026, 3, 27, 7, 30, 0, 0, time.UTC), rules.False},  // 08:30 CET

		"days without hours":       {rules.Rule{Weekdays: []string{"sat-sun"}, Timezone: "UTC"}, time.Date(2026, 7, 19, 23, 59, 0, 0, time.UTC), rules.True},
		"days over the week's end": {rules.Rule{Weekdays: []string{"sun-tue"}, Timezone: "UTC"}, time.Date(2026, 7, 20, 0, 0, 0, 0, time.UTC), rules.True},
		"to the end of the day":    {rules.Rule{Hours: "18:00-24:00", Timezone: "UTC"}, time.Date(2026, 7, 20, 23, 59, 59, 0, time.UTC), rules.True},
		"not at midnight":          {rules.Rule{Hours: "18:00-00:00", Timezone: "UTC"}, time.Date(2026, 7, 20, 0, 0, 0, 0, time.UTC), rules.False},
	} {
		t.Run(name, func(t *testing.T) {
			tc.rule.Name, tc.rule.Action = "r", rules.Deny
			e := mustCompile(t, tc.rule).Explain(context.Background(), rules.Facts{Service: "sshd", Time: tc.at})
			if got := e.Steps[0].Truth; got != tc.want {
				t.Errorf("%s, want %s\n%s", got, tc.want, e.Text())
			}
		})
	}
}

func TestNotAfter(t *testing.T) {
	const head = "[[rules]]\nname = \"r\"\nreason = \"x\"\naction = \"bypass\"\nusers = [\"a\"]\n"
	utc := func(s string) time.Time {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for name, tc := range map[string]struct {
		text  string
		last  time.Time // at which the bypass holds
		first time.Time // at which it does not
	}{
		"a date":             {"not_after = 2026-12-31\ntimezone = \"Europe/Berlin\"\n", utc("2026-12-31T22:59:59Z"), utc("2026-12-31T23:00:00Z")},
		"a day of 23 hours":  {"not_after = 2026-03-29\ntimezone = \"Europe/Berlin\"\n", utc("2026-03-29T21:59:59Z"), utc("2026-03-29T22:00:00Z")},
		"a time of the zone": {"not_after = 2026-12-31T12:00:00\ntimezone = \"Europe/Berlin\"\n", utc("2026-12-31T11:00:00Z"), utc("2026-12-31T11:00:01Z")},
		"a time of its own":  {"not_after = 2026-12-31T12:00:00+05:00\ntimezone = \"Europe/Berlin\"\n", utc("2026-12-31T07:00:00Z"), utc("2026-12-31T07:00:01Z")},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := rules.Parse("r.toml", head+tc.text)
			if err != nil {
				t.Fatal(err)
			}
			set := mustCompile(t, list...)
			for at, want := range map[time.Time]rules.Action{tc.last: rules.Bypass, tc.first: rules.Require, {}: rules.Require} {
				if got := set.Decide(context.Background(), rules.Facts{User: "a", Service: "sshd", Time: at}); got.Action != want {
					t.Errorf("at %s: %s, want %s", at, got.Action, want)
				}
			}
			if n := len(set.Expired(tc.last)); n != 0 {
				t.Errorf("%d rules expired too early", n)
			}
			if n := len(set.Expired(tc.first)); n != 1 {
				t.Errorf("%d rules expired, want 1", n)
			}
		})
	}
	for _, v := range []string{"12:00:00", `"2026-12-31"`, "20261231"} {
		if _, err := rules.Parse("r.toml", head+"not_after = "+v+"\n"); err == nil || !strings.Contains(err.Error(), "not_after is a date") {
			t.Errorf("%s: got %v", v, err)
		}
	}
}

// Many rules name a group, the name service hears of it once.
func TestGroupsAreAskedOnce(t *testing.T) {
	var list []rules.Rule
	for range 100 {
		list = append(list, rules.Rule{Action: rules.Deny, Groups: []string{"a", "!b"}, LDAPGroups: []string{"c"}})
	}
	asked := map[string]int{}
	ask := func(_ context.Context, g string) rules.Truth {
		asked[g]++
		return of(g == "a")
	}
	mustCompile(t, list...).Decide(context.Background(), rules.Facts{InGroup: ask, InLDAPGroup: ask})
	if asked["a"] != 1 || asked["b"] != 1 || asked["c"] != 1 {
		t.Errorf("asked %v", asked)
	}
}

func of(b bool) rules.Truth {
	if b {
		return rules.True
	}
	return rules.False
}

func TestParse(t *testing.T) {
	list, err := rules.Parse("d/50.toml", "# a comment\n[[rules]]\nname = \"a\"\naction = \"deny\"\n\n  [[rules]] # b\nname = \"b\"\naction = \"nope\"\n")
	if err != nil || len(list) != 2 || list[0].At() != "d/50.toml:2" || list[1].At() != "d/50.toml:6" || list[1].Number != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := rules.Compile(list); err == nil || err.Error() != `d/50.toml:6: rule 2 ("b"): action "nope" is none of "require", "bypass", "deny"` {
		t.Errorf("got %v", err)
	}
	for text, want := range map[string]string{
		"[[rules]]\nname = 1\n":                       "d/50.toml",
		"[[rules]\n":                                  "d/50.toml:2: ",
		"socket_dir = \"/x\"\n":                       "d/50.toml:1: unknown key socket_dir",
		"[[rules]]\naction = \"deny\"\ntty = \"x\"\n": "d/50.toml:3: unknown key rules.tty: sshd tells PAM no terminal",
		"[[rules]]\nhosts = [\"x\"]\n":                "reverse DNS",
		"[[rules]]\nuser = [\"x\"]\n":                 "did you mean users?",
	} {
		if _, err := rules.Parse("d/50.toml", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}
