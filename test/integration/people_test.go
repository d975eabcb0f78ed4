// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// Whom the verifier does not know is not let in, and is not asked for a code.
func TestUnknownPerson(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.stranger(t, "unknown")
		d.knock(t, p).isRefused()
	})
}

// Who has no factor yet is told whom to ask.
func TestUnenrolledPerson(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "unenrolled")
		v := d.knock(t, p)
		v.isRefused()
		v.hasRead("no second factor is enrolled")
	})
}

func TestDisabledPerson(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "disabled")
		p.hotp(t)
		p.setStatus(t, "disabled")
		v := d.knock(t, p)
		v.isRefused()
		v.hasRead("Your account is disabled.")
	})
}

// Bypass status lets in without a question, and the log says why.
func TestBypassedPerson(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "bypassed", "--status", "bypass")
		d.knock(t, p).comesIn()
		p.lastEvent(t, event{Result: "success", Reason: "bypass_user"})
	})
}

// Ten wrong codes lock a person out: the right code is refused too, until an
// administrator lifts the lock.
func TestLockedOutPerson(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "locked")
		token := p.hotp(t)
		p.lockOut(t, d, token)
		v := d.knock(t, p)
		v.isRefused()
		v.hasRead("Your account is locked out.")

		p.setStatus(t, "active")
		v = d.knock(t, p)
		v.answers(token.next())
		v.comesIn()
	})
}

// lockOut types wrong codes until the verifier has had enough.
func (p *person) lockOut(t *testing.T, d door, token *codes) {
	t.Helper()
	for range 10 {
		v := d.knock(t, p)
		for range 3 {
			if _, err := v.terminal.Expect(asksFactor); err != nil {
				break // locked out before the third
			}
			v.types(token.wrong())
		}
		v.isRefused()
		if p.status(t) == "locked out" {
			return
		}
	}
	t.Fatal("30 wrong codes did not lock the person out")
}

// Who has failed waits before the next question, and reads why where messages are
// shown.
func TestFailuresSlowDown(t *testing.T) {
	atEveryDoor(t, func(t *testing.T, d door) {
		p := town.person(t, "slow")
		token := p.hotp(t)
		v := d.knock(t, p)
		for range 3 {
			v.answers(token.wrong())
		}
		v.isRefused()
		if n := p.slowdowns(t); n != 0 {
			t.Errorf("%d delays for the first three failures", n)
		}
		v = d.knock(t, p)
		v.answers(token.next())
		v.comesIn()
		if d.name != "sudo" { // sudo shows no messages
			v.hasRead("There were failed attempts before.")
		}
		if n := p.slowdowns(t); n != 1 {
			t.Errorf("%d delays, want one", n)
		}
		v = d.knock(t, p)
		v.answers(token.next())
		v.comesIn()
		if n := p.slowdowns(t); n != 1 {
			t.Errorf("%d delays after a success, want no further one", n)
		}
	})
}

// slowdowns is how often authd's log says that the person was made to wait.
func (p *person) slowdowns(t *testing.T) int {
	t.Helper()
	log, err := p.site.host.Log(t.Context(), "authd")
	must(t, err)
	n := 0
	for line := range strings.Lines(log) {
		var e struct{ Event, User, Setting string }
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "throttled" && e.User == p.name && e.Setting == "throttle.max_delay" {
			n++
		}
	}
	return n
}
