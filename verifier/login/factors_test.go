// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (w *world) pass(code string) duoapi.Auth {
	w.Helper()
	return w.auth(AuthRequest{Factor: duoapi.FactorPasscode, Passcode: code})
}

// TestDelay: after half of the failures that lock, passcodes are not looked at for a
// while; what comes too soon costs nothing, the right code keeps its use, and a push
// goes on and ends the wait.
func TestDelay(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.want(w.pass("000000"), "deny", "deny")
	}
	right := w.code(0, 6)
	for _, code := range []string{right, "000000", "123456789", right} {
		out := w.pass(code)
		w.want(out, "deny", "deny")
		if !strings.Contains(out.StatusMsg, "Try again in 5 seconds") {
			t.Fatalf("answer %+v", out)
		}
	}
	if u := w.user(); u.Failures != 5 {
		t.Fatalf("%d failures after attempts that came too soon, want 5", u.Failures)
	}
	soon := 0
	for _, e := range w.events() {
		if e.Reason == "locked_out" && strings.Contains(e.Detail, "too soon") {
			soon++
		}
	}
	if soon != 4 {
		t.Fatalf("%d events of attempts that came too soon, want 4", soon)
	}
	w.clock.Add(4 * time.Second)
	if out := w.pass(right); !strings.Contains(out.StatusMsg, "in 1 second,") {
		t.Fatalf("answer %+v", out)
	}
	w.clock.Add(time.Second)
	w.want(w.pass("000000"), "deny", "deny")
	if out := w.pass(right); !strings.Contains(out.StatusMsg, "in 10 seconds") {
		t.Fatalf("the wait did not grow: %+v", out)
	}
	// The owner is not kept out: a push works meanwhile, and its success ends the wait.
	txID, digits := w.startPush()
	if _, err := w.answer(txID, Approve, digits, nil); err != nil {
		t.Fatal(err)
	}
	w.want(w.status(txID), "allow", "allow")
	w.want(w.pass(right), "allow", "allow")
}

// TestDelayNeverOutlastsLock: where a lock ends by itself, no wait is longer than it.
func TestDelayNeverOutlastsLock(t *testing.T) {
	for _, c := range []struct {
		minutes, threshold int
		free               int
		longest            time.Duration
	}{{0, 10, 5, time.Hour}, {1, 10, 5, time.Minute}, {90, 100, 50, time.Hour}, {0, 3, 3, time.Hour}, {0, 1, 3, time.Hour}} {
		set := store.DefaultSettings()
		set.LockoutExpireDuration, set.LockoutThreshold = c.minutes, c.threshold
		p := person{settings: set}.attempts()
		if p.Free != c.free || p.MaxDelay != c.longest {
			t.Errorf("%+v: %d free, at most %s", c, p.Free, p.MaxDelay)
		}
	}
}

// TestWrongDigitsCountBeforeTheirTime: three wrong digits of a push are a failed
// attempt even while passcodes have to wait.
func TestWrongDigitsCountBeforeTheirTime(t *testing.T) {
	w := newWorld(t)
	for range 5 {
		w.want(w.pass("000000"), "deny", "deny")
	}
	txID, digits := w.startPush()
	wrong := digits[1:] + string('0'+(digits[0]-'0'+1)%10)
	if wrong == digits {
		t.Fatal("the digits are right")
	}
	for i := range factor.MaxTries {
		if _, err := w.answer(txID, Approve, wrong, nil); (err != nil) != (i == factor.MaxTries-1) {
			t.Fatalf("try %d: %v", i+1, err)
		}
	}
	w.want(w.status(txID), "deny", "deny")
	if u := w.user(); u.Failures != 6 {
		t.Fatalf("%d failures, want 6", u.Failures)
	}
}

// alarms are the actions that the administrator log has from the verifier itself.
func (w *world) alarms() []string {
	w.Helper()
	var out []string
	err := w.Store.View(context.Background(), func(r store.Reader) error {
		events, err := r.AdminEvents(time.Time{}, 0)
		for _, e := range events {
			if e.Username != "System" || !json.Valid(e.Description) {
				w.Errorf("event %+v", e)
			}
			out = append(out, e.Action+" "+e.Object)
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// TestLockOutIsTold: administrators learn of a lock once, with the failure that made it.
func TestLockOutIsTold(t *testing.T) {
	w := newWorld(t)
	for i := range 12 {
		if got := w.alarms(); i < 10 && len(got) != 0 {
			t.Fatalf("after %d failures: %v", i, got)
		}
		w.pass("000000")
		w.clock.Add(5 * time.Minute)
	}
	if got := w.alarms(); !slices.Equal(got, []string{"user_lockout alice"}) {
		t.Fatalf("administrator log %v", got)
	}
}

// TestNotMe: a report of fraud locks, whatever way it came, and administrators learn of it.
func TestNotMe(t *testing.T) {
	for name, report := range map[string]func(w *world){
		"authenticator": func(w *world) {
			txID, _ := w.startPush()
			if _, err := w.answer(txID, Fraud, "", nil); err != nil {
				w.Fatal(err)
			}
			w.want(w.status(txID), "deny", "fraud")
		},
		"call": func(w *world) {
			out := w.auth(AuthRequest{Factor: duoapi.FactorPhone, Async: true})
			for range 2 {
				if err := w.TelephonyEvent(context.Background(), TelephonyEvent{TxID: out.TxID, Event: CallKeypress, Key: KeyFraud}); err != nil {
					w.Fatal(err)
				}
			}
			w.want(w.status(out.TxID), "deny", "fraud")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			set := store.DefaultSettings()
			set.LockoutExpireDuration = 1
			w.update(func(x store.Writer) error { return x.SetSettings(set) })
			report(w)
			w.clock.Add(time.Hour) // the lock does not end by itself
			w.want(w.pass(w.code(0, 6)), "deny", "locked_out")
			if u := w.user(); u.LockoutReason != store.LockoutFraud {
				t.Fatalf("user %+v", u)
			}
			if got := w.alarms(); !slices.Equal(got, []string{"user_fraud_report alice"}) {
				t.Fatalf("administrator log %v", got)
			}
		})
	}
}

// TestYubiKey: a code works once, and the codes before it never.
func TestYubiKey(t *testing.T) {
	w := newWorld(t)
	var secret factor.YubiSecret // of the example in Yubico's libyubikey
	copy(secret.PrivateID[:], "\x87\x92\xeb\xfe\x26\xcc")
	copy(secret.AESKey[:], "\xec\xde\x18\xdb\xe7\x6f\xbd\x0c\x33\x33\x0f\x1c\x35\x48\x71\xdb")
	const code = "dteffujehknhfjbrjnlnldnhcujvddbikngjrtgh"
	w.want(w.pass(code), "deny", "deny")
	w.update(func(x store.Writer) error {
		return errors.Join(x.AddToken(store.Token{
			ID: "DHyk", Type: store.YubiKey, Serial: "1", SecretSealed: factor.SealYubiKey(w.Keys, "DHyk", secret),
			Counter: 19<<8 | 16, LastStep: -1, Created: w.clock.Now(),
		}), x.AttachToken("DU1", "DHyk"))
	})
	w.want(w.pass(strings.ToUpper(code)), "allow", "allow")
	w.wantEvent(1, "success", "valid_passcode", "yubikey_passcode")
	w.want(w.pass(code), "deny", "deny")
}

// TestTokenFallsOutOfStep: somebody who has played with the button, or whose token's
// clock has jumped, types two codes in a row and is in; the first one costs an attempt.
func TestTokenFallsOutOfStep(t *testing.T) {
	w := newWorld(t)
	w.want(w.pass(w.code(40, 6)), "deny", "deny")
	if u := w.user(); u.Failures != 1 {
		t.Fatalf("%d failures, want 1", u.Failures)
	}
	w.want(w.pass(w.code(41, 6)), "allow", "allow")
	w.want(w.pass(w.code(41, 6)), "deny", "deny")
	w.want(w.pass(w.code(42, 6)), "allow", "allow")

	step := w.clock.Now().Unix()/30 + 6
	w.want(w.pass(w.code(step, 8)), "deny", "deny")
	w.clock.Add(30 * time.Second)
	w.want(w.pass(w.code(step+1, 8)), "allow", "allow")
	w.clock.Add(time.Minute)
	w.want(w.pass(w.code(step+3, 8)), "allow", "allow") // at once: its drift is known
	for old := step; old <= step+3; old++ {
		w.want(w.pass(w.code(old, 8)), "deny", "deny")
		w.clock.Add(5 * time.Second)
	}
}

// TestDriftOverTime: a token that loses a step a month is never out of step.
func TestDriftOverTime(t *testing.T) {
	w := newWorld(t)
	for month := range int64(10) {
		w.want(w.pass(w.code(w.clock.Now().Unix()/30-month, 8)), "allow", "allow")
		w.clock.Add(30 * 24 * time.Hour)
	}
}

// TestNewCodeKeepsFailures: what brings a new secret, and what an authenticator denies,
// gives no attempt back.
func TestNewCodeKeepsFailures(t *testing.T) {
	w := newWorld(t)
	for range 2 {
		w.want(w.pass("000000"), "deny", "deny")
	}
	w.want(w.auth(AuthRequest{Factor: duoapi.FactorSMS}), "deny", "sent")
	w.auth(AuthRequest{Factor: duoapi.FactorPhone, Async: true})
	w.preauth(PreauthRequest{Username: "alice", VerifiedPush: true})
	txID, _ := w.startPush()
	if _, err := w.answer(txID, Deny, "", nil); err != nil {
		t.Fatal(err)
	}
	if u := w.user(); u.Failures != 2 {
		t.Fatalf("%d failures, want 2", u.Failures)
	}
	w.want(w.pass(w.code(0, 6)), "allow", "allow")
	if u := w.user(); u.Failures != 0 {
		t.Fatalf("%d failures after a success", u.Failures)
	}
}
