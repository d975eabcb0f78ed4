// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/failmode"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

const opening = "[services.default]\nfail_mode = \"open\"\nopen_uses = 1\n"

// openLimits are the rows of the table on what fail_mode open does not do.
func openLimits() []failure {
	down := func(h *host) { h.verifier.Spoil(verifiertest.Refuse(duoapi.CodeServerError)) }
	console := &frames.Request{Hook: frames.HookAuthenticate, Service: "login", User: "alice", TTY: "/dev/tty1"}
	return []failure{
		{reason: "verifier_down", setting: "fail_mode", name: "offline", outcome: frames.OutcomeUnavailable, setup: down, settings: "[services.default]\nfail_mode = \"offline\"\n"},
		{reason: "fail_open_limit", setting: "open_local", outcome: frames.OutcomeUnavailable, settings: opening, setup: down, req: console},
		{reason: "fail_open_limit", setting: "open_uses", outcome: frames.OutcomeUnavailable, settings: opening, setup: func(h *host) {
			down(h)
			h.engine.FailMode.Decide(failmode.Case{Service: h.engine.Config().Service("sshd", true), User: "alice", People: 1},
				&upstream.Outage{Cause: upstream.CauseServerError, Err: os.ErrClosed})
		}},
		{reason: "fail_open_unrecorded", setting: "state_dir", outcome: frames.OutcomeUnavailable, settings: opening, setup: func(h *host) {
			down(h)
			dir := h.engine.Config().StateDir
			for { // the gate may be writing just now
				_ = os.RemoveAll(dir)
				if os.WriteFile(dir, nil, 0o600) == nil {
					return
				}
			}
		}},
		{reason: "verifier_refused", name: "before the outage", outcome: frames.OutcomeDeny, settings: opening, setup: func(h *host) {
			down(h)
			h.engine.FailMode.Refused()
		}},
		{reason: "verifier_refused", setting: "login_timeout", name: "busy for too long", outcome: frames.OutcomeDeny, settings: opening,
			setup: func(h *host) { h.verifier.Spoil(verifiertest.Busy("3600", 0)) }},
		{reason: "login_timeout", setting: "login_timeout", name: "used up by look-ups", outcome: frames.OutcomeUnavailable,
			settings: "[timeouts]\nlogin_timeout = \"1s\"\n" + opening, setup: func(h *host) {
				down(h)
				h.engine.People = tardy{}
			}},
	}
}

// tardy is a name service that takes most of a second.
type tardy struct{ accounts }

func (d tardy) ByName(ctx context.Context, name string) (directory.Account, error) {
	time.Sleep(600 * time.Millisecond)
	return d.accounts.ByName(ctx, name)
}

// A verifier that vanishes once a factor was offered lets nobody in; the next
// login finds it away before that, and meets the fail mode.
func TestNextLoginMeetsTheFailMode(t *testing.T) {
	for mode, want := range map[string]string{"secure": "verifier_down", "open": "fail_open", "offline": "verifier_down"} {
		for _, answer := range []string{"123456", "push"} {
			t.Run(mode+" "+answer, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, "[timeouts]\nrequest_timeout = \"3s\"\nconnect_timeout = \"3s\"\n[services.default]\nfail_mode = \""+mode+"\"\n")
				vanish := func() any { h.verifier.Close(); return answer }
				if answer == "push" {
					go func() { h.verifier.Started(h.T); h.verifier.Close() }()
					vanish = func() any { return answer }
				}
				if outcome, p := h.ssh(vanish); outcome != frames.OutcomeUnavailable {
					t.Errorf("outcome %s\n%s", outcome, &p.script)
				}
				h.wantEvent(map[string]any{"reason": "verifier_lost"})
				outcome, p := h.ssh()
				events := h.events()
				if len(events) != 2 || events[1]["reason"] != want || events[1]["cause"] == nil || (outcome == frames.OutcomeAllow) != (mode == "open") {
					t.Errorf("outcome %s, events %v\n%s", outcome, events, &p.script)
				}
			})
		}
	}
}

// A push survives a verifier that restarts while it waits, however long it has
// waited by then.
func TestPushSurvivesARestart(t *testing.T) { synctest.Test(t, testPushSurvivesARestart) }

func testPushSurvivesARestart(t *testing.T) {
	h := newHost(t, "[timeouts]\nrequest_timeout = \"2s\"\nconnect_timeout = \"1s\"\n")
	var polls atomic.Int32
	h.verifier.Spoil(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/auth/v2/auth_status" {
			return false
		}
		switch n := polls.Add(1); {
		case n == 1: // a long poll that is cut after more than request_timeout
			time.Sleep(2500 * time.Millisecond)
			panic(http.ErrAbortHandler)
		case n < 4:
			panic(http.ErrAbortHandler)
		}
		return false
	})
	approveNext(h)
	if outcome, p := h.ssh("push"); outcome != frames.OutcomeAllow {
		t.Errorf("outcome %s\n%s", outcome, &p.script)
	}
	h.wantEvent(map[string]any{"reason": "approved"})
}

// A verifier that is busy is asked again when it says, and the same passcode may
// be sent again: it was not looked at.
func TestBusyVerifier(t *testing.T) {
	for name, tc := range map[string]struct {
		after   string
		times   int
		outcome frames.Outcome
		asked   int
	}{
		"once":           {"1", 1, frames.OutcomeAllow, 2},
		"by date":        {"date", 1, frames.OutcomeAllow, 2},
		"too often":      {"1", 0, frames.OutcomeDeny, 4},
		"for too long":   {"86", 0, frames.OutcomeDeny, 1},
		"names no time":  {"", 1, frames.OutcomeDeny, 1},
		"names nonsense": {"soon", 1, frames.OutcomeDeny, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, "[services.default]\nfail_mode = \"open\"\n")
				h.verifier.Codes = []string{"123456"}
				if tc.after == "date" {
					tc.after = time.Now().Add(3 * time.Second).UTC().Format(http.TimeFormat)
				}
				busy, asked := verifiertest.Busy(tc.after, tc.times), atomic.Int32{}
				h.verifier.Spoil(func(w http.ResponseWriter, r *http.Request) bool {
					if r.URL.Path != "/auth/v2/auth" {
						return false
					}
					asked.Add(1)
					return busy(w, r)
				})
				req := sudoRequest(frames.HookAuthenticate)
				outcome, p := h.run(rootPeer(1), req, "123456")
				if outcome != tc.outcome || int(asked.Load()) != tc.asked {
					t.Errorf("outcome %s after %d calls\n%s", outcome, asked.Load(), &p.script)
				}
				if waited := strings.Count(p.script.String(), "The verifier is busy. Trying again in"); waited != tc.asked-1 {
					t.Errorf("told %d times:\n%s", waited, &p.script)
				}
				if tc.outcome == frames.OutcomeDeny {
					h.wantEvent(map[string]any{"reason": "verifier_refused"})
				}
				if longest := slices.Max(p.waits); longest > 90*time.Second {
					t.Errorf("announced a wait of %s", longest)
				}
			})
		})
	}
}

// Where nobody can read it at once, nothing is said of the wait.
func TestBusyVerifierUnderSSH(t *testing.T) { synctest.Test(t, testBusyVerifierUnderSSH) }

func testBusyVerifierUnderSSH(t *testing.T) {
	h := newHost(t, "")
	h.verifier.Codes = []string{"123456"}
	h.verifier.Spoil(verifiertest.Busy("1", 1))
	outcome, p := h.ssh("123456")
	if outcome != frames.OutcomeAllow || strings.Contains(p.script.String(), "busy") {
		t.Errorf("outcome %s\n%s", outcome, &p.script)
	}
}

func TestBusyWhileAPushWaits(t *testing.T) { synctest.Test(t, testBusyWhileAPushWaits) }

func testBusyWhileAPushWaits(t *testing.T) {
	h := newHost(t, "")
	busy := verifiertest.Busy("1", 2)
	h.verifier.Spoil(func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Path == "/auth/v2/auth_status" && busy(w, r)
	})
	approveNext(h)
	if outcome, p := h.ssh("push"); outcome != frames.OutcomeAllow {
		t.Errorf("outcome %s\n%s", outcome, &p.script)
	}
}

// Which logins count as at this host.
func TestOpenAtTerminals(t *testing.T) {
	for name, tc := range map[string]struct {
		service, tty, rhost string
		socket              login.Socket
		local               bool
	}{
		"sshd":                               {"sshd", "ssh", "10.0.4.7", login.RootSocket, false},
		"sudo on a pseudo-terminal":          {"sudo", "/dev/pts/3", "", login.RootSocket, false},
		"su, which names no folder":          {"su", "pts/3", "", login.RootSocket, false},
		"login on a console":                 {"login", "/dev/tty1", "", login.RootSocket, true},
		"sudo on a console":                  {"sudo", "/dev/tty1", "", login.RootSocket, true},
		"sudo there, with its own host name": {"sudo", "/dev/tty1", "web1", login.RootSocket, true},
		"a serial line":                      {"login", "ttyS0", "", login.RootSocket, true},
		"a display manager":                  {"gdm-password", ":0", "", login.RootSocket, true},
		"no terminal":                        {"polkit-1", "", "", login.RootSocket, true},
		"no terminal, from elsewhere":        {"vsftpd", "", "10.0.4.7", login.RootSocket, false},
		"a screen locker's word":             {"lock", "pts/3", "10.0.4.7", login.UserSocket, true},
		"the gateway":                        {"x", "", "", login.GatewaySocket, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, opening)
			h.verifier.Spoil(verifiertest.Refuse(duoapi.CodeServerError))
			req := &frames.Request{Hook: frames.HookAuthenticate, Service: tc.service, User: "alice", TTY: tc.tty, RHost: tc.rhost, RUID: 1000}
			if tc.service == "sshd" {
				req = sshRequest(frames.HookAuthenticate, "alice")
			}
			if tc.socket == login.GatewaySocket {
				req = gatewayRequest("alice", "door")
			}
			peer := login.Peer{Socket: tc.socket, UID: 1000, Process: process(1)}
			outcome, _ := h.run(peer, req)
			if (outcome == frames.OutcomeAllow) == tc.local {
				t.Errorf("outcome %s", outcome)
			}
			if tc.local {
				h.wantEvent(map[string]any{"reason": "fail_open_limit", "setting": "open_local"})
			}
		})
	}
}

// What an outage looked like stands in the event beside the setting that decided.
func TestEventNamesTheCause(t *testing.T) {
	for name, tc := range map[string]struct {
		fault          func(http.ResponseWriter, *http.Request) bool
		cause, setting any
	}{
		"500":     {verifiertest.Refuse(duoapi.CodeServerError), "server_error", nil},
		"garbage": {verifiertest.Garbage, "malformed", nil},
		"hangs": {func(w http.ResponseWriter, r *http.Request) bool {
			return r.URL.Path == "/auth/v2/preauth" && verifiertest.Hang(w, r)
		}, "timeout", "request_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t, "[timeouts]\nrequest_timeout = \"3s\"\nconnect_timeout = \"3s\"\n")
				h.verifier.Spoil(tc.fault)
				h.ssh()
				h.wantEvent(map[string]any{"reason": "verifier_down", "setting": "fail_mode", "cause": tc.cause, "cause_setting": tc.setting})
			})
		})
	}
}

// The words for causes are in the documentation, and no others.
func TestCausesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/explanation/login.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## What counts as an outage\n")
	if !found {
		t.Fatal("the section is missing")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rows := 0
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "| `") && !strings.HasPrefix(line, "| `cause`") {
			rows++
		}
	}
	for _, cause := range upstream.Causes() {
		if !strings.Contains(section, "| `"+string(cause)+"` |") {
			t.Errorf("%s has no row", cause)
		}
	}
	if rows != len(upstream.Causes()) {
		t.Errorf("%d rows for %d causes", rows, len(upstream.Causes()))
	}
}
