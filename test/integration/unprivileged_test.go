// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// A screen locker runs as the person whose screen it locks. It can prove that
// person, and nobody else.
func TestScreenLocker(t *testing.T) {
	t.Parallel()
	p, other := town.person(t, "locker"), town.person(t, "locker")
	token := p.hotp(t)
	other.hotp(t)
	v := p.unlocks(t, p)
	v.answers(token.next())
	v.expect("successfully authenticated")

	v = p.unlocks(t, other)
	v.isRefused()
	if events := other.events(t); len(events) != 0 {
		t.Errorf("one person's program reached another person's factor: %+v", events)
	}
}

func (p *person) unlocks(t *testing.T, whose *person) *visit {
	t.Helper()
	return p.visit(t, p.site.host, harness.Command{User: p.name, Args: []string{"pamtester", "screenlock", whose.name, "authenticate"}})
}

// attackReport is the report of ./drv attack.
type attackReport struct {
	Connections map[string]int    `json:"connections"`
	Outcomes    map[string]int    `json:"outcomes"`
	Alone       map[string]string `json:"alone"`
	Successes   []string          `json:"successes"`
}

// Two ordinary users do to user.sock what they can: 10,000 connections each that
// say nothing, send half a frame, send bytes slowly, send garbage, claim to be
// root's sshd and sudo, answer before they are asked. Nobody gets in by it, and
// root's sudo and sshd have their answers all the while.
func TestAttackOnTheSocketOfOrdinaryUsers(t *testing.T) {
	s := ownSite(t)
	known, unknown, victim := s.person(t, "attacker"), s.stranger(t, "attacker"), s.person(t, "victim")
	known.hotp(t)
	token, screen := victim.hotp(t), victim.bypassCodes(t, 1)[0]
	const stop = "/tmp/attack-ends"

	type end struct {
		result harness.Result
		err    error
	}
	ends := make(chan end, 2)
	attackers := []*person{known, unknown}
	for _, p := range attackers {
		go func() {
			r, err := s.host.Run(t.Context(), harness.Command{User: p.name, Args: []string{"drv", "attack", "-self", p.name,
				"-victim", victim.name, "-victim", "root", "-victim", "nobody", "-least", "1700", "-stop", stop}})
			ends <- end{r, err}
		}()
	}
	eventually(t, "the attack", func() bool {
		log, err := s.host.Log(t.Context(), "authd")
		must(t, err)
		return strings.Contains(log, `"event":"refused"`)
	})
	for range 5 {
		for _, enter := range []func(*testing.T) *visit{
			func(t *testing.T) *visit { return victim.sudo(t) },
			func(t *testing.T) *visit { return victim.ssh(t, s.client, "22") },
		} {
			v := enter(t)
			v.answers(token.next())
			v.comesIn()
			victim.lastDecision(t, decision{Reason: "passcode"})
		}
	}
	v := victim.sudo(t)
	for range 3 {
		v.answers(token.wrong())
	}
	v.isRefused()
	v = victim.unlocks(t, victim) // a third user still has places of their own
	v.answers(screen)
	v.expect("successfully authenticated")

	_, err := s.host.Must(t.Context(), "touch", stop)
	must(t, err)
	for range attackers {
		e := <-ends
		must(t, e.err)
		var report attackReport
		if err := json.Unmarshal([]byte(e.result.Stdout), &report); err != nil {
			t.Fatalf("the attacker's report: %v: %s", err, e.result.Output())
		}
		t.Logf("connections %v, outcomes %v, alone %v", report.Connections, report.Outcomes, report.Alone)
		delete(report.Connections, "alone")
		total := 0
		for _, n := range report.Connections {
			total += n
		}
		if total < 10_000 || len(report.Connections) != 6 {
			t.Errorf("only %v connections", report.Connections)
		}
		if len(report.Successes) > 0 || report.Outcomes["authenticate allow"] > 0 {
			t.Errorf("let in: %q; %v", report.Successes, report.Outcomes)
		}
		// In the crowd of their own most requests find no place. So each kind is asked once more without it.
		want := map[string]string{"authenticate": "deny", "acct_mgmt": "deny", "open_session": "deny", "chauthtok": "deny"}
		if !maps.Equal(report.Alone, want) {
			t.Errorf("after the crowd: %v, want %v", report.Alone, want)
		}
	}
	for _, e := range victim.events(t) {
		if e.Result != "success" && e.Reason != "invalid_passcode" {
			t.Errorf("somebody reached the victim's factor: %+v", e)
		}
	}
	v = victim.sudo(t)
	v.answers(token.next())
	v.comesIn()
}

// Who starts a setuid program decides its limits and its descriptors. Whatever
// they take away, the program denies: also where unreachable=allow lets in when
// authd does not run.
func TestStarvedProgramsDeny(t *testing.T) {
	t.Parallel()
	s := ownSite(t)
	must(t, s.host.Put(t.Context(), files(map[string]string{"/etc/pam.d/su-l": `
auth    requisite  pam_unix.so
auth    required   pam_sallyport.so unreachable=allow
account required   pam_unix.so
session required   pam_unix.so
`})...))
	p := s.person(t, "starver")
	p.joins(t, "unreachable")
	p.hotp(t)
	for _, limit := range []string{
		"ulimit -n 3", "ulimit -n 4", "ulimit -n 5", "ulimit -n 6", "ulimit -v 8000", "ulimit -v 20000", "ulimit -s 64", "ulimit -f 0", "ulimit -u 1", "ulimit -t 1",
		"exec >&-", "exec <&-", "exec <&- >&- 2>&-", "ulimit -n 4; exec 3</etc/passwd", "exec 3</dev/null 4<&3 5<&3 6<&3 7<&3 8<&3 9<&3; ulimit -n 10",
	} {
		for _, program := range []string{"su -c", "su -l -c", "sudo sh -c"} {
			t.Run(limit+"; "+program, func(t *testing.T) {
				t.Parallel()
				v := p.visit(t, p.site.host, harness.Command{User: p.name, Args: []string{"sh", "-c", limit + "; exec " + program + " '" + inside + "'"}})
				password := rootPassword
				if program == "sudo sh -c" {
					password = p.password
				}
				v.isDeniedWhatever(password)
			})
		}
	}
}

// isDeniedWhatever gives the right password and wrong codes until the program ends,
// which must not have let in.
func (v *visit) isDeniedWhatever(password string) {
	v.t.Helper()
	for {
		match, err := v.terminal.Expect(`assword[^:]*: $|` + asksFactor + `|` + saysWhy)
		if err != nil {
			break // the program has ended
		}
		switch {
		case strings.Contains(match[0], "assword"):
			v.types(password)
		case strings.Contains(match[0], "Enter"):
			v.types("")
		default:
			v.types("0000000")
		}
	}
	code, err := v.terminal.Wait(v.t.Context())
	must(v.t, err)
	if screen := v.terminal.Screen(); code == 0 || strings.Contains(screen, isIn) {
		v.t.Errorf("let in, status %d; terminal:\n%s", code, screen)
	}
}

// An ordinary user who floods the socket of ordinary users is in nobody's way.
func TestFloodOfAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	flooder, p := town.person(t, "flooder"), town.person(t, "calm")
	token, lock := p.hotp(t), p.bypassCodes(t, 1)[0]
	_, err := town.host.Shell(t.Context(), fmt.Sprintf(
		"for i in $(seq 200); do su %s -s /bin/sh -c 'sleep 20 | nc -U /run/sallyport/user.sock' >/dev/null 2>&1 & done", flooder.name))
	must(t, err)
	eventually(t, "the flood", func() bool {
		out, err := town.host.Shell(t.Context(), "pgrep --count --euid "+flooder.name+" nc || true")
		must(t, err)
		return len(out) > 1
	})
	v := p.sudo(t)
	v.answers(token.next())
	v.comesIn()
	v = p.unlocks(t, p)
	v.answers(lock)
	v.expect("successfully authenticated")
}
