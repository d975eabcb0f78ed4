// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

func TestWhatTheVerifierIsTold(t *testing.T) {
	h := newHost(t, "[services.sudo]\npush_command = true\ndescription = \"sudo on a server\"\nmapping = \"lower\"\n")
	approveNext(h)
	req := sudoRequest(frames.HookAuthenticate)
	req.User = "alice"
	h.run(rootPeer(7), req, "push")
	pre := h.verifier.Calls("/auth/v2/preauth")[0].Params
	if pre.Get("client_supports_verified_push") != "1" || pre.Get("hostname") != "web1.example" || pre.Has("ipaddr") {
		t.Errorf("preauth: %v", pre)
	}
	auth := h.verifier.Calls("/auth/v2/auth")[0].Params
	for k, want := range map[string]string{
		"username": "alice", "factor": "push", "device": "DPONE", "async": "1", "hostname": "web1.example",
		"type": "sudo on a server", "display_username": "alice",
		"pushinfo": "Host=web1.example&Service=sudo&User=alice&Command=sudo+rm+-rf+%2F",
	} {
		if auth.Get(k) != want {
			t.Errorf("auth %s: %q, want %q", k, auth.Get(k), want)
		}
	}

	h = newHost(t, "")
	h.verifier.Codes = []string{"123456"}
	h.ssh("123456")
	auth = h.verifier.Calls("/auth/v2/auth")[0].Params
	if auth.Get("ipaddr") != "10.0.4.7" || auth.Get("passcode") != "123456" || auth.Has("device") || auth.Has("async") {
		t.Errorf("passcode: %v", auth)
	}
}

func TestVerifiedPushUsesAFreshCode(t *testing.T) {
	h := newHost(t, "")
	verified(h)
	h.verifier.Codes = []string{"123456"}
	// The person looks at the menu for long, so the code of the first preauth is old.
	late := func() any {
		h.setNow(func() time.Time { return time.Now().Add(10 * time.Second) })
		return "push"
	}
	h.ssh(late, "123456")
	if n := len(h.verifier.Calls("/auth/v2/preauth")); n != 2 {
		t.Errorf("%d preauths, want 2", n)
	}
	if got := h.verifier.Calls("/auth/v2/auth")[0].Params.Get("txid"); got != "tx2" {
		t.Errorf("pushed with txid %q, want that of the second preauth", got)
	}
}

func TestAbandonedPushIsWithdrawn(t *testing.T) {
	h := newHost(t, "")
	verified(h)
	h.verifier.Codes = []string{"123456"}
	h.ssh("push", "123456")
	deadline := time.Now().Add(time.Minute)
	for len(h.verifier.Cancelled()) == 0 && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
	}
	if got := h.verifier.Cancelled(); !slices.Equal(got, []string{"tx1"}) {
		t.Errorf("withdrawn: %v", got)
	}
}

func TestEnvironmentFactor(t *testing.T) {
	env := func(name, value string) *frames.Request {
		r := sudoRequest(frames.HookAuthenticate)
		r.ProcEnv = map[string]frames.Secret{name: frames.Secret(value)}
		return r
	}
	const accept = "[services.sudo]\naccept_env_factor = true\n"

	h := newHost(t, accept)
	h.verifier.Codes = []string{"123456"}
	if got, p := h.run(rootPeer(1), env("DUO_PASSCODE", "123456")); got != frames.OutcomeAllow {
		t.Errorf("passcode: %s\n%s", got, &p.script)
	}
	approveNext(h)
	if got, p := h.run(rootPeer(1), env("SALLYPORT_PASSCODE", "push")); got != frames.OutcomeAllow {
		t.Errorf("push: %s\n%s", got, &p.script)
	}
	if got, p := h.run(rootPeer(1), env("DUO_PASSCODE", "123456"), "0", "0", "0", "1234567", "7654321"); got != frames.OutcomeMaxTries {
		t.Errorf("used passcode, then two wrong ones: %s\n%s", got, &p.script)
	}
	if strings.Contains(h.log.String(), "123456") {
		t.Error("a passcode is in the log")
	}

	h = newHost(t, "")
	h.verifier.Codes = []string{"123456"}
	if got, p := h.run(rootPeer(1), env("DUO_PASSCODE", "123456")); got != frames.OutcomeAborted {
		t.Errorf("not accepted by the service: %s\n%s", got, &p.script)
	}
}

// The module's own deadline comes after each of authd's, and the whole of the
// machine time stays below it.
func TestWaitsAreAnnouncedAndBounded(t *testing.T) { synctest.Test(t, testWaitsAreAnnouncedAndBounded) }

func testWaitsAreAnnouncedAndBounded(t *testing.T) {
	h := newHost(t, "[timeouts]\napproval_timeout = \"1s\"\n")
	_, p := h.ssh("push", "push", "push")
	if len(p.waits) == 0 {
		t.Fatal("no wait was announced")
	}
	for _, w := range p.waits {
		if w <= 0 || w > 90*time.Second {
			t.Errorf("announced a wait of %s", w)
		}
	}
}

func TestControlCharactersOfThePeerStayOutOfTheLog(t *testing.T) {
	h := newHost(t, "")
	req := sudoRequest(frames.HookAuthenticate)
	req.RUser, req.User, req.TTY = "evil\nmsg=login result=allow", "evil\x1b[2J", "\x1b]0;x\x07"
	h.run(rootPeer(1), req)
	if strings.ContainsAny(h.log.String(), "\x1b\x07") || strings.Count(h.log.String(), "\n") != 1 {
		t.Errorf("log: %q", h.log.String())
	}
}

// habits is a memory of one person.
type habits struct{ login.Habit }

func (h *habits) Last(string) login.Habit      { return h.Habit }
func (h *habits) Used(_ string, u login.Habit) { h.Habit = u }

// What the person chose, and what let them in, is first the next time.
func TestLastUsedFactorComesFirst(t *testing.T) {
	h := newHost(t, "")
	h.verifier.Codes = []string{"111111", "222222", "333333"}
	memory := &habits{}
	h.engine.Habits = memory
	want := func(name string, factor string) {
		t.Helper()
		if memory.Factor != factor {
			t.Errorf("%s: remembered %q, want %q", name, memory.Factor, factor)
		}
	}
	h.ssh("000000", login.ErrAborted)
	want("not let in", "")
	h.ssh("111111")
	want("passcode", "passcode")
	h.ssh("sms", "222222")
	want("code by SMS", "sms")
	approveNext(h)
	if _, p := h.ssh("phone"); !strings.Contains(p.script.String(), " 1. SMS passcodes to ") {
		t.Errorf("after an SMS:\n%s", &p.script)
	}
	want("call", "phone")
	approveNext(h)
	h.ssh("1")
	want("the first of the menu", "phone")
}

// sudo calls PAM silently: there a refusal is a question, if there is a terminal.
func TestSilentCallersReadTheirRefusal(t *testing.T) {
	const silent = 0x8000
	h := newHost(t, "[[rules]]\nname = \"no\"\naction = \"deny\"\nusers = [\"alice\"]\n")
	req := sudoRequest(frames.HookAuthenticate)
	req.Flags = silent
	outcome, p := h.run(rootPeer(1), req, "")
	if want := "This login is not permitted.\n\nPress Enter to end this login. «»\n=> deny\n"; outcome != frames.OutcomeDeny || p.script.String() != want {
		t.Errorf("on a terminal:\n%s\nwant:\n%s", &p.script, want)
	}
	req.TTY = ""
	if _, p = h.run(rootPeer(1), req); p.script.String() != "=> deny\n" {
		t.Errorf("without one:\n%s", &p.script)
	}
	req = sudoRequest(frames.HookAuthenticate)
	if _, p = h.run(rootPeer(1), req); p.script.String() != "[error] This login is not permitted.\n=> deny\n" {
		t.Errorf("not silent:\n%s", &p.script)
	}
	user := login.Peer{Socket: login.UserSocket, UID: 1000, Process: process(9)}
	req.Flags = silent
	if _, p = h.run(user, req); p.script.String() != "=> deny\n" {
		t.Errorf("on user.sock:\n%s", &p.script)
	}
}
