// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// crowd and its report are the input and the output of ./drv.
type crowd struct {
	Parallel int          `json:"parallel"`
	People   []crowdEntry `json:"people"`
}

type crowdEntry struct {
	Name       string `json:"name"`
	Key        string `json:"key"`
	Secret     string `json:"secret"`
	Logins     int    `json:"logins"`
	WrongEvery int    `json:"wrong_every"`
}

type crowdReport struct {
	In      int      `json:"in"`
	Refused int      `json:"refused"`
	Wrong   []string `json:"wrong"`
	Slowest float64  `json:"slowest_seconds"`
	Seconds float64  `json:"seconds"`
}

// 600 logins by ssh, eight at a time, every sixth with a wrong code.
func TestManySSHLogins(t *testing.T) {
	people := town.crowd(t, "sshcrowd", 24, 25, 6)
	got := town.let(t, people, town.client, "ssh", "-addr", "host:22")
	assertCrowd(t, people, got)
}

// 3,000 runs of sudo in a loop, every tenth with a wrong code.
func TestManySudos(t *testing.T) {
	people := town.crowd(t, "sudocrowd", 4, 750, 10)
	got := town.let(t, people, town.host, "sudo")
	assertCrowd(t, people, got)
}

type member struct {
	*person
	entry crowdEntry
}

func (s *site) crowd(t *testing.T, what string, people, logins, wrongEvery int) []member {
	t.Helper()
	s.keepLogs(t)
	var members []member
	for range people {
		p := s.person(t, what)
		p.joins(t, "crowd")
		members = append(members, member{p, crowdEntry{
			Name: p.name, Key: p.key, Secret: p.hotp(t).secret, Logins: logins, WrongEvery: wrongEvery,
		}})
	}
	return members
}

// let sends the crowd in and returns what happened.
func (s *site) let(t *testing.T, members []member, from *harness.Container, program ...string) crowdReport {
	t.Helper()
	c := crowd{Parallel: 8}
	for _, m := range members {
		c.People = append(c.People, m.entry)
	}
	input, err := json.Marshal(c)
	must(t, err)
	out, err := from.Run(t.Context(), harness.Command{Args: append([]string{"drv"}, program...), Stdin: bytes.NewReader(input)})
	must(t, err)
	var report crowdReport
	if err := json.Unmarshal([]byte(out.Stdout), &report); err != nil {
		t.Fatalf("the crowd's report: %v: %s", err, out.Output())
	}
	t.Logf("%d let in, %d refused in %.0f s, the slowest took %.1f s", report.In, report.Refused, report.Seconds, report.Slowest)
	return report
}

// assertCrowd asserts that each login had the right result, and that each code
// that was typed is in the verifier's log once, with that result.
func assertCrowd(t *testing.T, members []member, got crowdReport) {
	t.Helper()
	in, refused := 0, 0
	for _, m := range members {
		wrong := m.entry.Logins / m.entry.WrongEvery
		in, refused = in+m.entry.Logins-wrong, refused+wrong
		logged := map[string]int{}
		for _, e := range m.events(t) {
			logged[e.Result]++
		}
		if n := len(m.decisions(t)); n != m.entry.Logins {
			t.Errorf("authd's log has %d logins of %s, want %d", n, m.name, m.entry.Logins)
		}
		if want := fmt.Sprint(map[string]int{"success": m.entry.Logins - wrong, "denied": wrong}); fmt.Sprint(logged) != want {
			t.Errorf("the log of %s has %v, want %v", m.name, logged, want)
		}
	}
	if got.In != in || got.Refused != refused || len(got.Wrong) > 0 {
		t.Errorf("%d let in and %d refused, want %d and %d; the first of %d others: %q",
			got.In, got.Refused, in, refused, len(got.Wrong), got.Wrong[:min(5, len(got.Wrong))])
	}
}
