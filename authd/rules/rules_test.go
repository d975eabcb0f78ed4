// SPDX-License-Identifier: Apache-2.0

package rules_test

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

const (
	keyA = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	keyB = "SHA256:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA"
)

func mustCompile(t *testing.T, list ...rules.Rule) *rules.Set {
	t.Helper()
	set, err := rules.Compile(list)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func backup() rules.Rule {
	return rules.Rule{Name: "backup", Reason: "cron", Action: rules.Bypass, Users: []string{"backup"},
		Services: []string{"sshd"}, Sources: []string{"10.0.4.0/24", "2001:db8::/32"}, Keys: []string{keyA}}
}

func facts(change func(*rules.Facts)) rules.Facts {
	f := rules.Facts{User: "backup", Service: "sshd", Source: netip.MustParseAddr("10.0.4.7"), Keys: []string{keyA}}
	if change != nil {
		change(&f)
	}
	return f
}

func TestBypassNeedsEveryConditionKnownTrue(t *testing.T) {
	set := mustCompile(t, backup())
	for name, tc := range map[string]struct {
		change func(*rules.Facts)
		want   rules.Action
	}{
		"all hold":            {nil, rules.Bypass},
		"mapped address":      {func(f *rules.Facts) { f.Source = netip.MustParseAddr("::ffff:10.0.4.7") }, rules.Bypass},
		"IPv6":                {func(f *rules.Facts) { f.Source = netip.MustParseAddr("2001:db8::1") }, rules.Bypass},
		"IPv6 with zone":      {func(f *rules.Facts) { f.Source = netip.MustParseAddr("2001:db8::1%eth0") }, rules.Bypass},
		"one of two keys":     {func(f *rules.Facts) { f.Keys = []string{keyB, keyA} }, rules.Bypass},
		"other user":          {func(f *rules.Facts) { f.User = "root" }, rules.Require},
		"other case":          {func(f *rules.Facts) { f.User = "Backup" }, rules.Require},
		"other service":       {func(f *rules.Facts) { f.Service = "su" }, rules.Require},
		"other network":       {func(f *rules.Facts) { f.Source = netip.MustParseAddr("10.0.5.7") }, rules.Require},
		"other key":           {func(f *rules.Facts) { f.Keys = []string{keyB} }, rules.Require},
		"no key":              {func(f *rules.Facts) { f.Keys = nil }, rules.Require},
		"key unknown":         {func(f *rules.Facts) { f.KeysUnknown = true }, rules.Require},
		"source unknown":      {func(f *rules.Facts) { f.SourceUnknown, f.Source = true, netip.Addr{} }, rules.Require},
		"source known to lie": {func(f *rules.Facts) { f.SourceUnknown = true }, rules.Require},
		"no source":           {func(f *rules.Facts) { f.Source = netip.Addr{} }, rules.Require},
	} {
		t.Run(name, func(t *testing.T) {
			if got := set.Decide(context.Background(), facts(tc.change)); got.Action != tc.want {
				t.Fatalf("got %s, want %s\n%s", got.Action, tc.want, set.Explain(context.Background(), facts(tc.change)).Text())
			}
		})
	}
}

// An unknown condition never opens and never skips a door: the table is the
// whole of "bypass no, require and deny yes".
func TestUnknown(t *testing.T) {
	for _, tc := range []struct {
		action rules.Action
		in     rules.Truth
		want   rules.Action
	}{
		{rules.Bypass, rules.True, rules.Bypass},
		{rules.Bypass, rules.Unknown, rules.Require},
		{rules.Bypass, rules.False, rules.Require},
		{rules.Deny, rules.True, rules.Deny},
		{rules.Deny, rules.Unknown, rules.Deny},
		{rules.Deny, rules.False, rules.Require},
		{rules.Require, rules.True, rules.Require},
		{rules.Require, rules.Unknown, rules.Require},
	} {
		set := mustCompile(t, rules.Rule{Name: "r", Reason: "r", Action: tc.action, Groups: []string{"ops"}, Broad: true})
		f := facts(nil)
		f.InGroup = func(context.Context, string) rules.Truth { return tc.in }
		if got := set.Decide(context.Background(), f); got.Action != tc.want {
			t.Errorf("%s with group %s: got %s, want %s", tc.action, tc.in, got.Action, tc.want)
		}
	}
}

func TestUnknownRequireShieldsFromLaterBypass(t *testing.T) {
	set := mustCompile(t,
		rules.Rule{Name: "admins always", Action: rules.Require, Groups: []string{"admins"}},
		backup())
	f := facts(nil)
	f.InGroup = func(context.Context, string) rules.Truth { return rules.Unknown }
	if got := set.Decide(context.Background(), f); got.Action != rules.Require || got.RuleName() != "admins always" {
		t.Fatalf("got %s by %q", got.Action, got.RuleName())
	}
	f.InGroup = func(context.Context, string) rules.Truth { return rules.False }
	if got := set.Decide(context.Background(), f); got.Action != rules.Bypass {
		t.Fatalf("got %s by %q", got.Action, got.RuleName())
	}
}

func TestGroupsAreAskedOnlyWhenItMatters(t *testing.T) {
	set := mustCompile(t, rules.Rule{Name: "g", Action: rules.Deny, Users: []string{"mallory"}, Groups: []string{"ops"}})
	f := facts(nil)
	f.InGroup = func(context.Context, string) rules.Truth { t.Error("asked"); return rules.True }
	set.Decide(context.Background(), f)
}

func TestMightBypass(t *testing.T) {
	denyKeyB := rules.Rule{Name: "stolen", Action: rules.Deny, Keys: []string{keyB}}
	atAccount := func(f *rules.Facts) { f.KeysUnknown, f.Keys = true, nil }
	for name, tc := range map[string]struct {
		list   []rules.Rule
		change func(*rules.Facts)
		want   rules.Action
	}{
		"only the key is unknown":       {[]rules.Rule{backup()}, atAccount, rules.Bypass},
		"a deny by key waits":           {[]rules.Rule{denyKeyB, backup()}, atAccount, rules.Bypass},
		"the source is unknown as well": {[]rules.Rule{backup()}, func(f *rules.Facts) { atAccount(f); f.SourceUnknown = true }, rules.Require},
		"the user is another":           {[]rules.Rule{backup()}, func(f *rules.Facts) { atAccount(f); f.User = "eve" }, rules.Require},
		"a sure deny comes first":       {[]rules.Rule{{Name: "n", Action: rules.Deny, Users: []string{"backup"}}, backup()}, atAccount, rules.Deny},
	} {
		t.Run(name, func(t *testing.T) {
			set := mustCompile(t, tc.list...)
			if got := set.MightBypass(context.Background(), facts(tc.change)); got.Action != tc.want {
				t.Fatalf("got %s by %q, want %s", got.Action, got.RuleName(), tc.want)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	ok := backup()
	with := func(change func(*rules.Rule)) []rules.Rule {
		r := ok
		change(&r)
		return []rules.Rule{r}
	}
	for name, tc := range map[string]struct {
		list []rules.Rule
		want string
	}{
		"no action":           {with(func(r *rules.Rule) { r.Action = "" }), "action is missing"},
		"unknown action":      {with(func(r *rules.Rule) { r.Action = "allow" }), `"allow" is none of`},
		"bypass without name": {with(func(r *rules.Rule) { r.Name = " " }), "needs a name"},
		"bypass, no reason":   {with(func(r *rules.Rule) { r.Reason = "" }), "needs a reason"},
		"broad by groups":     {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Groups: []string{"ops"}}}, "broad = true"},
		"broad by 0.0.0.0/0":  {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Sources: []string{"0.0.0.0/0"}}}, "broad = true"},
		"broad by ::/0":       {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Sources: []string{"10.0.0.0/8", "::/0"}}}, "broad = true"},
		"set of characters":   {with(func(r *rules.Rule) { r.Users = []string{"a[bc]"} }), "is not a name"},
		"host name":           {with(func(r *rules.Rule) { r.Sources = []string{"db1.example"} }), "neither an address nor a network"},
		"host bits":           {with(func(r *rules.Rule) { r.Sources = []string{"10.0.4.7/24"} }), "did you mean 10.0.4.0/24"},
		"mapped network":      {with(func(r *rules.Rule) { r.Sources = []string{"::ffff:10.0.0.0/104"} }), "IPv4"},
		"MD5 fingerprint":     {with(func(r *rules.Rule) { r.Keys = []string{"MD5:aa:bb"} }), "SHA256:"},
		// base64 decoders pass over line breaks: a deny by such a key would never match.
		"fingerprint on two lines": {with(func(r *rules.Rule) { r.Keys = []string{keyA + "\n"} }), "SHA256:"},
		"short fingerprint":        {with(func(r *rules.Rule) { r.Keys = []string{"SHA256:AAAA"} }), "SHA256:"},
		"command of a deny":        {[]rules.Rule{{Name: "d", Action: rules.Deny, Command: "id"}}, "command belongs to a bypass"},
		"two lines":                {with(func(r *rules.Rule) { r.Command = "a\nb" }), "one line"},
		"same name twice":          {[]rules.Rule{ok, ok}, "name is that of rule 1"},

		"only somebody else":      {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Users: []string{"!root"}}}, "broad = true"},
		"anybody":                 {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Users: []string{"?*"}}}, "broad = true"},
		"somebody or anybody":     {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Users: []string{"alice", "*"}}}, "broad = true"},
		"any but one key":         {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Keys: []string{"!" + keyA}}}, "broad = true"},
		"any but one network":     {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Sources: []string{"!10.0.0.0/8"}}}, "broad = true"},
		"whoever the CA signed":   {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Certificates: []rules.Certificates{{CA: "ops"}}}}, "broad = true"},
		"certificate without CA":  {[]rules.Rule{{Name: "c", Action: rules.Deny, Certificates: []rules.Certificates{{KeyIDs: []string{"x"}}}}}, "ca is missing"},
		"two negations":           {with(func(r *rules.Rule) { r.Users = []string{"!!root"} }), "is not a name"},
		"negation of nothing":     {with(func(r *rules.Rule) { r.Users = []string{"!"} }), "is not a name"},
		"pattern of groups":       {with(func(r *rules.Rule) { r.Groups = []string{"dev-*"} }), "groups are asked for by name"},
		"pattern of LDAP groups":  {with(func(r *rules.Rule) { r.LDAPGroups = []string{"?"} }), "ldap_groups: "},
		"pattern of keys":         {with(func(r *rules.Rule) { r.Keys = []string{"SHA256:*"} }), "SHA256:"},
		"bypass by command":       {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Users: []string{"a"}, Services: []string{"sudo"}, Commands: []string{"/bin/ls"}}}, "commands can only tighten"},
		"bypass by target":        {[]rules.Rule{{Name: "b", Reason: "r", Action: rules.Bypass, Users: []string{"a"}, Services: []string{"su"}, Targets: []string{"bob"}}}, "targets can only tighten"},
		"command under sshd":      {[]rules.Rule{{Name: "d", Action: rules.Deny, Services: []string{"sudo", "sshd"}, Commands: []string{"/bin/ls"}}}, "ForceCommand"},
		"command under su":        {[]rules.Rule{{Name: "d", Action: rules.Deny, Services: []string{"su"}, Commands: []string{"/bin/ls"}}}, `it works with services = ["sudo", "sudo-i"]`},
		"command under anything":  {[]rules.Rule{{Name: "d", Action: rules.Deny, Commands: []string{"/bin/ls"}}}, `add services = ["sudo", "sudo-i"]`},
		"command but not in one":  {[]rules.Rule{{Name: "d", Action: rules.Deny, Services: []string{"!sshd"}, Commands: []string{"/bin/ls"}}}, `add services`},
		"target under sshd":       {[]rules.Rule{{Name: "d", Action: rules.Deny, Services: []string{"sshd"}, Targets: []string{"root"}}}, "use users"},
		"key under sudo":          {[]rules.Rule{{Name: "d", Action: rules.Deny, Services: []string{"sudo"}, Keys: []string{keyA}}}, "use users or groups"},
		"certificate under login": {[]rules.Rule{{Name: "d", Action: rules.Deny, Services: []string{"login"}, Certificates: []rules.Certificates{{CA: "ops"}}}}, "use users or groups"},
		"address under su":        {[]rules.Rule{{Name: "d", Action: rules.Deny, Services: []string{"su"}, Sources: []string{"10.0.0.0/8"}}}, "has no address"},
		"no day":                  {with(func(r *rules.Rule) { r.Weekdays = []string{"someday"} }), `"someday" is no day`},
		"no hours":                {with(func(r *rules.Rule) { r.Hours = "9-17" }), `is not of the form`},
		"hours of no length":      {with(func(r *rules.Rule) { r.Hours = "09:00-09:00" }), `no time at all`},
		"hours after the day":     {with(func(r *rules.Rule) { r.Hours = "24:00-06:00" }), `is not of the form`},
		"no zone":                 {with(func(r *rules.Rule) { r.Hours, r.Timezone = "09:00-17:00", "Mars/Olympus" }), `timezone "Mars/Olympus"`},
		"zone for nothing":        {with(func(r *rules.Rule) { r.Timezone = "Europe/Berlin" }), `timezone says nothing`},

		"options of a bypass":  {with(func(r *rules.Rule) { r.Factors = []string{"push"} }), "belong to a require rule"},
		"options of a deny":    {[]rules.Rule{{Name: "d", Action: rules.Deny, Options: rules.Options{FailMode: "open"}}}, "belong to a require rule"},
		"no factor at all":     {[]rules.Rule{{Name: "r", Action: rules.Require, Options: rules.Options{Factors: []string{}}}}, "factors is empty"},
		"no such factor":       {[]rules.Rule{{Name: "r", Action: rules.Require, Options: rules.Options{Factors: []string{"u2f"}}}}, `"u2f" is none of`},
		"a factor twice":       {[]rules.Rule{{Name: "r", Action: rules.Require, Options: rules.Options{Factors: []string{"push", "push"}}}}, "twice"},
		"SMS without passcode": {[]rules.Rule{{Name: "r", Action: rules.Require, Options: rules.Options{Factors: []string{"sms"}}}}, `name "passcode" as well`},
		"push not permitted":   {[]rules.Rule{{Name: "r", Action: rules.Require, Options: rules.Options{Factors: []string{"phone"}, AutoPush: new(true)}}}, `autopush needs "push"`},
		"attempts":             {[]rules.Rule{{Name: "r", Action: rules.Require, Options: rules.Options{Attempts: new(11)}}}, "attempts is 11"},
		"offline without code": {[]rules.Rule{{Name: "r", Action: rules.Require, Options: rules.Options{Factors: []string{"push"}, FailMode: "offline"}}}, `name "passcode" among factors`},
		"fail mode":            {[]rules.Rule{{Name: "r", Action: rules.Require, Options: rules.Options{FailMode: "safe"}}}, `"safe" is none of`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := rules.Compile(tc.list)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want it to contain %q", err, tc.want)
			}
		})
	}
}

func TestExplain(t *testing.T) {
	set := mustCompile(t,
		rules.Rule{Name: "contractors out", Action: rules.Deny, Groups: []string{"contractors"}},
		rules.Rule{Name: "office", Reason: "badge at the door", Action: rules.Bypass, Sources: []string{"192.0.2.0/24"}},
		backup())
	f := facts(func(f *rules.Facts) {
		f.InGroup = func(context.Context, string) rules.Truth { return rules.False }
	})
	got := set.Explain(context.Background(), f).Text()
	want, err := os.ReadFile("testdata/explain.txt")
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Fatalf("got\n%swant\n%s", got, want)
	}
}
