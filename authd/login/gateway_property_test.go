// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/clock"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// factorProved is what really happened at the gateway.
type factorProved struct {
	factor string
	at     time.Time
}

// gatewayWorld is a world whose logins come by the gateway.
type gatewayWorld struct {
	*world
	proofs map[string]factorProved // by all that a memory is bound to
}

// Over random rules, claims, verifiers, reloads and times, nobody comes through
// the gateway but by a reason that really holds, and nobody is asked whose reply
// is held.
func TestNobodyComesThroughTheGatewayWithoutReason(t *testing.T) {
	reasons := map[string]int{}
	for seed := range uint64(worlds) {
		synctest.Test(t, func(t *testing.T) {
			w := &gatewayWorld{newWorldWith(t, seed, (*world).gatewaySettings), map[string]factorProved{}}
			w.engine.Grace = login.NewGrace(clock.Clock{Now: time.Now, Boot: func() (string, time.Duration) { return "boot", time.Duration(time.Now().UnixNano()) }})
			for range 12 {
				w.login(reasons)
				time.Sleep(time.Duration(w.rng.IntN(240)) * time.Second)
				if w.chance(10) {
					w.reload()
				}
			}
		})
	}
	for _, r := range []string{"rule_bypass", "verifier_allow", "passcode", "approved", "gateway_remembered", "gateway_touch", "gateway_batch", "fail_open", "offline"} {
		if reasons[r] == 0 {
			t.Errorf("in no world somebody came in by %s: this test shows nothing of it (%v)", r, reasons)
		}
	}
}

func (w *world) gatewaySettings() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[gateway]\ngrace = %q\nstep_up_grace = %q\n", pick(w.rng, "0s", "5m", "30m"), pick(w.rng, "0s", "5m", "30m"))
	fmt.Fprintf(&b, "[services.sshgw]\nfail_mode = %q\naccept_env_factor = %v\nautopush = %v\nunattended = %q\n",
		pick(w.rng, "secure", "open", "offline"), w.chance(30), w.chance(30), pick(w.rng, "deny", "auto"))
	for i := range w.rng.IntN(4) {
		fmt.Fprintf(&b, "[[rules]]\nname = \"r%d\"\nreason = \"chance\"\nservices = [\"sshgw\"]\n", i)
		action := pick(w.rng, "require", "require", "require", "bypass", "deny")
		fmt.Fprintf(&b, "action = %q\nusers = [%q]\n", action, pick(w.rng, worldUsers...))
		switch {
		case action == "bypass":
		case w.chance(50):
			fmt.Fprintf(&b, "targets = [%q]\n", pick(w.rng, "db1", "db2"))
		}
		if action == "require" && w.chance(50) {
			fmt.Fprintf(&b, "factors = [%q]\n", pick(w.rng, "push", "passcode"))
		}
		if w.chance(30) {
			fmt.Fprintf(&b, "keys = [%q]\n", sshFingerprint)
		}
		if w.chance(20) {
			b.WriteString("sources = [\"10.0.4.7\"]\n")
		}
	}
	return b.String()
}

// reload puts other graces in force.
func (w *gatewayWorld) reload() {
	was := w.cfg.Gateway
	cfg := *w.cfg
	cfg.Gateway.Grace, cfg.Gateway.StepUpGrace = pick(w.rng, 0, 5*time.Minute, time.Hour), pick(w.rng, 0, 5*time.Minute, time.Hour)
	w.cfg = &cfg
	w.engine.Use(&login.State{Config: w.cfg, Verifier: w.world, Host: w.world})
	for k := range w.proofs {
		stepUp := strings.Contains(k, "step-up:")
		if stepUp && cfg.Gateway.StepUpGrace < was.StepUpGrace || !stepUp && cfg.Gateway.Grace < was.Grace {
			delete(w.proofs, k)
		}
	}
}

// truth is what the rules come to, found by the plainest reading of them.
func (w *gatewayWorld) truth(user, key, source, target string) *rules.Rule {
	for _, r := range w.cfg.RuleSet().Rules() {
		truth := rules.True
		is := func(holds, known bool) {
			switch {
			case !known:
				truth = min(truth, rules.Unknown)
			case !holds:
				truth = rules.False
			}
		}
		is(slices.Contains(r.Users, user), true)
		if len(r.Targets) > 0 {
			is(slices.Contains(r.Targets, target), target != "")
		}
		if len(r.Keys) > 0 {
			is(strings.HasSuffix(key, sshKey), true)
		}
		if len(r.Sources) > 0 {
			is(source == "10.0.4.7", true)
		}
		if truth == rules.True || truth == rules.Unknown && r.Action != rules.Bypass {
			return &r
		}
	}
	return nil
}

func (w *gatewayWorld) login(reasons map[string]int) {
	w.Helper()
	user, kind := pick(w.rng, "alice", "alice", "alice", "backup"), pick(w.rng, "door", "door", "door", "hold", "touch", "batch", "step-up", "step-up", "step-up-hold", "step-up-remembered")
	info := pick(w.rng, "publickey "+sshKey, "publickey "+sshKey, "publickey "+otherKey, "password", "")
	source, target, rule := pick(w.rng, "10.0.4.7", "10.0.4.7", "10.0.4.8"), pick(w.rng, "", "db1", "db3"), pick(w.rng, "one", "two")
	fresh := w.chance(10)
	claims := []string{"SSH_AUTH_INFO_0=" + info, "SSH_CONNECTION=" + source + " 1 10.0.0.1 22", "SALLYPORT_GATEWAY_RULE=" + rule}
	if target != "" {
		claims = append(claims, "SALLYPORT_TARGET="+target)
	}
	if fresh {
		claims = append(claims, "SALLYPORT_FRESH=1")
	}
	req := gatewayRequest(user, kind, claims...)
	if w.chance(20) {
		req.ProcEnv = map[string]frames.Secret{"SALLYPORT_PASSCODE": frames.Secret(w.answer().(string))}
	}
	scope, ttl := "door", w.cfg.Gateway.Grace
	if strings.HasPrefix(kind, "step-up") {
		scope, ttl = "step-up:"+rule, w.cfg.Gateway.StepUpGrace
	}
	key := strings.Join([]string{user, info, source, scope}, "|")

	w.mu.Lock()
	w.pre = pick(w.rng, "outage", "refused", duoapi.ResultAllow, duoapi.ResultDeny, duoapi.ResultEnroll, duoapi.ResultAuth, duoapi.ResultAuth, duoapi.ResultAuth, duoapi.ResultAuth, duoapi.ResultAuth)
	w.preOutage, w.allowed, w.passed, w.approved, w.codeTaken, w.glassUsed = false, false, 0, false, false, false
	w.codes["000001"], w.glass = struct{}{}, true
	w.mu.Unlock()
	w.log.Lock()
	w.log.Reset()
	w.log.Unlock()
	p := &human{}
	for range 14 {
		p.answers = append(p.answers, w.answer())
	}
	if w.chance(15) {
		p.answers = nil
	}
	ctx, cancel := context.WithTimeoutCause(w.Context(), 10*time.Minute, login.ErrPeerGone)
	outcome := w.engine.Handle(ctx, gatewayPeer, req, p)
	cancel()
	synctest.Wait()
	reason := w.logged()
	fail := func(why string) {
		w.Errorf("%s by %q for %v: %s (seed %d)\n%s\n%s\n%s", outcome, reason, req.PAMEnv, why, w.seed, w.text, &p.script, w.log)
	}
	silent := kind == "hold" || kind == "step-up-hold" || kind == "step-up-remembered"
	if silent && p.asked > 0 {
		fail("asked where nobody can type")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	proof, remembered := w.proofs[key]
	if reason == "verifier_deny" || reason == "not_enrolled" || reason == "fraud" || reason == "locked_out" {
		for k := range w.proofs {
			if strings.HasPrefix(k, user+"|") {
				delete(w.proofs, k)
			}
		}
	}
	if outcome != frames.OutcomeAllow {
		return
	}
	reasons[reason]++
	r := w.truth(user, info, source, target)
	switch {
	case info == "":
		fail("there was no first factor")
	case r != nil && r.Action == rules.Deny:
		fail("a rule denies it")
	}
	right := false
	switch reason {
	case "rule_bypass":
		right = r != nil && r.Action == rules.Bypass
	case "verifier_allow":
		right = w.allowed
	case "passcode":
		right = w.passed == 1 && !silent
	case "approved":
		right = w.approved && kind != "step-up-remembered"
	case "gateway_remembered":
		right = remembered && !fresh && time.Since(proof.at) < ttl && w.pre == duoapi.ResultAuth
	case "gateway_touch":
		right = kind == "touch" && r == nil && (w.pre == duoapi.ResultAuth || w.pre == duoapi.ResultAllow) && !w.preOutage
	case "gateway_batch":
		right = kind == "batch" && r == nil
	case "offline":
		right = w.codeTaken && w.preOutage && !silent && w.cfg.Service("sshgw", true).FailMode == config.FailOffline
	case "fail_open":
		right = w.preOutage && w.cfg.Service("sshgw", true).FailMode == config.FailOpen
	}
	if !right {
		fail("that is not what happened")
	}
	factor := map[string]string{"passcode": "passcode", "approved": "push", "gateway_remembered": proof.factor}[reason]
	if factor != "" && r != nil && r.Factors != nil && !slices.Contains(r.Factors, factor) && reason != "approved" {
		fail("the rule demands " + strings.Join(r.Factors, ", "))
	}
	if reason == "passcode" || reason == "approved" {
		w.proofs[key] = factorProved{factor, time.Now()}
	}
}
