// SPDX-License-Identifier: Apache-2.0

package failmode_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/clock"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/failmode"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

var (
	errAway   = fmt.Errorf("preauth: %w", &upstream.Outage{Cause: upstream.CauseRefused, Err: errors.New("refused")})
	errBroken = fmt.Errorf("preauth: %w", &upstream.Outage{Cause: upstream.CauseServerError, Err: errors.New("500")})
)

// host is a gate with clocks that a test sets.
type host struct {
	*testing.T
	*failmode.Gate
	dir  string
	log  *lockedBuffer
	wall time.Time
	up   time.Duration
	boot string
}

type lockedBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func (b *lockedBuffer) count(s string) int {
	b.Lock()
	defer b.Unlock()
	return strings.Count(b.String(), s)
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{T: t, dir: filepath.Join(t.TempDir(), "state"), log: &lockedBuffer{}, wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), up: time.Hour, boot: "a"}
	h.start()
	t.Cleanup(func() { h.Close() })
	return h
}

func (h *host) start() {
	h.Gate = failmode.New(failmode.Options{
		Dir: h.dir, Log: slog.New(slog.NewTextHandler(h.log, nil)),
		Clock: clock.Clock{Now: func() time.Time { return h.wall }, Boot: func() (string, time.Duration) { return h.boot, h.up }},
	})
}

// restart is a new authd on the same host.
func (h *host) restart() {
	h.Close()
	h.start()
}

// passes lets time pass on both clocks.
func (h *host) passes(d time.Duration) {
	h.wall, h.up = h.wall.Add(d), h.up+d
}

// service fails open for an hour, twice a person.
var service = config.Service{Name: "sshd", FailMode: config.FailOpen, OpenMinutes: 60, OpenUses: 2}

func (h *host) knock(user string) failmode.Decision { return h.knockWith(user, errAway) }

func (h *host) knockWith(user string, err error) failmode.Decision {
	return h.Decide(failmode.Case{Service: service, User: user, People: 3}, err)
}

func (h *host) comesIn(d failmode.Decision) {
	h.Helper()
	if !d.Allow || d.Reason != "fail_open" || d.Setting != "fail_mode" || d.Err != nil {
		h.Errorf("got %+v, want to be let in", d)
	}
}

func (h *host) isDenied(d failmode.Decision, setting string) {
	h.Helper()
	if d.Allow || d.Offline || d.Answer || d.Reason != "fail_open_limit" || d.Setting != setting || d.Err == nil {
		h.Errorf("got %+v, want a denial by %s", d, setting)
	}
}

func TestDecide(t *testing.T) {
	for _, tc := range []struct {
		name    string
		mode    config.FailMode
		err     error
		allow   bool
		offline bool
		answer  bool
		reason  string
	}{
		{"outage, secure", config.FailSecure, errAway, false, false, false, "verifier_down"},
		{"outage, open", config.FailOpen, errAway, true, false, false, "fail_open"},
		{"outage, offline", config.FailOffline, errAway, false, true, false, "verifier_down"},
		{"outage, unknown mode", "opne", errAway, false, false, false, "verifier_down"},
		{"outage, no mode", "", errAway, false, false, false, "verifier_down"},
		{"401, open", config.FailOpen, duoapi.NewError(duoapi.CodeInvalidSignature, ""), false, false, true, "verifier_refused"},
		{"403, open", config.FailOpen, duoapi.NewError(duoapi.CodeForbidden, ""), false, false, true, "verifier_refused"},
		{"429, open", config.FailOpen, duoapi.NewError(duoapi.CodeTooManyRequests, ""), false, false, true, "verifier_refused"},
		{"429, offline", config.FailOffline, duoapi.NewError(duoapi.CodeTooManyRequests, ""), false, false, true, "verifier_refused"},
		{"an error of our own, open", config.FailOpen, errors.New("bug"), false, false, true, "verifier_refused"},
		{"no error at all, open", config.FailOpen, nil, false, false, true, "verifier_refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newHost(t)
			h.Contact(true)
			s := service
			s.FailMode = tc.mode
			d := h.Decide(failmode.Case{Service: s, User: "alice", People: 3}, tc.err)
			if d.Allow != tc.allow || d.Offline != tc.offline || d.Answer != tc.answer || d.Reason != tc.reason {
				t.Errorf("got %+v", d)
			}
			if counted, logged := h.Opened() == 1, h.log.count("event=fail_open ") == 1; counted != tc.allow || logged != tc.allow {
				t.Errorf("counted %v, logged %v", counted, logged)
			}
		})
	}
}

func TestNeverInContact(t *testing.T) {
	h := newHost(t)
	h.isDenied(h.knock("alice"), "open_minutes")
}

func TestMinutes(t *testing.T) {
	h := newHost(t)
	h.Contact(false)
	h.passes(59 * time.Minute)
	h.comesIn(h.knock("alice"))
	h.passes(2 * time.Minute)
	h.isDenied(h.knock("bob"), "open_minutes")
	h.Contact(false)
	h.comesIn(h.knock("bob"))
}

func TestUses(t *testing.T) {
	h := newHost(t)
	h.Contact(true)
	for range 2 {
		h.comesIn(h.knock("alice"))
	}
	h.isDenied(h.knock("alice"), "open_uses")
	h.comesIn(h.knock("bob"))
	h.restart()
	h.isDenied(h.knock("alice"), "open_uses")
	h.Back()
	h.comesIn(h.knock("alice"))
}

// A terminal of the host is refused, whatever else would hold.
func TestLocal(t *testing.T) {
	h := newHost(t)
	h.Contact(true)
	c := failmode.Case{Service: service, User: "alice", Local: true, People: 3}
	h.isDenied(h.Decide(c, errAway), "open_local")
	c.Service.OpenLocal = true
	h.comesIn(h.Decide(c, errAway))
}

func TestPeopleAreBounded(t *testing.T) {
	h := newHost(t)
	h.Contact(true)
	for _, user := range []string{"a", "b", "c"} {
		h.comesIn(h.knock(user))
	}
	h.isDenied(h.knock("d"), "open_people")
	h.comesIn(h.knock("a")) // whoever is counted already goes on
	if s := service; true {
		s.FailMode = config.FailSecure
		if d := h.Decide(failmode.Case{Service: s, User: "d", People: 3}, errAway); d.Reason != "verifier_down" {
			t.Errorf("got %+v", d)
		}
	}
}

// A verifier that can be reached and does not do its work answers its probes:
// they must not begin the count anew. Only what it does for the person does.
func TestBrokenVerifier(t *testing.T) {
	h := newHost(t)
	h.Contact(true)
	for range 2 {
		h.comesIn(h.knockWith("alice", errBroken))
		h.Contact(false)
		h.Back()
	}
	h.isDenied(h.knockWith("alice", errBroken), "open_uses")
	h.Served("bob")
	h.isDenied(h.knockWith("alice", errBroken), "open_uses")
	h.restart()
	h.Back() // the first probe of the new authd
	h.isDenied(h.knockWith("alice", errBroken), "open_uses")

	// The minutes count from the first time, for the probes are contacts.
	h.comesIn(h.knockWith("bob", errBroken))
	h.passes(61 * time.Minute)
	h.Contact(false)
	h.isDenied(h.knockWith("bob", errBroken), "open_minutes")

	h.Served("alice")
	h.comesIn(h.knockWith("alice", errBroken))
	h.passes(25 * time.Hour)
	h.Contact(false)
	h.comesIn(h.knockWith("bob", errBroken)) // nobody could have served him, as nobody came
}

// A host whose key the verifier refused gets in by no outage, until the verifier
// has taken the key again.
func TestRefusalHolds(t *testing.T) {
	h := newHost(t)
	h.Contact(true)
	h.Refused()
	h.Contact(false)
	h.restart()
	for _, mode := range []config.FailMode{config.FailOpen, config.FailOffline} {
		s := service
		s.FailMode = mode
		if d := h.Decide(failmode.Case{Service: s, User: "alice", People: 3}, errAway); !d.Answer || d.Allow || d.Offline || d.Reason != "verifier_refused" {
			t.Errorf("%s: %+v", mode, d)
		}
	}
	h.Contact(true)
	h.comesIn(h.knock("alice"))
}

// A host that lacks the means to ask has no outage to show for it.
func TestOwnLackIsNoOutage(t *testing.T) {
	h := newHost(t)
	h.Contact(true)
	h.isDenied(h.knockWith("alice", &upstream.Outage{Cause: upstream.CauseHost, Err: errors.New("too many open files")}), "fail_mode")
}

// No setting of a clock, and no restart, makes a limit longer.
func TestClocks(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*host)
		denied bool
	}{
		"a restart of authd":              {func(h *host) { h.restart() }, false},
		"set back by a day":               {func(h *host) { h.wall = h.wall.Add(-24 * time.Hour) }, false},
		"set back, and an hour":           {func(h *host) { h.wall = h.wall.Add(-24 * time.Hour); h.passes(61 * time.Minute) }, true},
		"set back, restarted, an hour":    {func(h *host) { h.wall = h.wall.Add(-24 * time.Hour); h.restart(); h.passes(61 * time.Minute) }, true},
		"set forward by a day":            {func(h *host) { h.wall = h.wall.Add(24 * time.Hour) }, true},
		"rebooted":                        {func(h *host) { h.reboot(); h.passes(10 * time.Minute) }, false},
		"rebooted, an hour":               {func(h *host) { h.reboot(); h.passes(61 * time.Minute) }, true},
		"rebooted, set back":              {func(h *host) { h.reboot(); h.wall = h.wall.Add(-24 * time.Hour) }, true},
		"rebooted, set back, an hour":     {func(h *host) { h.reboot(); h.wall = h.wall.Add(-30 * time.Minute); h.passes(61 * time.Minute) }, true},
		"suspended for an hour":           {func(h *host) { h.passes(61 * time.Minute) }, true},
		"suspended, and the clock frozen": {func(h *host) { h.up += 61 * time.Minute }, true},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.Contact(true)
			tc.change(h)
			d := h.knock("alice")
			if tc.denied {
				h.isDenied(d, "open_minutes")
			} else {
				h.comesIn(d)
			}
		})
	}
}

// reboot is another boot of the host, a minute later.
func (h *host) reboot() {
	h.Close()
	h.wall, h.up, h.boot = h.wall.Add(time.Minute), 30*time.Second, "b"
	h.start()
}

// What cannot be written lets nobody in, and is not held against them.
func TestFullDisk(t *testing.T) {
	h := newHost(t)
	h.Contact(true)
	h.restart()
	// A file where the folder should be: no write can succeed, not even root's.
	if err := os.Rename(h.dir, h.dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if d := h.knock("alice"); d.Allow || d.Reason != "fail_open_unrecorded" || d.Setting != "state_dir" || d.Err == nil {
			t.Errorf("got %+v", d)
		}
	}
	if err := errors.Join(os.Remove(h.dir), os.Rename(h.dir+".away", h.dir)); err != nil {
		t.Fatal(err)
	}
	if h.Opened() != 0 {
		t.Errorf("%d counted", h.Opened())
	}
	h.comesIn(h.knock("alice"))
}

// A use is on disk before anybody comes in: an authd that is killed at once
// knows of it.
func TestUsesAreOnDiskFirst(t *testing.T) {
	h := newHost(t)
	h.Contact(true)
	var group sync.WaitGroup
	var mu sync.Mutex
	allowed := 0
	for range 20 {
		group.Go(func() {
			if h.knock("alice").Allow {
				mu.Lock()
				defer mu.Unlock()
				allowed++
			}
		})
	}
	group.Wait()
	if allowed != 2 {
		t.Errorf("%d came in at once, want 2", allowed)
	}
	killed := h.Gate
	defer killed.Close()
	h.start() // without Close: whatever the other had not written is lost
	h.isDenied(h.knock("alice"), "open_uses")
}

func TestReportsWhenTheVerifierIsBack(t *testing.T) {
	h := newHost(t)
	h.Contact(true)
	h.comesIn(h.knock("alice"))
	h.comesIn(h.knock("bob"))
	h.restart()
	h.Back()
	if h.log.count("event=fail_open_total total=2") != 1 {
		t.Errorf("log: %s", h.log)
	}
	h.Back()
	if h.log.count("event=fail_open_total") != 1 || h.Opened() != 0 {
		t.Errorf("told twice: %s", h.log)
	}
}

func TestMemoryThatCannotBeRead(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"garbage":               func(path string) error { return os.WriteFile(path, []byte("{"), 0o600) },
		"negative":              func(path string) error { return os.WriteFile(path, []byte(`{"opened":-1}`), 0o600) },
		"uses without a time":   func(path string) error { return os.WriteFile(path, []byte(`{"people":{"alice":{"count":-5}}}`), 0o600) },
		"writable for others":   func(path string) error { return os.Chmod(path, 0o666) },
		"a folder in its place": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.Contact(true)
			h.Close()
			if err := spoil(filepath.Join(h.dir, "failmode.json")); err != nil {
				t.Fatal(err)
			}
			h.start()
			h.isDenied(h.knock("alice"), "open_minutes")
			if h.log.count("event=state_lost") != 1 {
				t.Errorf("log: %s", h.log)
			}
		})
	}
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"contact":{"wall":"2026-03-01T12:00:00Z","boot":"a","up":3600000000000},"people":{"alice":{"began":{"wall":"2026-03-01T12:00:00Z","boot":"a","up":3600000000000},"count":1}}}`))
	f.Add([]byte(`{"refused":true,"opened":3}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "failmode.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		now := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
		g := failmode.New(failmode.Options{
			Dir: dir, Log: slog.New(slog.DiscardHandler),
			Clock: clock.Clock{Now: func() time.Time { return now }, Boot: func() (string, time.Duration) { return "a", time.Hour + 30*time.Minute }},
		})
		defer g.Close()
		allowed := 0
		for range 4 {
			if g.Decide(failmode.Case{Service: service, User: "alice", People: 3}, errAway).Allow {
				allowed++
			}
		}
		if allowed > service.OpenUses {
			t.Fatalf("%d came in by %s", allowed, text)
		}
	})
}
