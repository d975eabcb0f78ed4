// SPDX-License-Identifier: Apache-2.0

package login

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// verifiedPush begins a push with new digits and says how it stands.
func (w *world) verifiedPush() (txID, digits string, state duoapi.Auth) {
	w.Helper()
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	out := w.auth(AuthRequest{Factor: duoapi.FactorPush, TxID: pre.TxID, Async: true})
	return out.TxID, pre.VerificationCode, w.status(out.TxID)
}

// TestPushPauses: after three prompts the next ones wait, and the person reads how
// long. New digits, or another kind of prompt, change nothing; passcodes work all the
// while, and their success begins anew.
func TestPushPauses(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		if _, _, state := w.verifiedPush(); state.Result != duoapi.ResultWaiting {
			t.Fatalf("%+v", state)
		}
	}
	refused := func(text string) {
		t.Helper()
		before := len(w.events())
		_, _, state := w.verifiedPush()
		w.want(state, "deny", "deny")
		if !strings.Contains(state.StatusMsg, "again in "+text+".") {
			t.Fatalf("message %q, want %q", state.StatusMsg, text)
		}
		w.wantEvent(before, "denied", "anomalous_push", "duo_push")
	}
	refused("30 seconds")
	if e := w.events()[0]; e.Detail != "the pause after 3 prompts without a success; the next one in 30 s" {
		t.Errorf("detail %q", e.Detail)
	}
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorSMS}), "deny", "deny")
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorPhone}), "deny", "deny")
	w.clock.Add(29 * time.Second)
	refused("1 second")
	w.clock.Add(time.Second)
	if _, _, state := w.verifiedPush(); state.Result != duoapi.ResultWaiting {
		t.Fatalf("after the pause: %+v", state)
	}
	refused("60 seconds")
	w.want(w.pass(w.code(0, 6)), "allow", "allow")
	for range 3 {
		if _, _, state := w.verifiedPush(); state.Result != duoapi.ResultWaiting {
			t.Fatalf("after a success: %+v", state)
		}
	}
	refused("30 seconds")
	w.settings(func(s *store.Settings) { s.PushDelay = 0 })
	if _, _, state := w.verifiedPush(); state.Result != duoapi.ResultWaiting {
		t.Fatalf("switched off: %+v", state)
	}
}

// TestSpentBudgetSaysWhen: the end of the hour, not of the last pause.
func TestSpentBudgetSaysWhen(t *testing.T) {
	w := newWorld(t)
	w.settings(func(s *store.Settings) { s.PushBudget = 4 })
	for range 3 {
		w.verifiedPush()
	}
	w.clock.Add(10 * time.Minute)
	w.verifiedPush()
	_, _, state := w.verifiedPush()
	w.want(state, "deny", "deny")
	if !strings.Contains(state.StatusMsg, "again in 50 minutes.") {
		t.Fatalf("message %q", state.StatusMsg)
	}
	w.clock.Add(50 * time.Minute)
	if _, _, state := w.verifiedPush(); state.Result != duoapi.ResultWaiting {
		t.Fatalf("%+v", state)
	}
}

// TestPushFatigue: the third prompt that came to nothing is told, in the
// administrator log and in the verifier's own, once in an hour.
func TestPushFatigue(t *testing.T) {
	w := newWorld(t)
	var log bytes.Buffer
	w.Service.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w.settings(func(s *store.Settings) { s.PushDelay, s.PushBudget, s.LockoutThreshold = 0, 1000, 1000 })
	want := func(n int) {
		t.Helper()
		told := slices.DeleteFunc(w.alarms(), func(a string) bool { return a != "push_fatigue alice" })
		if len(told) != n || strings.Count(log.String(), "event=push_fatigue") != n {
			t.Fatalf("told %d times, want %d; log:\n%s", len(told), n, &log)
		}
	}
	deny := func() {
		t.Helper()
		txID, _, _ := w.verifiedPush()
		if _, err := w.answer(txID, Deny, "", nil); err != nil {
			t.Fatal(err)
		}
	}
	unanswered := func() {
		t.Helper()
		txID, _, _ := w.verifiedPush()
		w.clock.Add(time.Minute)
		w.want(w.status(txID), "deny", "timeout")
	}
	wrongDigits := func() {
		t.Helper()
		txID, digits, _ := w.verifiedPush()
		for range 3 {
			_, _ = w.answer(txID, Approve, "1"+digits[:5], nil)
		}
		w.want(w.status(txID), "deny", "deny")
	}
	deny()
	unanswered()
	// Neither what the login calls off nor a success between counts, or forgives.
	txID, _, _ := w.verifiedPush()
	if ended, err := w.Cancel(context.Background(), w.client, txID); err != nil || !ended {
		t.Fatal(ended, err)
	}
	txID, digits, _ := w.verifiedPush()
	if _, err := w.answer(txID, Approve, digits, nil); err != nil {
		t.Fatal(err)
	}
	want(0)
	wrongDigits()
	want(1)
	deny()
	want(1)
	w.clock.Add(time.Hour)
	deny()
	deny()
	want(1)
	w.settings(func(s *store.Settings) { s.PushAlarm = 0 })
	deny()
	want(1)
	w.settings(func(s *store.Settings) { s.PushAlarm = 4 })
	deny()
	want(2)
}

// TestPushTimeout: the setting decides how long a push can be answered; a push that
// waits keeps the time that it began with, and its digits are worth nothing after it.
func TestPushTimeout(t *testing.T) {
	for _, c := range []struct{ set, seconds int }{{10, 10}, {600, 600}, {0, 10}, {100_000, 600}} {
		t.Run(fmt.Sprint(c.set), func(t *testing.T) {
			w := newWorld(t)
			w.settings(func(s *store.Settings) { s.PushTimeout = c.set })
			life := time.Duration(c.seconds) * time.Second
			pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
			if pre.Expiration != int64(c.seconds) {
				t.Fatalf("preauth says %d s", pre.Expiration)
			}
			w.auth(AuthRequest{Factor: duoapi.FactorPush, TxID: pre.TxID, Async: true})
			w.settings(func(s *store.Settings) { s.PushTimeout = 60 })
			pending, err := w.Pending(context.Background(), "DP1", 0)
			if err != nil || len(pending) != 1 || !pending[0].Expires.Equal(w.clock.Now().Add(life)) {
				t.Fatalf("%+v, %v", pending, err)
			}
			context_, err := agentapi.ParseContext(string(pending[0].Context), pre.TxID)
			if err != nil || context_.Expires-context_.Created != int64(c.seconds) {
				t.Fatalf("%+v, %v", context_, err)
			}
			w.clock.Add(life - time.Microsecond)
			w.want(w.status(pre.TxID), "waiting", "pushed")
			w.clock.Add(time.Microsecond)
			_, err = w.answer(pre.TxID, Approve, pre.VerificationCode, nil)
			wantCode(t, err, duoapi.CodeTxExpired)
			w.want(w.status(pre.TxID), "deny", "timeout")
			w.wantEvent(0, "denied", "no_response", "duo_push")
		})
	}
}

// TestDigitsLiveTenMinutes: from when they were made, however long the person looked
// at the menu.
func TestDigitsLiveTenMinutes(t *testing.T) {
	w := newWorld(t)
	w.settings(func(s *store.Settings) { s.PushTimeout = 600 })
	pre := w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	made := w.clock.Now()
	w.clock.Add(4 * time.Minute)
	w.auth(AuthRequest{Factor: duoapi.FactorPush, TxID: pre.TxID, Async: true})
	pending, err := w.Pending(context.Background(), "DP1", 0)
	if err != nil || len(pending) != 1 || !pending[0].Expires.Equal(made.Add(10*time.Minute)) {
		t.Fatalf("%+v, %v", pending, err)
	}
}

// TestPlainPushNeedsBoth: the integration and the policy must both allow it, when the
// devices are listed, when the push begins and when it is approved.
func TestPlainPushNeedsBoth(t *testing.T) {
	for _, c := range []struct {
		integration, policy bool
	}{{false, false}, {false, true}, {true, false}, {true, true}} {
		t.Run(fmt.Sprintf("integration %t, policy %t", c.integration, c.policy), func(t *testing.T) {
			w := newWorld(t)
			w.policies()
			ask := func(verified bool) {
				w.sections("POapp", fmt.Sprintf(`{"authentication_methods":{"require_verified_push":%t}}`, verified))
			}
			ask(!c.policy)
			if c.integration {
				w.allowPlainPush()
			}
			may := c.integration && c.policy
			listed := slices.Contains(w.preauth(PreauthRequest{Username: "alice"}).Devices[0].Capabilities, "push")
			if listed != may {
				t.Errorf("push among the capabilities: %t", listed)
			}
			out := w.auth(AuthRequest{Factor: duoapi.FactorPush, Async: true})
			if !may {
				w.want(w.status(out.TxID), "deny", "deny")
				w.wantEvent(0, "denied", "factor_restricted", "duo_push")
				return
			}
			ask(true)
			if _, err := w.answer(out.TxID, Approve, "", nil); err != nil {
				t.Fatal(err)
			}
			w.want(w.status(out.TxID), "deny", "deny")
			w.wantEvent(0, "denied", "factor_restricted", "duo_push")
		})
	}
}
