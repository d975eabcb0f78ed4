// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/offline"
	"github.com/sallyport-mfa/sallyport/authd/passport"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

const sessionOfGateway = "3f1c000000000000000000000000000000000000000000000000000000000a9b"

var gatewayPeer = login.Peer{Socket: login.GatewaySocket, UID: 990, Process: process(500)}

// gatewayRequest is a question of the gateway with a key done. set holds further
// variables, NAME=VALUE; one without = is taken away.
func gatewayRequest(user, kind string, set ...string) *frames.Request {
	env := map[string]string{
		"SSH_AUTH_INFO_0": "publickey " + sshKey, "SSH_CONNECTION": "10.0.4.7 4711 10.0.0.1 22",
		"SALLYPORT_SSH_SESSION": sessionOfGateway, "SALLYPORT_GATEWAY": kind, "SALLYPORT_GATEWAY_RULE": "production",
	}
	for _, s := range set {
		if name, value, given := strings.Cut(s, "="); given {
			env[name] = value
		} else {
			delete(env, name)
		}
	}
	return &frames.Request{Hook: frames.HookAuthenticate, Version: "test", Service: "sshgw", User: user, RHost: "10.0.4.7", PAMEnv: env}
}

// atGateway asks as the gateway does.
func (h *host) atGateway(req *frames.Request, answers ...any) (frames.Outcome, *human) {
	h.Helper()
	return h.run(gatewayPeer, req, answers...)
}

// last is the latest login event.
func (h *host) last() map[string]any {
	h.Helper()
	all := h.events()
	if len(all) == 0 {
		h.Fatal("no login event")
	}
	return all[len(all)-1]
}

func (h *host) wantLast(what string, fields map[string]any) {
	h.Helper()
	e := h.last()
	for k, v := range fields {
		if fmt.Sprint(e[k]) != fmt.Sprint(v) {
			h.Errorf("%s: event field %s is %v, want %v; event: %v", what, k, e[k], v, e)
		}
	}
}

// asks says that the question was put to the person; answered, it lets in.
func (h *host) asks(what string, req *frames.Request) {
	h.Helper()
	h.verifier.Lock()
	h.verifier.Codes = []string{"123456"}
	h.verifier.Unlock()
	p := &human{h: h, answers: []any{"123456"}}
	if got := h.engine.Handle(h.Context(), gatewayPeer, req, p); got != frames.OutcomeAllow || p.asked != 1 {
		h.Errorf("%s: %s, asked %d times\n%s", what, got, p.asked, &p.script)
	}
}

func (h *host) remembers(what string, req *frames.Request) {
	h.Helper()
	if got, p := h.atGateway(req); got != frames.OutcomeAllow {
		h.Errorf("%s: %s\n%s", what, got, &p.script)
		return
	}
	h.wantLast(what, map[string]any{"reason": "gateway_remembered"})
}

const withGrace = "[gateway]\ngrace = \"10m\"\nstep_up_grace = \"5m\"\n"

func TestGatewayDoorIsALogin(t *testing.T) {
	h := newHost(t, "")
	h.asks("the first time", gatewayRequest("alice", "door", "SALLYPORT_TARGET=db1", "SALLYPORT_LOGIN=root"))
	h.wantLast("the event", map[string]any{
		"reason": "passcode", "service": "sshgw", "user": "alice", "source": "10.0.4.7", "gateway": "door", "gateway_rule": "production",
		"gateway_target": "db1", "gateway_login": "root", "ssh_session": sessionOfGateway,
	})
	h.asks("without a grace nothing is remembered", gatewayRequest("alice", "door"))
	if n := h.engine.Grace.Len(); n != 0 {
		t.Errorf("%d answers are remembered", n)
	}
}

func TestPushShowsWhereTheGatewayGoes(t *testing.T) {
	h := newHost(t, "")
	approveNext(h)
	h.atGateway(gatewayRequest("alice", "door", "SALLYPORT_TARGET=db1", "SALLYPORT_LOGIN=root"), "1")
	if info := h.verifier.Calls("/auth/v2/auth")[0].Params.Get("pushinfo"); !strings.Contains(info, "&Target=root%40db1") {
		t.Errorf("the push shows %s", info)
	}
}

func TestGatewayRemembers(t *testing.T) {
	h := newHost(t, withGrace)
	now := time.Now()
	h.setNow(func() time.Time { return now })
	h.asks("the first time", gatewayRequest("alice", "door"))
	h.remembers("again", gatewayRequest("alice", "door", "SALLYPORT_GATEWAY_RULE=another", "SALLYPORT_TARGET=db1"))
	h.wantLast("the event", map[string]any{"factor": "passcode"})
	h.remembers("held", gatewayRequest("alice", "hold"))
	if n := len(h.verifier.Calls("/auth/v2/preauth")); n != 3 {
		t.Errorf("the verifier was asked %d times whether alice may, want 3", n)
	}
	h.asks("when it must be fresh", gatewayRequest("alice", "door", "SALLYPORT_FRESH=1"))
	h.setNow(func() time.Time { return now.Add(10*time.Minute - time.Second) })
	h.remembers("at the end of the grace", gatewayRequest("alice", "door"))
	h.setNow(func() time.Time { return now.Add(10 * time.Minute) })
	h.asks("after it: use does not lengthen it", gatewayRequest("alice", "door"))
	h.setNow(func() time.Time { return now.Add(-time.Hour) })
	h.asks("after the clock was set back", gatewayRequest("alice", "door", "SSH_CONNECTION=10.0.4.9 1 10.0.0.1 22"))
}

// What was answered for one connection must not answer for another.
func TestAttackGraceDoesNotCross(t *testing.T) {
	h := newHost(t, withGrace+"[services.sshgw]\nfirst_factor = \"stack\"\n")
	h.asks("alice", gatewayRequest("alice", "door"))
	for what, req := range map[string]*frames.Request{
		"another user":               gatewayRequest("backup", "door"),
		"another key":                gatewayRequest("alice", "door", "SSH_AUTH_INFO_0=publickey "+otherKey),
		"a password":                 gatewayRequest("alice", "door", "SSH_AUTH_INFO_0=password"),
		"the key and a password":     gatewayRequest("alice", "door", "SSH_AUTH_INFO_0=publickey "+sshKey+"\npassword"),
		"no first factor":            gatewayRequest("alice", "door", "SSH_AUTH_INFO_0"),
		"a first factor misread":     gatewayRequest("alice", "door", "SSH_AUTH_INFO_0=publickey x"),
		"another source":             gatewayRequest("alice", "door", "SSH_CONNECTION=10.0.4.8 4711 10.0.0.1 22"),
		"no source":                  gatewayRequest("alice", "door", "SSH_CONNECTION=here"),
		"a step-up":                  gatewayRequest("alice", "step-up"),
		"a step-up by another rule":  gatewayRequest("alice", "step-up", "SALLYPORT_GATEWAY_RULE=other"),
		"a step-up of the rule door": gatewayRequest("alice", "step-up", "SALLYPORT_GATEWAY_RULE=door"),
	} {
		h.asksOnce(what, req)
	}
	h.remembers("alice", gatewayRequest("alice", "door"))
}

// asksOnce says that a question is asked, and leaves it unanswered.
func (h *host) asksOnce(what string, req *frames.Request) {
	h.Helper()
	p := &human{h: h, answers: []any{login.ErrAborted}}
	if got := h.engine.Handle(h.Context(), gatewayPeer, req, p); got != frames.OutcomeAborted || p.asked != 1 {
		h.Errorf("%s: %s, asked %d times\n%s", what, got, p.asked, &p.script)
	}
}

func TestStepUpHasAMemoryOfItsOwn(t *testing.T) {
	h := newHost(t, withGrace)
	h.asks("step-up", gatewayRequest("alice", "step-up"))
	h.asksOnce("the door", gatewayRequest("alice", "door"))
	h.asksOnce("another rule", gatewayRequest("alice", "step-up", "SALLYPORT_GATEWAY_RULE=other"))
	h.remembers("the same rule", gatewayRequest("alice", "step-up"))
	now := time.Now()
	h.setNow(func() time.Time { return now.Add(6 * time.Minute) })
	h.asksOnce("after step_up_grace", gatewayRequest("alice", "step-up"))
}

// Who can only read and who is not there yet have the memory of a step-up, and no other.
func TestStepUpOfWhoCannotType(t *testing.T) {
	h := newHost(t, withGrace)
	h.asks("the door", gatewayRequest("alice", "door"))
	calls := func() int { return len(h.verifier.Calls("/auth/v2/auth")) }
	before, logged := calls(), len(h.events())
	if got, p := h.atGateway(gatewayRequest("alice", "step-up-remembered")); got != frames.OutcomeDeny || strings.Contains(p.script.String(), "[") || p.asked != 0 || calls() != before {
		t.Errorf("nothing remembered: %s, %d requests\n%s", got, calls()-before, &p.script)
	}
	if n := len(h.events()); n != logged {
		t.Errorf("a look at the memory wrote %d events", n-logged)
	}
	approveNext(h)
	if got, p := h.atGateway(gatewayRequest("alice", "step-up-hold")); got != frames.OutcomeAllow || p.asked != 0 || calls() != before+1 {
		t.Errorf("held: %s, asked %d, %d requests\n%s", got, p.asked, calls()-before, &p.script)
	}
	h.wantLast("held", map[string]any{"reason": "approved", "gateway": "step-up-hold", "gateway_rule": "production"})
	for _, kind := range []string{"step-up", "step-up-hold", "step-up-remembered"} {
		h.remembers(kind, gatewayRequest("alice", kind))
		if got, p := h.atGateway(gatewayRequest("alice", kind, "SALLYPORT_GATEWAY_RULE")); got != frames.OutcomeDeny || p.asked != 0 {
			t.Errorf("%s without a rule: %s", kind, got)
		}
	}
	if got, _ := h.atGateway(gatewayRequest("alice", "step-up-remembered", "SALLYPORT_GATEWAY_RULE=other")); got != frames.OutcomeDeny {
		t.Errorf("another rule: %s", got)
	}
	h.verifier.Lock()
	h.verifier.Preauth.Result = duoapi.ResultDeny
	h.verifier.Unlock()
	if got, _ := h.atGateway(gatewayRequest("alice", "step-up-remembered")); got != frames.OutcomeDeny {
		t.Errorf("after the person was disabled: %s", got)
	}
}

// A grace must not outlive what took the person's right away.
func TestAttackGraceOutlivesItsPerson(t *testing.T) {
	for name, tc := range map[string]struct {
		end     func(h *host)
		outcome frames.Outcome // of the next login, in which nobody answers
		after   bool           // the memory is gone afterwards as well
	}{
		"disabled at the verifier": {func(h *host) { h.verifier.Preauth.Result = duoapi.ResultDeny }, frames.OutcomeDeny, true},
		"not enrolled any more":    {func(h *host) { h.verifier.Preauth.Result = duoapi.ResultEnroll }, frames.OutcomeDeny, true},
		"no account any more":      {func(h *host) { h.engine.People = accounts{err: directory.ErrNoSuchUser} }, frames.OutcomeUserUnknown, false},
		"the verifier is away": {func(h *host) {
			h.verifier.Fault = verifiertest.Refuse(duoapi.CodeServerError)
		}, frames.OutcomeUnavailable, false},
		"the verifier refuses this host": {func(h *host) {
			h.verifier.Fault = verifiertest.Refuse(duoapi.CodeInvalidSignature)
		}, frames.OutcomeDeny, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, withGrace)
			h.asks("the first time", gatewayRequest("alice", "door"))
			h.verifier.Lock()
			tc.end(h)
			h.verifier.Unlock()
			if got, p := h.atGateway(gatewayRequest("alice", "door")); got != tc.outcome {
				t.Errorf("%s, want %s\n%s", got, tc.outcome, &p.script)
			}
			if gone := h.engine.Grace.Len() == 0; gone != tc.after {
				t.Errorf("memory gone: %v", gone)
			}
		})
	}
}

func TestRefusalEndsTheGrace(t *testing.T) {
	for _, status := range []string{"deny", "fraud", "locked_out"} {
		h := newHost(t, withGrace)
		h.asks("the first time", gatewayRequest("alice", "door"))
		h.asks("for a target", gatewayRequest("alice", "step-up"))
		finishNext(h, "deny", status, "No.")
		// Wherever on this host: somebody else may be at work.
		h.run(rootPeer(100), sshRequest(frames.HookAuthenticate, "alice"), "push", login.ErrAborted)
		if n := h.engine.Grace.Len(); n != 0 {
			t.Errorf("%s: %d answers are remembered", status, n)
		}
	}
}

// A wrong passcode is no refusal: anybody could end anybody's grace.
func TestWrongPasscodeLeavesTheGrace(t *testing.T) {
	h := newHost(t, withGrace)
	h.asks("the first time", gatewayRequest("alice", "door"))
	h.run(rootPeer(100), sshRequest(frames.HookAuthenticate, "alice"), "000000", login.ErrAborted)
	h.remembers("again", gatewayRequest("alice", "door"))
}

func TestGraceEndsWhenTheSettingShrinks(t *testing.T) {
	h := newHost(t, withGrace)
	h.asks("the door", gatewayRequest("alice", "door"))
	h.asks("a target", gatewayRequest("alice", "step-up"))
	change := func(door, stepUp time.Duration) {
		cfg := *h.state.Config
		cfg.Gateway.Grace, cfg.Gateway.StepUpGrace = door, stepUp
		state := *h.state
		state.Config = &cfg
		h.state = &state
		h.engine.Use(h.state)
	}
	change(time.Hour, 5*time.Minute)
	h.remembers("the door, after it grew", gatewayRequest("alice", "door"))
	change(time.Minute, 5*time.Minute)
	h.remembers("the target, which did not shrink", gatewayRequest("alice", "step-up"))
	change(time.Hour, 5*time.Minute)
	h.asksOnce("the door, after it shrank and grew", gatewayRequest("alice", "door"))
	change(time.Hour, 0)
	change(time.Hour, time.Hour)
	h.asksOnce("the target, after it was off", gatewayRequest("alice", "step-up"))
}

// A rule that demands a factor is not answered by another one that is remembered.
func TestAttackGraceOfAWeakerFactor(t *testing.T) {
	h := newHost(t, withGrace+"[[rules]]\nname = \"push only\"\naction = \"require\"\nservices = [\"sshgw\"]\ntargets = [\"prod*\"]\nfactors = [\"push\"]\n")
	h.asks("with a passcode", gatewayRequest("alice", "door", "SALLYPORT_TARGET=test1"))
	h.asksOnce("for production", gatewayRequest("alice", "door", "SALLYPORT_TARGET=prod1"))
	h.asksOnce("where the target is not known", gatewayRequest("alice", "door"))
	h.remembers("for the rest", gatewayRequest("alice", "door", "SALLYPORT_TARGET=test2"))
}

func TestOnlyAProvedFactorIsRemembered(t *testing.T) {
	for name, tc := range map[string]struct {
		settings string
		setup    func(h *host)
		kind     string
	}{
		"a bypass":                 {"[[rules]]\nname = \"b\"\nreason = \"r\"\naction = \"bypass\"\nusers = [\"alice\"]\n", func(*host) {}, "door"},
		"a bypass at the verifier": {"", func(h *host) { h.verifier.Preauth.Result = duoapi.ResultAllow }, "door"},
		"fail_mode open":           {"[services.sshgw]\nfail_mode = \"open\"\n", func(h *host) { h.verifier.Fault = verifiertest.Refuse(duoapi.CodeServerError) }, "door"},
		"a touch":                  {"", func(*host) {}, "touch"},
		"a batch job":              {"", func(*host) {}, "batch"},
	} {
		h := newHost(t, withGrace+tc.settings)
		h.verifier.Lock()
		tc.setup(h)
		h.verifier.Unlock()
		if got, p := h.atGateway(gatewayRequest("alice", tc.kind)); got != frames.OutcomeAllow {
			t.Errorf("%s: %s\n%s", name, got, &p.script)
		}
		if n := h.engine.Grace.Len(); n != 0 {
			t.Errorf("%s is remembered", name)
		}
	}
}

func TestHold(t *testing.T) {
	for name, tc := range map[string]struct {
		settings string
		setup    func(h *host)
		outcome  frames.Outcome
		reason   string
		shown    string
	}{
		"plain push":  {"", func(h *host) { approveNext(h) }, frames.OutcomeAllow, "approved", "Waiting for the answer"},
		"denied":      {"", func(h *host) { finishNext(h, "deny", "deny", "Login request denied.") }, frames.OutcomeDeny, "not_approved", "Login request denied."},
		"fraud":       {"", func(h *host) { finishNext(h, "deny", "fraud", "Reported.") }, frames.OutcomeDeny, "fraud", "Reported."},
		"undelivered": {"", func(h *host) { h.verifier.NoWay = true }, frames.OutcomeDeny, "not_approved", "could not be sent"},
		"unanswered":  {"[timeouts]\napproval_timeout = \"1s\"\n", func(*host) {}, frames.OutcomeDeny, "not_approved", "Nobody answered"},
		"no device":   {"", func(h *host) { h.verifier.Preauth.Devices = nil }, frames.OutcomeDeny, "no_method", "the help desk"},
		"only a phone": {"", func(h *host) {
			h.verifier.Preauth.Devices[0].Capabilities = []string{duoapi.CapabilityPhone}
			approveNext(h)
		}, frames.OutcomeAllow, "approved", "Calling"},
		"a rule takes passcodes only": {"[[rules]]\naction = \"require\"\nfactors = [\"passcode\"]\n", func(*host) {}, frames.OutcomeDeny, "no_method", "the help desk"},
		"offline codes":               {"[services.sshgw]\nfail_mode = \"offline\"\n", func(h *host) { h.verifier.Fault = verifiertest.Refuse(duoapi.CodeServerError) }, frames.OutcomeUnavailable, "verifier_down", "cannot be checked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tc.settings)
			h.verifier.Lock()
			tc.setup(h)
			h.verifier.Unlock()
			got, p := h.atGateway(gatewayRequest("alice", "hold"))
			if got != tc.outcome || !strings.Contains(p.script.String(), tc.shown) || p.asked != 0 || strings.Contains(p.script.String(), "<nobody there>") {
				t.Errorf("%s, want %s and %q\n%s", got, tc.outcome, tc.shown, &p.script)
			}
			h.wantEvent(map[string]any{"reason": tc.reason, "gateway": "hold"})
		})
	}
}

// The digits are shown at once, in a message, and nothing else comes before the end.
func TestHoldShowsTheDigits(t *testing.T) {
	h := newHost(t, "")
	h.verifier.Verified = true
	p := &shown{}
	p.then = func(text string) {
		if strings.Contains(text, "Type this code there: 418302") {
			h.verifier.Approve(h.verifier.Started(t))
		}
	}
	if got := h.engine.Handle(t.Context(), gatewayPeer, gatewayRequest("alice", "hold"), p); got != frames.OutcomeAllow || len(p.texts) != 2 {
		t.Errorf("%s %q", got, p.texts)
	}
	if p.asked != 0 {
		t.Errorf("asked %d times", p.asked)
	}
}

// Whatever stands in the request or comes from the other end, a held reply is
// answered by the authenticator alone.
func TestAttackHoldAnsweredByAnotherHand(t *testing.T) {
	h := newHost(t, "[services.sshgw]\naccept_env_factor = true\nunattended = \"auto\"\n[timeouts]\napproval_timeout = \"1s\"\n")
	h.verifier.Codes = []string{"123456"}
	req := gatewayRequest("alice", "hold")
	req.ProcEnv = map[string]frames.Secret{"SALLYPORT_PASSCODE": "123456", "DUO_PASSCODE": "123456"}
	p := &human{h: h, answers: []any{"123456", "123456"}}
	if got := h.engine.Handle(t.Context(), gatewayPeer, req, p); got != frames.OutcomeDeny || p.asked != 0 {
		t.Errorf("%s, asked %d\n%s", got, p.asked, &p.script)
	}
	for _, c := range h.verifier.Calls("/auth/v2/auth") {
		if c.Params.Get("factor") != duoapi.FactorPush {
			t.Errorf("the verifier was asked for %v", c.Params)
		}
	}
}

// takesEverything is a host with offline codes that are all right.
type takesEverything struct{}

func (takesEverything) Standing(string) (offline.Standing, bool) {
	return offline.Standing{Left: 9}, true
}
func (takesEverything) Try(string, string) offline.Result {
	return offline.Result{Reason: offline.Accepted}
}
func (takesEverything) LoggedIn(string, string) {}

func TestAttackHoldAnsweredOffline(t *testing.T) {
	h := newHost(t, "[services.sshgw]\nfail_mode = \"offline\"\naccept_env_factor = true\n")
	h.engine.Offline = takesEverything{}
	h.verifier.Fault = verifiertest.Refuse(duoapi.CodeServerError)
	req := gatewayRequest("alice", "hold")
	req.ProcEnv = map[string]frames.Secret{"SALLYPORT_PASSCODE": "12345678"}
	p := &human{h: h, answers: []any{"12345678"}}
	if got := h.engine.Handle(t.Context(), gatewayPeer, req, p); got != frames.OutcomeUnavailable || p.asked != 0 {
		t.Errorf("%s, asked %d\n%s", got, p.asked, &p.script)
	}
}

// Who denies the push while somebody types a passcode at the prompt has said no.
func TestRefusalEndsTheGraceWhateverIsTyped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t, withGrace)
		h.asks("for a target", gatewayRequest("alice", "step-up"))
		h.verifier.Lock()
		h.verifier.Verified, h.verifier.Codes = true, []string{"123456"}
		h.verifier.Unlock()
		if got, p := h.atGateway(gatewayRequest("alice", "door"), "1", denyThen(h, "123456")); got != frames.OutcomeAllow {
			t.Fatalf("%s\n%s", got, &p.script)
		}
		h.asksOnce("the target", gatewayRequest("alice", "step-up"))
	})
}

func TestTouchAndBatch(t *testing.T) {
	const denied = "[[rules]]\nname = \"no\"\naction = \"deny\"\nusers = [\"alice\"]\n"
	const demanded = "[[rules]]\nname = \"yes\"\naction = \"require\"\nusers = [\"alice\"]\n"
	away := func(h *host) { h.verifier.Fault = verifiertest.Refuse(duoapi.CodeServerError) }
	disabled := func(h *host) { h.verifier.Preauth.Result = duoapi.ResultDeny }
	for name, tc := range map[string]struct {
		kind, settings string
		setup          func(h *host)
		outcome        frames.Outcome
		reason         string
	}{
		"touch":                         {"touch", "", nil, frames.OutcomeAllow, "gateway_touch"},
		"touch, not enrolled":           {"touch", "", func(h *host) { h.verifier.Preauth.Result = duoapi.ResultEnroll }, frames.OutcomeDeny, "not_enrolled"},
		"touch, the verifier lets in":   {"touch", "", func(h *host) { h.verifier.Preauth.Result = duoapi.ResultAllow }, frames.OutcomeAllow, "gateway_touch"},
		"touch, disabled":               {"touch", "", disabled, frames.OutcomeDeny, "verifier_deny"},
		"touch, the verifier is away":   {"touch", "", away, frames.OutcomeUnavailable, "verifier_down"},
		"touch, a rule denies":          {"touch", denied, nil, frames.OutcomeDeny, "rule_deny"},
		"touch, a rule demands":         {"touch", demanded, nil, frames.OutcomeAborted, "unattended"},
		"batch":                         {"batch", "", nil, frames.OutcomeAllow, "gateway_batch"},
		"batch, the verifier is away":   {"batch", "", away, frames.OutcomeAllow, "gateway_batch"},
		"batch, a rule denies":          {"batch", denied, nil, frames.OutcomeDeny, "rule_deny"},
		"batch, a rule demands":         {"batch", demanded, nil, frames.OutcomeAborted, "unattended"},
		"batch, a group is not told":    {"batch", "[[rules]]\naction = \"deny\"\ngroups = [\"ghosts\"]\n", nil, frames.OutcomeDeny, "rule_deny"},
		"batch, a target is not known":  {"batch", "[[rules]]\naction = \"deny\"\nservices = [\"sshgw\"]\ntargets = [\"db1\"]\n", nil, frames.OutcomeDeny, "rule_deny"},
		"batch, no such user":           {"batch", "", func(h *host) { h.engine.People = accounts{err: directory.ErrNoSuchUser} }, frames.OutcomeUserUnknown, "no_such_user"},
		"batch, the name service fails": {"batch", "", func(h *host) { h.engine.People = accounts{err: errors.New("gone")} }, frames.OutcomeUnavailable, "nss_failed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t, tc.settings)
			if tc.setup != nil {
				h.verifier.Lock()
				tc.setup(h)
				h.verifier.Unlock()
			}
			if got, p := h.atGateway(gatewayRequest("alice", tc.kind)); got != tc.outcome {
				t.Errorf("%s, want %s\n%s", got, tc.outcome, &p.script)
			}
			h.wantEvent(map[string]any{"reason": tc.reason, "gateway_rule": "production"})
		})
	}
}

// Without a first factor nothing that the gateway claims lets in.
func TestAttackGatewayWithoutFirstFactor(t *testing.T) {
	for _, kind := range []string{"door", "hold", "touch", "batch", "step-up"} {
		for _, info := range []string{"SSH_AUTH_INFO_0", "SSH_AUTH_INFO_0=", "SSH_AUTH_INFO_0=keyboard-interactive", "SSH_AUTH_INFO_0=publickey x"} {
			h := newHost(t, "")
			h.verifier.Preauth.Result = duoapi.ResultAllow
			if got, p := h.atGateway(gatewayRequest("alice", kind, info)); got != frames.OutcomeDeny {
				t.Errorf("%s, %s: %s\n%s", kind, info, got, &p.script)
			}
			h.wantEvent(map[string]any{"reason": "no_first_factor"})
		}
	}
}

// The claims are the gateway's own socket's: elsewhere they are words.
func TestAttackClaimsOnOtherSockets(t *testing.T) {
	for name, peer := range map[string]login.Peer{
		"authd.sock": rootPeer(100), "user.sock": {Socket: login.UserSocket, UID: 1000, Process: process(100)},
	} {
		for _, kind := range []string{"door", "hold", "touch", "batch", "step-up"} {
			h := newHost(t, withGrace+"accounts = \"any\"\n")
			h.asks("alice at the gateway", gatewayRequest("alice", "door"))
			p := &human{h: h, answers: []any{login.ErrAborted}}
			if got := h.engine.Handle(t.Context(), peer, gatewayRequest("alice", kind), p); got != frames.OutcomeAborted || p.asked != 1 {
				t.Errorf("%s, %s: %s, asked %d times\n%s", name, kind, got, p.asked, &p.script)
			}
			if e := h.last(); e["gateway"] != nil || e["ssh_session"] != nil {
				t.Errorf("%s, %s: the event believes it: %v", name, kind, e)
			}
			if got, _ := h.run(peer, gatewayRequest("zoe", kind)); got == frames.OutcomeAllow {
				t.Errorf("%s, %s: somebody without an account is let in", name, kind)
			}
		}
		h := newHost(t, "")
		h.engine.SSHKeys = keyring{"alice": {sshKey}}
		req := gatewayRequest("alice", "door")
		req.Hook = frames.HookSSHKeys
		if got, p := h.run(peer, req); got != frames.OutcomeDeny || strings.Contains(p.script.String(), "ssh-") {
			t.Errorf("%s: %s\n%s", name, got, &p.script)
		}
	}
}

func TestAttackMalformedClaims(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, claim := range []string{
		"SALLYPORT_SSH_SESSION", "SALLYPORT_SSH_SESSION=", "SALLYPORT_SSH_SESSION=" + sessionOfGateway[1:], "SALLYPORT_SSH_SESSION=" + sessionOfGateway + "0",
		"SALLYPORT_SSH_SESSION=" + strings.ToUpper(sessionOfGateway), "SALLYPORT_SSH_SESSION=" + sessionOfGateway + "\n",
		"SALLYPORT_GATEWAY", "SALLYPORT_GATEWAY=", "SALLYPORT_GATEWAY=DOOR", "SALLYPORT_GATEWAY=door ", "SALLYPORT_GATEWAY=open", "SALLYPORT_GATEWAY=" + long,
		"SALLYPORT_GATEWAY_RULE=", "SALLYPORT_GATEWAY_RULE=" + long, "SALLYPORT_GATEWAY_RULE=a\nb", "SALLYPORT_GATEWAY_RULE=\x1b[2J", "SALLYPORT_GATEWAY_RULE=\xff",
		"SALLYPORT_TARGET=", "SALLYPORT_TARGET=" + long, "SALLYPORT_TARGET=db1\u202e", "SALLYPORT_LOGIN=", "SALLYPORT_LOGIN=ro\rot",
		"SALLYPORT_FRESH=", "SALLYPORT_FRESH=0", "SALLYPORT_FRESH=true", "SALLYPORT_PERSON=root", "SALLYPORT_PROCESS=1:2:3:4", "SALLYPORT_GATEWAY_RULES=x", "SALLYPORT_=x",
	} {
		h := newHost(t, "")
		h.verifier.Preauth.Result = duoapi.ResultAllow
		if got, p := h.atGateway(gatewayRequest("alice", "batch", claim)); got != frames.OutcomeDeny {
			t.Errorf("%q: %s\n%s", claim, got, &p.script)
		}
		if e := h.event(); e["reason"] != "bad_claims" || e["gateway"] != nil {
			t.Errorf("%q: %v", claim, e)
		}
	}
	for _, kind := range []string{"touch", "batch", "step-up"} {
		h := newHost(t, "")
		if got, _ := h.atGateway(gatewayRequest("alice", kind, "SALLYPORT_GATEWAY_RULE")); got != frames.OutcomeDeny {
			t.Errorf("%s without a rule: %s", kind, got)
		}
	}
}

// The gateway is one process for many people: nothing rests on it.
func TestAttackHooksOfTheGateway(t *testing.T) {
	h := newHost(t, "[services.sshgw]\naccount_without_auth = \"allow\"\n")
	h.asks("alice", gatewayRequest("alice", "door"))
	if n := h.engine.Grants.Len(); n != 0 {
		t.Errorf("%d grants", n)
	}
	for _, hook := range []frames.Hook{frames.HookAcctMgmt, frames.HookOpenSession, frames.HookCloseSession, frames.HookChauthtok} {
		req := gatewayRequest("alice", "door")
		req.Hook = hook
		if got, _ := h.atGateway(req); got != frames.OutcomeDeny {
			t.Errorf("%s: %s", hook, got)
		}
	}
}

func TestAccountsOfTheGateway(t *testing.T) {
	for _, tc := range []struct {
		accounts, name string
		service        error // of the name service
		reason         string
	}{
		{"nss", "zoe", nil, "no_such_user"},
		{"any", "zoe", nil, "passcode"},
		{"any", "zoe.miller-2_x", nil, "passcode"},
		{"any", "alice", nil, "passcode"},
		{"any", "Zoe", nil, "no_such_user"},
		{"any", "zoe@example.org", nil, "no_such_user"},
		{"any", "-zoe", nil, "no_such_user"},
		{"any", "zoe\n", nil, "no_such_user"},
		{"any", "z\xffe", nil, "no_such_user"},
		{"any", strings.Repeat("z", 33), nil, "no_such_user"},
		{"any", "zoe", errors.New("gone"), "nss_failed"},
	} {
		h := newHost(t, "[gateway]\naccounts = \""+tc.accounts+"\"\n")
		h.verifier.Codes = []string{"123456"}
		h.engine.People = accounts{err: tc.service}
		p := &human{h: h, answers: []any{"123456"}}
		h.engine.Handle(t.Context(), gatewayPeer, gatewayRequest(tc.name, "door"), p)
		if e := h.event(); e["reason"] != tc.reason || tc.reason == "passcode" && (e["user"] != tc.name || e["username"] != tc.name) {
			t.Errorf("%s, %q: %v", tc.accounts, tc.name, e)
		}
	}
}

// keyring is what a verifier knows of keys.
type keyring map[string][]string

func (k keyring) Of(_ context.Context, _ passport.Host, username string, _ time.Duration) ([]string, error) {
	keys, ok := k[username]
	switch {
	case username == "backup":
		return nil, errors.New("away")
	case !ok:
		return nil, login.ErrNoPerson
	}
	return keys, nil
}

func TestSSHKeysOfAPerson(t *testing.T) {
	h := newHost(t, "")
	h.engine.SSHKeys = keyring{"alice": {sshKey, otherKey}, "root": nil}
	for user, want := range map[string]struct {
		outcome frames.Outcome
		keys    []string
	}{
		"alice": {frames.OutcomeAllow, []string{sshKey, otherKey}}, "root": {frames.OutcomeAllow, nil}, "nobody": {frames.OutcomeUserUnknown, nil},
		"backup": {frames.OutcomeUnavailable, nil},
	} {
		p := &shown{}
		got := h.engine.Handle(t.Context(), gatewayPeer, &frames.Request{Hook: frames.HookSSHKeys, Version: "test", Service: "sshgw", User: user}, p)
		if got != want.outcome || !slices.Equal(p.texts, want.keys) {
			t.Errorf("%s: %s %q", user, got, p.texts)
		}
	}
	if events := h.events(); len(events) != 0 {
		t.Errorf("that somebody's keys were asked for is no login: %v", events)
	}
}

// shown is a conversation that keeps what is shown, and cannot be asked.
type shown struct {
	human
	texts []string
	then  func(text string) // nil: nothing
}

func (s *shown) Show(_ frames.Style, text string) error {
	s.texts = append(s.texts, text)
	if s.then != nil {
		s.then(text)
	}
	return nil
}

// What the gateway lets in is told to the verifier as authd's own bypasses are.
func TestGatewayIsReported(t *testing.T) {
	for kind, want := range map[string]string{"touch": "gateway_touch", "batch": "gateway_batch"} {
		h := newHost(t, "")
		told := &notebook{}
		h.engine.Events = told
		h.atGateway(gatewayRequest("alice", kind, "SALLYPORT_TARGET=db1", "SALLYPORT_LOGIN=root"))
		if e := told.events; len(e) != 1 || e[0].Reason != want || e[0].Rule != "production" || e[0].Target != "root@db1" || e[0].Service != "sshgw" {
			t.Errorf("%s: told %+v", kind, e)
		}
	}
	h := newHost(t, withGrace)
	told := &notebook{}
	h.engine.Events = told
	h.asks("the first time", gatewayRequest("alice", "door"))
	h.remembers("again", gatewayRequest("alice", "door"))
	if e := told.events; len(e) != 1 || e[0].Reason != "gateway_remembered" || e[0].Factor != "passcode" {
		t.Errorf("told %+v", e)
	}
}

// Who goes away while the reply is held leaves no push behind that could be
// approved by mistake.
func TestHoldWithdrawsWhenTheClientGoes(t *testing.T) {
	h := newHost(t, "")
	h.verifier.Verified = true
	ctx, cancel := context.WithCancelCause(t.Context())
	p := &shown{then: func(string) { cancel(login.ErrPeerGone) }}
	if got := h.engine.Handle(ctx, gatewayPeer, gatewayRequest("alice", "hold"), p); got != frames.OutcomeDeny {
		t.Errorf("%s\n%q", got, p.texts)
	}
	for deadline := time.Now().Add(10 * time.Second); len(h.verifier.Cancelled()) == 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the push was not withdrawn")
		}
	}
	h.wantEvent(map[string]any{"reason": "peer_gone"})
}

// With a stolen key somebody has push after push sent, and hangs up each time before the
// person has said anything. Each counts as a failed try, so the pushes become fewer and fewer.
func TestAttackPushesAbandoned(t *testing.T) { synctest.Test(t, testAttackPushesAbandoned) }

func testAttackPushesAbandoned(t *testing.T) {
	h := newThrottledHost(t, "")
	h.verifier.Verified = true
	for range 5 {
		ctx, cancel := context.WithCancelCause(t.Context())
		p := &shown{then: func(text string) {
			if strings.ContainsAny(text, "0123456789") && !strings.Contains(text, "wait") {
				cancel(login.ErrPeerGone)
			}
		}}
		if got := h.engine.Handle(ctx, gatewayPeer, gatewayRequest("alice", "hold"), p); got != frames.OutcomeDeny {
			t.Errorf("%s\n%q", got, p.texts)
		}
	}
	h.wantSlowdowns("after the free ones", 5, 10)
}
