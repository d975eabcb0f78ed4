// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func parse(t testing.TB, sections string) map[string]json.RawMessage {
	t.Helper()
	var out map[string]json.RawMessage
	if err := json.Unmarshal([]byte(sections), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// applied has policies on the groups in their order, on the application and globally.
func applied(t testing.TB, groups []string, app, global string) store.AppliedPolicies {
	t.Helper()
	out := store.AppliedPolicies{Policies: map[string]store.Policy{}, Global: store.Policy{ID: "POglobal", Global: true, Sections: parse(t, global)}}
	add := func(group, sections string) {
		id := "PO" + group
		out.Policies[id] = store.Policy{ID: id, Sections: parse(t, sections)}
		out.Uses = append(out.Uses, store.PolicyUse{PolicyID: id, GroupID: group, Position: len(out.Uses)})
	}
	for i, sections := range groups {
		add([]string{"DG1", "DG2", "DG3"}[i], sections)
	}
	add("", app)
	return out
}

func groups(ids ...string) (out []store.Group) {
	for _, id := range ids {
		out = append(out, store.Group{ID: id, Name: id, Status: store.Active})
	}
	return out
}

func TestMerge(t *testing.T) {
	const one, two, app, global = `{"new_user":{"a":1}}`, `{"new_user":{"a":2},"plugins":{"a":2}}`, `{"new_user":{"a":3},"plugins":{"a":3},"browsers":{"a":3}}`,
		`{"new_user":{"a":4},"plugins":{"a":4},"browsers":{"a":4},"screen_lock":{"a":4}}`
	for name, c := range map[string]struct {
		groups []string
		want   string // values of new_user, plugins, browsers, screen_lock
	}{
		"no group":                      {nil, "3334"},
		"first group":                   {[]string{"DG1"}, "1334"},
		"second group":                  {[]string{"DG2"}, "2234"},
		"both: the order counts":        {[]string{"DG2", "DG1"}, "1234"},
		"a group that no policy is on":  {[]string{"DGx"}, "3334"},
		"a group after others it is in": {[]string{"DGx", "DG2"}, "2234"},
	} {
		merged := Merge(applied(t, []string{one, two}, app, global), groups(c.groups...))
		got := ""
		for _, key := range []string{"new_user", "plugins", "browsers", "screen_lock"} {
			var v struct{ A json.Number }
			if err := json.Unmarshal(merged[key].Value, &v); err != nil {
				t.Fatal(err)
			}
			got += v.A.String()
		}
		if got != c.want || len(merged) != 4 {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	// A section is never mixed from two policies.
	s := subject(applied(t, []string{`{"authorized_networks":{"deny_other_access":true}}`}, `{"authorized_networks":{"no_2fa_required":{"ip_list":["192.0.2.1"]}}}`, `{}`))
	s.IP = "192.0.2.1"
	if out := evaluate(t, s); out.Effect != Allow {
		t.Errorf("without the group: %+v", out)
	}
	s.Groups = groups("DG1")
	if out := evaluate(t, s); out.Reason != audit.DeniedNetwork {
		t.Errorf("the group's section hides the whole of the application's: %+v", out)
	}
}

func subject(a store.AppliedPolicies) Subject {
	return Subject{
		User: store.User{ID: "DU1", Status: store.Active}, Enrolled: true, Applied: a, Settings: store.Settings{NewUserPolicy: store.EnrollOffer},
		Integration: store.Integration{EnrollPolicy: store.EnrollOffer},
	}
}

func evaluate(t testing.TB, s Subject) Outcome {
	t.Helper()
	out, err := Evaluate(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPrecedence walks through the table of docs/explanation/policy.md.
func TestPrecedence(t *testing.T) {
	const (
		denyAll = `"authentication_policy":{"user_auth_behavior":"deny"}`
		bypass  = `"authentication_policy":{"user_auth_behavior":"bypass"}`
		free    = `"authorized_networks":{"no_2fa_required":{"ip_list":["192.0.2.0/24"]}}`
		freeFor = `"authorized_networks":{"no_2fa_required":{"ip_list":["192.0.2.0/24"],"require_enrollment":true}}`
		both    = `"authorized_networks":{"no_2fa_required":{"ip_list":["192.0.2.0/24"]},"mfa_required":{"ip_list":["192.0.2.1"]}}`
		blocked = `"authorized_networks":{"no_2fa_required":{"ip_list":["192.0.2.0/24"]},"blocked":{"ip_list":["192.0.2.1-192.0.2.3"]}}`
		others  = `"authorized_networks":{"mfa_required":{"ip_list":["2001:db8::/32"]},"deny_other_access":true}`
		mfa     = `"authorized_networks":{"mfa_required":{"ip_list":["192.0.2.1"]}}`
		trusted = `"trusted_endpoints":{"trusted_endpoint_checking":"require-trusted"}`
		newDeny = `"new_user":{"new_user_behavior":"deny"}`
		newFree = `"new_user":{"new_user_behavior":"no-mfa"}`
	)
	unenrolled := func(s *Subject) { s.Enrolled = false }
	from := func(ip string) func(*Subject) { return func(s *Subject) { s.IP = ip } }
	status := func(u store.UserStatus, in ...store.UserStatus) func(*Subject) {
		return func(s *Subject) {
			s.User.Status, s.Locked = u, u == store.LockedOut
			for _, g := range in {
				s.Groups = append(s.Groups, store.Group{ID: "DGx", Status: g})
			}
		}
	}
	only := func(access store.UserAccess, allowed ...string) func(*Subject) {
		return func(s *Subject) { s.Integration.UserAccess, s.Integration.GroupsAllowed = access, allowed }
	}
	type changes []func(*Subject)
	for name, c := range map[string]struct {
		sections string
		change   changes
		effect   Effect
		reason   string
	}{
		"nothing":                                {``, nil, Ask, ""},
		"disabled":                               {bypass, changes{status(store.Disabled)}, Deny, audit.UserDisabled},
		"group disabled":                         {bypass, changes{status(store.Active, store.Disabled)}, Deny, audit.UserDisabled},
		"group disabled beats bypass":            {``, changes{status(store.Bypass, store.Disabled)}, Deny, audit.UserDisabled},
		"one group disabled, one in bypass":      {``, changes{status(store.Active, store.Bypass, store.Disabled)}, Deny, audit.UserDisabled},
		"locked out beats a group's bypass":      {bypass, changes{status(store.LockedOut, store.Bypass)}, Deny, audit.LockedOut},
		"bypass skips the policies":              {denyAll, changes{status(store.Bypass)}, Allow, audit.BypassUser},
		"a group's bypass too":                   {denyAll, changes{status(store.Active, store.Bypass)}, Allow, audit.BypassUser},
		"no users":                               {bypass, changes{status(store.Bypass), only(store.AccessNone)}, Deny, audit.NotInGroup},
		"not in a permitted group":               {bypass, changes{only(store.AccessGroups, "DGy")}, Deny, audit.NotInGroup},
		"in a permitted group":                   {bypass, changes{status(store.Active, store.Active), only(store.AccessGroups, "DGx")}, Allow, audit.AllowedByPolicy},
		"deny":                                   {denyAll + `,` + free, changes{from("192.0.2.1")}, Deny, audit.DeniedByPolicy},
		"bypass":                                 {bypass, nil, Allow, audit.AllowedByPolicy},
		"bypass, unenrolled":                     {bypass, changes{unenrolled}, Allow, audit.AllowedByPolicy},
		"bypass does not override new_user deny": {bypass + `,` + newDeny, changes{unenrolled}, Deny, audit.DenyUnenrolledUser},
		"bypass does not override blocked":       {bypass + `,` + blocked, changes{from("192.0.2.2")}, Deny, audit.DeniedNetwork},
		"bypass overrides mfa_required":          {bypass + `,` + mfa, changes{from("192.0.2.1")}, Allow, audit.AllowedByPolicy},
		"free network":                           {free, changes{from("192.0.2.77")}, Allow, audit.TrustedNetwork},
		"free network, IPv4 in IPv6":             {free, changes{from("::ffff:192.0.2.77")}, Allow, audit.TrustedNetwork},
		"free network, elsewhere":                {free, changes{from("192.0.3.1")}, Ask, ""},
		"free network, unknown address":          {free, nil, Ask, ""},
		"free network, host name":                {free, changes{from("gw.example")}, Ask, ""},
		"free network, 0.0.0.0":                  {`"authorized_networks":{"no_2fa_required":{"ip_list":["0.0.0.0/0"]}}`, changes{from("0.0.0.0")}, Ask, ""},
		"free network, unenrolled":               {free, changes{from("192.0.2.1"), unenrolled}, Allow, audit.AllowUnenrolledUserTrusted},
		"free network for the enrolled":          {freeFor, changes{from("192.0.2.1"), unenrolled}, Enroll, audit.DenyUnenrolledUser},
		"free network, new users denied":         {free + `,` + newDeny, changes{from("192.0.2.1"), unenrolled}, Deny, audit.DenyUnenrolledUser},
		"mfa_required beats no_2fa_required":     {both, changes{from("192.0.2.1")}, Ask, ""},
		"blocked beats no_2fa_required":          {blocked, changes{from("192.0.2.3")}, Deny, audit.DeniedNetwork},
		"the end of a range":                     {blocked, changes{from("192.0.2.4")}, Allow, audit.TrustedNetwork},
		"blocked, unknown address":               {blocked, nil, Deny, audit.DeniedNetwork},
		"other access":                           {others, changes{from("192.0.2.1")}, Deny, audit.DeniedNetwork},
		"other access, named":                    {others, changes{from("2001:db8::7")}, Ask, ""},
		"other access, unknown address":          {others, changes{from("gw.example")}, Deny, audit.DeniedNetwork},
		"trusted endpoints, nobody knows":        {trusted + `,` + bypass, nil, Deny, audit.EndpointUnknown},
		"trusted endpoints, not":                 {trusted, changes{func(s *Subject) { s.Endpoint = NotTrusted }}, Deny, audit.EndpointNotTrusted},
		"trusted endpoints, it is":               {trusted, changes{func(s *Subject) { s.Endpoint = Trusted }}, Ask, ""},
		"new users":                              {``, changes{unenrolled}, Enroll, audit.DenyUnenrolledUser},
		"new users, not offered here":            {``, changes{unenrolled, func(s *Subject) { s.Integration.EnrollPolicy = store.EnrollDeny }}, Deny, audit.DenyUnenrolledUser},
		"new users, setting":                     {``, changes{unenrolled, func(s *Subject) { s.Settings.NewUserPolicy = store.EnrollDeny }}, Deny, audit.DenyUnenrolledUser},
		"new users, policy beats the setting":    {newFree, changes{unenrolled, func(s *Subject) { s.Settings.NewUserPolicy = store.EnrollDeny }}, Allow, audit.AllowUnenrolledUser},
		"new users where a factor is demanded":   {newFree + `,` + mfa, changes{unenrolled, from("192.0.2.1")}, Deny, audit.DenyUnenrolledUser},
		"the same, address unknown":              {newFree + `,` + mfa, changes{unenrolled}, Deny, audit.DenyUnenrolledUser},
		"the same, elsewhere":                    {newFree + `,` + mfa, changes{unenrolled, from("192.0.2.9")}, Allow, audit.AllowUnenrolledUser},
	} {
		s := subject(applied(t, nil, `{`+c.sections+`}`, `{}`))
		for _, change := range c.change {
			change(&s)
		}
		if out := evaluate(t, s); out.Effect != c.effect || out.Reason != c.reason {
			t.Errorf("%s: %+v, want %s, %s", name, out, c.effect, c.reason)
		}
	}
}

func TestRules(t *testing.T) {
	for sections, want := range map[string]string{
		`{}`:                            "duo-push phonecall sms hardware-token bypass-code",
		`{"authentication_methods":{}}`: "duo-push phonecall sms hardware-token bypass-code",
		`{"authentication_methods":{"allowed_auth_list":[]}}`:                                                      "bypass-code",
		`{"authentication_methods":{"allowed_auth_list":["sms","duo-push"],"blocked_auth_list":["duo-push"]}}`:     "sms bypass-code",
		`{"authentication_methods":{"blocked_auth_list":["hardware-token","phonecall","sms","webauthn-roaming"]}}`: "duo-push bypass-code",
	} {
		out := evaluate(t, subject(applied(t, nil, sections, `{}`)))
		if got := strings.Join(out.Rules.Methods(), " "); got != want || out.Rules.PushDigits != 6 || !out.Rules.RememberHosts {
			t.Errorf("%s: %s, %+v, want %s", sections, got, out.Rules, want)
		}
	}
	out := evaluate(t, subject(applied(t, nil, `{"authentication_methods":{"require_verified_push":true,"verified_push_digits":3},"remembered_devices":{"host_logins":{"enabled":false}}}`, `{}`)))
	if !out.Rules.RequireVerifiedPush || out.Rules.PushDigits != 3 || out.Rules.RememberHosts {
		t.Errorf("%+v", out.Rules)
	}
}

// TestUnreadable: what cannot be read lets nobody in.
func TestUnreadable(t *testing.T) {
	for _, sections := range []string{
		`{"new_user":{"new_user_behavior":"perhaps"}}`, `{"authorized_networks":{"later":true}}`, `{"authentication_policy":null}`,
	} {
		if out, err := Evaluate(subject(applied(t, nil, sections, `{}`))); err == nil {
			t.Errorf("%s: %+v", sections, out)
		}
	}
}

func TestCheck(t *testing.T) {
	for sections, key := range map[string]string{
		`{"nonsense":{}}`:                            "nonsense",
		`{"new_user":[]}`:                            "new_user",
		`{"new_user":null}`:                          "new_user",
		`{"new_user":{"new_user_behaviour":"deny"}}`: "new_user.new_user_behaviour",
		`{"new_user":{"new_user_behavior":"deny","new_user_behavior":"no-mfa"}}`:  "new_user",
		`{"authentication_methods":{"verified_push_digits":2}}`:                   "authentication_methods.verified_push_digits",
		`{"authentication_methods":{"verified_push_digits":"6"}}`:                 "authentication_methods.verified_push_digits",
		`{"authentication_methods":{"require_verified_push":1}}`:                  "authentication_methods.require_verified_push",
		`{"authentication_methods":{"allowed_auth_list":["push"]}}`:               "authentication_methods.allowed_auth_list",
		`{"authorized_networks":{"blocked":{"ip_list":["192.0.2.9-192.0.2.1"]}}}`: "authorized_networks.blocked.ip_list",
		`{"authorized_networks":{"blocked":{"ip_list":["fe80::1%eth0"]}}}`:        "authorized_networks.blocked.ip_list",
		`{"authorized_networks":{"blocked":{"ip_list":["192.0.2.1/33"]}}}`:        "authorized_networks.blocked.ip_list",
		`{"authorized_networks":{"blocked":{"list":[]}}}`:                         "authorized_networks.blocked.list",
		`{"anonymous_networks":{"anonymous_access_behavior":"maybe"}}`:            "anonymous_networks.anonymous_access_behavior",
	} {
		var wrong *Error
		if err := Check(parse(t, sections)); !errors.As(err, &wrong) || wrong.Key != key {
			t.Errorf("%s: %v, want the key %s", sections, err, key)
		}
	}
	for _, sections := range []string{
		`{}`, `{"screen_lock":{"whatever":[1,{"a":null}]},"tampered_devices":{}}`,
		`{"authorized_networks":{"blocked":{"ip_list":["192.0.2.7","2001:db8::/32","192.0.2.1-192.0.2.9"]},"deny_other_access":false}}`,
	} {
		if err := Check(parse(t, sections)); err != nil {
			t.Errorf("%s: %v", sections, err)
		}
	}
}

// TestReference: each section and each of its keys stands in the reference.
func TestReference(t *testing.T) {
	text, err := os.ReadFile("../../docs/reference/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	for key, section := range Sections() {
		for _, name := range append(section.Keys(), key) {
			if !strings.Contains(string(text), name) {
				t.Errorf("section %s: %s is not in the reference", key, name)
			}
		}
	}
	if len(Sections()) != 18 {
		t.Errorf("%d sections", len(Sections()))
	}
}

// FuzzCheck: what is taken can be evaluated, and what can be evaluated was taken.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{}`, `{"new_user":{"new_user_behavior":"deny"}}`, `{"authorized_networks":{"blocked":{"ip_list":["1.2.3.4-1.2.3.5"]}}}`, `{"a":`, `{"plugins":{"flash":[[[[]]]]}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var sections map[string]json.RawMessage
		if json.Unmarshal([]byte(s), &sections) != nil {
			return
		}
		taken := Check(sections) == nil
		a := store.AppliedPolicies{Global: store.Policy{Sections: sections}}
		if _, err := Evaluate(subject(a)); taken && err != nil {
			t.Errorf("%s was taken and cannot be evaluated: %v", s, err)
		}
	})
}
