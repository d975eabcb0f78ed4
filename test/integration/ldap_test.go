// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

func base64Of(b ...byte) string { return base64.StdEncoding.EncodeToString(b) }

// ldapTable is [ldap] of authd.toml; further lines replace nothing, they add.
func ldapTable(urls string, more string) string {
	return fmt.Sprintf("\n[ldap]\nurls = %s\nca_file = %q\nbind_dn = %q\nbind_password_file = \"/etc/sallyport/ldap_password\"\nbase_dn = \"dc=example,dc=org\"\n%s",
		urls, directoryCA, readerDN, more)
}

const (
	startTLS = `["ldap://ldap1", "ldap://ldap2"]` + "\nstart_tls = true"
	ldaps    = `["ldaps://ldap1", "ldaps://ldap2"]`
)

type ldapQuestion struct{ User, Group, Attribute string }

type ldapAnswer struct {
	In    bool
	Value string
	Error string
}

type ldapRound struct {
	Answers []ldapAnswer
	Seconds float64
}

// askDirectory asks with authd's client, on the host, round after round.
func askDirectory(t *testing.T, s *site, settings string, questions []ldapQuestion, rounds int) []ldapRound {
	t.Helper()
	text := s.authdConfig(t) + settings
	must(t, s.host.Put(t.Context(), harness.File{Path: "/etc/sallyport/ldap-test.toml", Mode: 0o644, Data: []byte(text)}))
	in, err := json.Marshal(questions)
	must(t, err)
	out, err := s.host.Run(t.Context(), harness.Command{Stdin: bytes.NewReader(in),
		Args: []string{"drv", "ldap", "-config", "/etc/sallyport/ldap-test.toml", "-rounds", fmt.Sprint(rounds)}})
	must(t, err)
	var all []ldapRound
	if err := json.Unmarshal([]byte(out.Stdout), &all); err != nil || len(all) != rounds {
		t.Fatalf("drv ldap: %s", out.Output())
	}
	return all
}

// wantAnswers compares; want says "in", "out" or a part of why it is unknown.
func wantAnswers(t *testing.T, questions []ldapQuestion, want []string, round ldapRound) {
	t.Helper()
	wrong := 0
	for i, a := range round.Answers {
		got := map[bool]string{true: "in", false: "out"}[a.In]
		if a.Value != "" {
			got = a.Value
		}
		if a.Error != "" {
			got = "unknown: " + a.Error
		}
		if ok := got == want[i] || strings.HasPrefix(got, "unknown: ") && want[i] != "in" && want[i] != "out" && strings.Contains(got, want[i]); !ok {
			if wrong++; wrong <= 10 {
				t.Errorf("%+v: got %q, want %q", questions[i], got, want[i])
			}
		}
	}
	if wrong > 10 {
		t.Errorf("and %d more", wrong-10)
	}
}

// A directory of 50,000 answers rightly, cold and from the cache, over StartTLS
// and ldaps, and holds rules to rule 10 when it is gone.
func TestDirectory(t *testing.T) {
	d := newDirectory(t, town.lab)
	d.trust(t, town.host)
	t.Run("groups in groups", d.testGroups)
	t.Run("names are only values", d.testNames)
	t.Run("schemas", d.testSchemas)
	t.Run("who is not trusted and who does not trust", d.testTrust)
	t.Run("names at the verifier", d.testMapping)
	t.Run("rules", d.testRules)
}

func (d *directorySite) testGroups(t *testing.T) {
	var questions []ldapQuestion
	var want []string
	add := func(answer string, q ldapQuestion) { questions, want = append(questions, q), append(want, answer) }
	for i := 7; i < people; i += 331 {
		user := fmt.Sprintf("u%05d", i)
		other := (i + people/2) % people
		add("in", ldapQuestion{User: user, Group: teamOf(i)})
		add("in", ldapQuestion{User: user, Group: departmentOf(i)})
		add("in", ldapQuestion{User: user, Group: "staff"})
		add("out", ldapQuestion{User: user, Group: teamOf(other)})
		add("out", ldapQuestion{User: user, Group: departmentOf(other)})
		add("out", ldapQuestion{User: user, Group: "ring-0"})
		add(fmt.Sprintf("Person.%d@example.org", i), ldapQuestion{User: user, Attribute: "mail"})
	}
	for _, ring := range []string{"ring-0", "ring-1", "ring-2"} {
		add("in", ldapQuestion{User: "u00000", Group: ring})
	}
	for depth := range 9 {
		add("in", ldapQuestion{User: "u00001", Group: fmt.Sprintf("well-%d", depth)})
	}
	add("deeper than nested_depth 8", ldapQuestion{User: "u00001", Group: "well-9"})
	add("deeper than nested_depth 8", ldapQuestion{User: "u00001", Group: "ring-0"})
	add("in", ldapQuestion{User: "u00004", Group: "CN=Staff, OU=groups,DC=example,DC=org"})
	add("out", ldapQuestion{User: "u00004", Group: groupDN("team-99")})
	add("no such group", ldapQuestion{User: "u00004", Group: groupDN("team-none")})
	add("no such group", ldapQuestion{User: "u00004", Group: "nobody's"})
	add("more than one group", ldapQuestion{User: "u00002", Group: "twice"})
	add("out", ldapQuestion{User: "nobody", Group: "staff"})
	add("no such person", ldapQuestion{User: "nobody", Attribute: "mail"})
	add("in", ldapQuestion{User: "u00004", Group: "posix-primary"})
	for name, urls := range map[string]string{"StartTLS": startTLS, "ldaps": ldaps} {
		rounds := askDirectory(t, town, ldapTable(urls, "")+"[services.ldap-mail]\nmapping = { ldap = \"mail\" }\n", questions, 2)
		for i, round := range rounds {
			wantAnswers(t, questions, want, round)
			t.Logf("%s, round %d: %d questions in %.3f s", name, i+1, len(questions), round.Seconds)
		}
	}
}

func (d *directorySite) testNames(t *testing.T) {
	mapping := "[services.ldap-mail]\nmapping = { ldap = \"mail\" }\n"
	questions := []ldapQuestion{
		{User: "*)(uid=*", Group: "odd (*)"}, {User: "*)(uid=*", Attribute: "mail"}, {User: "*)(uid=*", Group: "staff"},
		{User: "*", Group: "odd (*)"}, {User: "u0000*", Group: "staff"}, {User: "u00007)(cn=*", Group: "staff"}, {User: "u00007", Group: "*"},
		{User: "u00007", Group: "staff)(cn=*"}, {User: "*", Attribute: "mail"}, {User: `u00007\`, Group: "staff"}, {User: "u00007\x00", Group: "staff"},
		{User: " u00007", Group: "staff"}, {User: "U00007", Group: "staff"}, {User: `EXAMPLE\u00007`, Group: "staff"}, {User: `OTHER\u00007`, Group: "staff"},
		{User: "u00007@other.org", Attribute: "mail"},
	}
	want := []string{
		"in", "odd@example.org", "out",
		"out", "out", "out", "no such group",
		"no such group", "no such person", "out", "is no name",
		"another name", "another name", "in", "domain part", "domain part",
	}
	wantAnswers(t, questions, want, askDirectory(t, town, ldapTable(ldaps, "domains = [\"EXAMPLE\"]\n")+mapping, questions, 1)[0])
}

func (d *directorySite) testSchemas(t *testing.T) {
	t.Run("rfc2307", func(t *testing.T) {
		questions := []ldapQuestion{{User: "u07000", Group: "posix-oncall"}, {User: "u07001", Group: "posix-oncall"}, {User: "u07001", Group: "posix-primary"}, {User: "u07001", Group: "staff"}}
		want := []string{"in", "out", "in", "no such group"}
		wantAnswers(t, questions, want, askDirectory(t, town, ldapTable(ldaps, "schema = \"rfc2307\"\n"), questions, 1)[0])
	})
	t.Run("ad", func(t *testing.T) {
		questions := []ldapQuestion{{User: "anna", Group: "Domain Users"}, {User: `EXAMPLE\Anna`, Group: "Admins"}, {User: "anna", Group: "others"}, {User: "anna", Group: "Users"}}
		want := []string{"in", "in", "out", "no such group"}
		wantAnswers(t, questions, want, askDirectory(t, town, ldapTable(ldaps, "schema = \"ad\"\ndomains = [\"EXAMPLE\"]\n"), questions, 1)[0])
	})
	t.Run("direct members only", func(t *testing.T) {
		questions := []ldapQuestion{{User: "u00060", Group: "team-1"}, {User: "u00060", Group: "staff"}}
		wantAnswers(t, questions, []string{"in", "out"}, askDirectory(t, town, ldapTable(ldaps, "nested_depth = 0\n"), questions, 1)[0])
	})
	t.Run("too many groups", func(t *testing.T) {
		questions := []ldapQuestion{{User: "u00060", Group: "team-1"}, {User: "u00060", Group: "team-2"}}
		wantAnswers(t, questions, []string{"max_groups", "max_groups"}, askDirectory(t, town, ldapTable(ldaps, "max_groups = 2\n"), questions, 1)[0])
	})
}

// What is wrong with the way to the directory is said in plain words, by the
// client and by doctor.
func (d *directorySite) testTrust(t *testing.T) {
	questions := []ldapQuestion{{User: "u00007", Group: "staff"}}
	good := ldapTable(ldaps, "")
	for name, tc := range map[string]struct{ settings, want, fix string }{
		"another CA":           {strings.Replace(good, directoryCA, "/etc/sallyport/ca.pem", 1), "unknown authority", "ldap.ca_file must hold the CA"},
		"another CA, StartTLS": {strings.Replace(ldapTable(startTLS, ""), directoryCA, "/etc/sallyport/ca.pem", 1), "unknown authority", "ldap.ca_file must hold the CA"},
		"another name":         {strings.Replace(good, ldaps, `["ldaps://`+d.address(t, 0)+`"]`, 1), "certificate", "ldap.urls must name the server"},
		"wrong password":       {strings.Replace(good, "ldap_password", "wrong_password", 1), "wrong password in bind_password_file", "correct ldap.bind_dn"},
		"nobody listens":       {strings.Replace(good, ldaps, `["ldaps://ldap1:637"]`, 1), "connection refused", "check that the server runs"},
		"no such base":         {strings.Replace(good, "base_dn = \"dc=example", "base_dn = \"dc=elsewhere", 1), "", "correct ldap.base_dn"},
		"not encrypted TLS":    {strings.Replace(good, ldaps, `["ldaps://ldap1:389"]`, 1), "TLS", "check that the server runs"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.want != "" {
				wantAnswers(t, questions, []string{tc.want}, askDirectory(t, town, tc.settings, questions, 1)[0])
			} else {
				askDirectory(t, town, tc.settings, questions, 1)
			}
			text := doctorOnLDAP(t)
			if !strings.Contains(text, "fail") || !strings.Contains(text, tc.want) || !strings.Contains(text, tc.fix) {
				t.Errorf("doctor says:\n%s\nwant %q and %q", text, tc.want, tc.fix)
			}
		})
	}
	t.Run("one hangs", func(t *testing.T) {
		d.signal(t, 0, "STOP")
		defer d.signal(t, 0, "CONT")
		wantAnswers(t, questions, []string{"in"}, askDirectory(t, town, good, questions, 1)[0])
		if text := doctorOnLDAP(t); !strings.Contains(text, "fail ldaps://ldap1") || !strings.Contains(text, "ldap_timeout ran out") || !strings.Contains(text, "ok ldaps://ldap2") {
			t.Errorf("doctor says:\n%s", text)
		}
	})
	t.Run("both hang", func(t *testing.T) {
		d.signal(t, 0, "STOP")
		defer d.signal(t, 0, "CONT")
		d.signal(t, 1, "STOP")
		defer d.signal(t, 1, "CONT")
		wantAnswers(t, questions, []string{"ldap_timeout ran out"}, askDirectory(t, town, good, questions, 1)[0])
	})
	t.Run("all is well", func(t *testing.T) {
		wantAnswers(t, questions, []string{"in"}, askDirectory(t, town, good, questions, 1)[0])
		if text := doctorOnLDAP(t); strings.Count(text, "it answers") != 2 || !strings.Contains(text, `"u00007" is `+userDN(7)) {
			t.Errorf("doctor says:\n%s", text)
		}
	})
}

func (d *directorySite) signal(t *testing.T, i int, signal string) {
	t.Helper()
	must(t, d.servers[i].Signal(t.Context(), "slapd", signal))
}

func (d *directorySite) address(t *testing.T, i int) string {
	t.Helper()
	ip, err := d.servers[i].IP(t.Context())
	must(t, err)
	return ip
}

// doctorOnLDAP is what doctor says of the directory, with the settings that
// askDirectory left.
func doctorOnLDAP(t *testing.T) string {
	t.Helper()
	out, err := town.host.Run(t.Context(), harness.Command{Args: []string{"sallyport", "doctor", "--user", "u00007", "--json", "--config", "/etc/sallyport/ldap-test.toml"}})
	must(t, err)
	var report struct {
		Findings []struct{ Area, Subject, Status, Message, Fix string }
	}
	must(t, json.Unmarshal([]byte(out.Stdout), &report))
	var b strings.Builder
	for _, f := range report.Findings {
		if f.Area == "ldap" {
			fmt.Fprintf(&b, "%s %s: %s\n  %s\n", f.Status, f.Subject, f.Message, f.Fix)
		}
	}
	return b.String()
}

// writeDown makes people of the host known to the directory, in these groups.
func (d *directorySite) writeDown(t *testing.T, p *person, number int, mail string, groups ...string) {
	t.Helper()
	var b strings.Builder
	writePerson(func(dn string, lines ...string) {
		fmt.Fprintf(&b, "dn: %s\nchangetype: add\n%s\n\n", dn, strings.Join(lines, "\n"))
		for _, g := range groups {
			fmt.Fprintf(&b, "dn: %s\nchangetype: modify\nadd: member\nmember: %s\n\n", groupDN(g), dn)
		}
	}, p.name, number, mail)
	d.modify(t, b.String())
}

// The verifier knows people by the address that the directory has.
func (d *directorySite) testMapping(t *testing.T) {
	p, eve := town.stranger(t, "mapped"), town.person(t, "unmapped")
	eve.hotp(t) // the verifier knows her Unix name, which must not help her
	known := &person{site: town, name: p.name + ".known"}
	town.admin(t, nil, "user", "add", known.name)
	token := known.hotp(t)
	d.writeDown(t, p, 80001, p.name+".KNOWN@example.org")
	before := town.authdConfig(t)
	t.Cleanup(func() { town.setAuthdConfig(t, before) })
	mapped := strings.Replace(before, "[services.su]\n", "[services.su]\nmapping = { ldap = \"mail\", domain = \"strip\", case = \"lower\" }\n", 1)
	town.setAuthdConfig(t, mapped+ldapTable(startTLS, "cache_max_age = \"1s\"\ncache_negative = \"1s\"\n"))
	v := p.su(t)
	v.answers(token.next())
	v.comesIn()
	p.lastDecision(t, decision{Reason: "passcode"})
	eve.su(t).isRefused()
	eve.lastDecision(t, decision{Reason: "mapping_failed", Setting: "mapping"})
	for _, c := range d.servers {
		d.kill(t, c)
	}
	time.Sleep(1100 * time.Millisecond)
	p.su(t).isRefused()
	p.lastDecision(t, decision{Reason: "mapping_unknown", Setting: "mapping"})
	for _, c := range d.servers {
		d.start(t, c)
	}
}

// Three people, each with one rule that hangs on a group: the directory is
// there, then one server of two, then none, with and without an answer kept.
func (d *directorySite) testRules(t *testing.T) {
	bypassed, denied, required := town.person(t, "bygroup"), town.person(t, "banned"), town.person(t, "careful")
	tokens := map[*person]*codes{}
	for i, p := range []*person{bypassed, denied, required} {
		tokens[p] = p.hotp(t)
		group := []string{"trusted-inner"}
		if i > 0 {
			group = nil
		}
		d.writeDown(t, p, 81001+i, p.name+"@example.org", group...)
	}
	rules := fmt.Sprintf(`
[[rules]]
name = "trusted people"
reason = "a test"
action = "bypass"
users = [%[1]q]
ldap_groups = ["trusted"]

[[rules]]
name = "banned people"
action = "deny"
users = [%[2]q]
ldap_groups = ["banned"]

[[rules]]
name = "careful people"
action = "require"
users = [%[3]q]
ldap_groups = ["careful"]

[[rules]]
name = "the rest of that name"
reason = "a test"
action = "bypass"
users = [%[3]q]
`, bypassed.name, denied.name, required.name)
	before := town.authdConfig(t)
	t.Cleanup(func() { town.setAuthdConfig(t, before) })
	const maxAge = 20 * time.Second
	config := before + ldapTable(startTLS, fmt.Sprintf("cache_max_age = %q\n", maxAge)) + rules
	asDirectorySays := func(t *testing.T) {
		t.Helper()
		bypassed.sudo(t).comesIn()
		bypassed.lastDecision(t, decision{Reason: "rule_bypass"})
		v := denied.sudo(t)
		v.answers(tokens[denied].next())
		v.comesIn()
		denied.lastDecision(t, decision{Reason: "passcode"})
		required.sudo(t).comesIn()
		required.lastDecision(t, decision{Reason: "rule_bypass"})
	}
	asUnknown := func(t *testing.T) {
		t.Helper()
		v := bypassed.sudo(t) // an unknown bypass does not match
		v.answers(tokens[bypassed].next())
		v.comesIn()
		bypassed.lastDecision(t, decision{Reason: "passcode"})
		denied.sudo(t).isRefused() // an unknown deny does
		denied.lastDecision(t, decision{Reason: "rule_deny"})
		v = required.sudo(t) // and so does an unknown require
		v.answers(tokens[required].next())
		v.comesIn()
		required.lastDecision(t, decision{Reason: "passcode"})
	}
	town.setAuthdConfig(t, config)
	asDirectorySays(t)
	explained, err := town.host.Must(t.Context(), "sallyport", "rules", "explain", "--user", bypassed.name, "--service", "sudo")
	must(t, err)
	if !strings.Contains(explained, `=> bypass by rule "trusted people"`) {
		t.Errorf("rules explain does not ask the directory:\n%s", explained)
	}
	t.Run("the first of two is gone", func(t *testing.T) {
		d.kill(t, d.servers[0])
		town.setAuthdConfig(t, config) // with nothing in the cache
		asDirectorySays(t)
	})
	t.Run("both are gone", func(t *testing.T) {
		warm := time.Now()
		d.kill(t, d.servers[1])
		t.Run("an answer is kept", asDirectorySays)
		time.Sleep(time.Until(warm.Add(maxAge + time.Second)))
		t.Run("it has grown too old", asUnknown)
		t.Run("there never was one", func(t *testing.T) {
			town.setAuthdConfig(t, config)
			asUnknown(t)
		})
	})
	t.Run("the second is back", func(t *testing.T) {
		before := countBack(t)
		d.start(t, d.servers[1])
		eventually(t, "authd asks the directory again", func() bool {
			v := bypassed.sudo(t)
			v.expect(asksFactor + "|" + isIn) // authd has looked for the group
			v.leaves()
			return countBack(t) > before
		})
		asDirectorySays(t)
	})
}

// countBack is how often authd has found that a server answers again.
func countBack(t *testing.T) int {
	t.Helper()
	log, err := town.host.Log(t.Context(), "authd")
	must(t, err)
	return strings.Count(log, `"event":"ldap_back"`)
}
