// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/throttle"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

func newThrottledHost(t *testing.T, settings string) *host {
	h := newHost(t, settings)
	h.engine.Throttle, h.engine.UserThrottle = throttle.New(time.Now), throttle.New(time.Now)
	h.verifier.Codes = []string{"123456", "234567", "345678"}
	return h
}

// slowdowns returns the delays in the log so far, in seconds.
func (h *host) slowdowns() []float64 {
	h.Helper()
	h.log.Lock()
	defer h.log.Unlock()
	var all []float64
	for line := range strings.Lines(h.log.String()) {
		var e struct {
			Event, Setting string
			Delay          time.Duration
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.Fatal(err)
		}
		if e.Event == "throttled" {
			all = append(all, e.Delay.Seconds())
			if !strings.HasPrefix(e.Setting, "throttle.") && e.Setting != "login_timeout" {
				h.Errorf("a delay by the setting %q", e.Setting)
			}
		}
	}
	return all
}

func (h *host) wantSlowdowns(what string, want ...float64) {
	h.Helper()
	got := h.slowdowns()
	if len(got) != len(want) {
		h.Fatalf("%s: delays of %v s, want %v", what, got, want)
	}
	for i, w := range want {
		if got[i] != w {
			h.Errorf("%s: delays of %v s, want %v", what, got, want)
		}
	}
}

func TestFailuresSlowDown(t *testing.T) { synctest.Test(t, testFailuresSlowDown) }

func testFailuresSlowDown(t *testing.T) {
	h := newThrottledHost(t, "")
	began := time.Now()
	h.ssh("000000", "000000", "000000")
	h.wantSlowdowns("the first failures")
	if d := time.Since(began); d != 0 {
		t.Errorf("they took %s", d)
	}
	outcome, p := h.ssh("000000", "123456")
	h.wantSlowdowns("fourth and fifth question", 5, 10)
	if d := time.Since(began); d != 15*time.Second || outcome != frames.OutcomeAllow {
		t.Errorf("%s after %s\n%s", outcome, d, &p.script)
	}
	for _, want := range []string{"Please wait 5 seconds.\n", "Please wait 10 seconds.\n"} {
		if !strings.Contains(p.script.String(), "[info] There were failed attempts before. "+want) {
			t.Errorf("the person did not read %q:\n%s", want, &p.script)
		}
	}
	h.ssh("000000", "234567")
	h.wantSlowdowns("after a success", 5, 10)
}

func TestGuessesFromElsewhereCostTheOwnerLittle(t *testing.T) {
	synctest.Test(t, testGuessesFromElsewhereCostTheOwnerLittle)
}

func testGuessesFromElsewhereCostTheOwnerLittle(t *testing.T) {
	h := newThrottledHost(t, "[services.sshd]\nattempts = 10\n")
	elsewhere := from(sshRequest(frames.HookAuthenticate, "alice"), "192.0.2.1")
	h.run(rootPeer(1), elsewhere, "0", "000001", "000002", "000003", "000004", "000005", "000006")
	n := len(h.slowdowns())
	if n == 0 {
		t.Fatal("the guesser was not slowed down")
	}
	if got, p := h.ssh("123456"); got != frames.OutcomeAllow {
		t.Errorf("%s\n%s", got, &p.script)
	}
	if len(h.slowdowns()) != n {
		t.Error("the owner was slowed down")
	}
}

// A code in the environment is a guess like any other: it waits before it is checked.
func TestGuessesFromTheEnvironmentSlowDown(t *testing.T) {
	synctest.Test(t, testGuessesFromTheEnvironmentSlowDown)
}

func testGuessesFromTheEnvironmentSlowDown(t *testing.T) {
	h := newThrottledHost(t, "[services.sudo]\naccept_env_factor = true\nattempts = 1\n")
	for range 4 {
		r := sudoRequest(frames.HookAuthenticate)
		r.RUID = 1000
		r.ProcEnv = map[string]frames.Secret{"SALLYPORT_PASSCODE": "000000"}
		h.run(rootPeer(1), r)
	}
	h.wantSlowdowns("fourth run of sudo", 2)
}

// Neither does an outage count, nor what an ordinary user does on their own socket.
func TestWhatDoesNotCount(t *testing.T) { synctest.Test(t, testWhatDoesNotCount) }

func testWhatDoesNotCount(t *testing.T) {
	h := newThrottledHost(t, "[services.unprivileged]\nattempts = 10\n")
	h.ssh("sms", "sms", "sms", "sms", "123456")
	h.wantSlowdowns("codes by SMS")
	user := login.Peer{Socket: login.UserSocket, UID: 1000, Process: process(100)}
	for range 2 { // more than are free for a person from anywhere
		h.run(user, &frames.Request{Hook: frames.HookAuthenticate, Service: "xlock", User: "alice"}, "0000000", "0000001", "0000002", "0000003", "0000004", "0000005", "0000006")
	}
	n := len(h.slowdowns())
	if n == 0 {
		t.Error("guesses on user.sock were not slowed down")
	}
	h.ssh("234567")
	if len(h.slowdowns()) != n {
		t.Error("failures on user.sock slowed a login by sshd down")
	}
}

func TestDelayFitsTheLogin(t *testing.T) { synctest.Test(t, testDelayFitsTheLogin) }

func testDelayFitsTheLogin(t *testing.T) {
	h := newHost(t, "[timeouts]\nlogin_timeout = \"1s\"\n[throttle]\nfree_failures = 2\nsshd_delay = \"1m\"\nmax_delay = \"1m\"\n")
	h.engine.Throttle = throttle.New(time.Now)
	h.verifier.Codes = []string{"123456"}
	if got, p := h.ssh("000000", "000000", "123456"); got != frames.OutcomeAllow {
		t.Errorf("the delay used up the login: %s\n%s", got, &p.script)
	}
	if log := h.log.String(); strings.Count(log, `"event":"throttled"`) != 1 || !strings.Contains(log, `"setting":"login_timeout"`) {
		t.Errorf("log:\n%s", log)
	}
}
