// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// testPushPauses: after the free prompts each further one has to wait, twice as long
// each time; what is refused changes nothing; a success, an administrator and the
// end of the window begin anew.
func testPushPauses(t *testing.T, s store.Store) {
	person(t, s)
	p := store.PushPolicy{Limit: 100, Window: time.Hour, Free: 3, Delay: 30 * time.Second, MaxDelay: 10 * time.Minute}
	at := now
	spend := func() bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.SpendPush("DU1", p, at) })
	}
	state := func() []any {
		var u store.User
		view(t, s, func(r store.Reader) (err error) {
			u, err = r.User("DU1")
			return err
		})
		wait := time.Duration(0)
		if !u.NextPush.IsZero() {
			wait = u.NextPush.Sub(at)
		}
		return []any{u.Pushes, wait}
	}
	for i, wait := range []time.Duration{0, 0, 30, 60, 120, 240, 480, 600, 600, 600} {
		equal(t, "sent", spend(), true)
		equal(t, "prompts and pause", state(), []any{i + 1, wait * time.Second})
		if wait > 0 {
			at = at.Add(wait*time.Second - time.Microsecond)
			equal(t, "too soon", spend(), false)
			equal(t, "nothing changed", state(), []any{i + 1, time.Microsecond})
			at = at.Add(time.Microsecond)
		}
	}
	equal(t, "a success", decide(t, s, func(w store.Writer) (bool, error) { return w.ForgiveAttempts("DU1", at) }), true)
	equal(t, "clears", state(), []any{0, time.Duration(0)})
	three := []bool{true, true, true, false}
	equal(t, "three", []bool{spend(), spend(), spend(), spend()}, three)

	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Active, "", at) })
	equal(t, "made active who is active", spend(), false)
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.LockedOut, store.LockoutFraud, at) })
	update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Active, "", at) })
	equal(t, "unlocked by an administrator", []bool{spend(), spend(), spend(), spend()}, three)

	at = at.Add(time.Hour)
	equal(t, "after the window", []bool{spend(), spend(), spend(), spend()}, three)
	p.Delay = 0
	equal(t, "switched off", []bool{spend(), spend()}, []bool{true, true})
	equal(t, "no pause", state(), []any{5, time.Duration(0)})

	// However many are asked for at once, those that must wait do.
	p.Delay = 30 * time.Second
	update(t, s, func(w store.Writer) error { _, err := w.ForgiveAttempts("DU1", at); return err })
	if won := race(t, s, func(w store.Writer, _ int) (bool, error) { return w.SpendPush("DU1", p, at) }); won != 3 {
		t.Fatalf("%d prompts at once, want 3", won)
	}
}

// testPushAlarm: so many prompts that came to nothing within any hour, not longer
// ago, not of others, and not of kinds that nobody is asked by, are told once.
func testPushAlarm(t *testing.T, s store.Store) {
	person(t, s)
	update(t, s, func(w store.Writer) error { return w.AddUser(User("DU2", "bob")) })
	n := 0
	end := func(user, factor string, state store.TxState, at time.Time) {
		n++
		update(t, s, func(w store.Writer) error {
			return w.AddTransaction(store.Transaction{
				TxID: fmt.Sprint("TX", n), UserID: user, Factor: factor, State: state, Created: at, Expires: at.Add(time.Minute), DecidedAt: at,
			})
		})
	}
	raise := func(limit int, at time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.RaisePushAlarm("DU1", limit, time.Hour, at) })
	}
	for _, other := range []struct {
		user, factor string
		state        store.TxState
	}{
		{"DU2", "push", store.TxDenied}, {"DU1", "sms", store.TxDenied}, {"DU1", "", store.TxDenied}, {"DU1", "push", store.TxApproved},
		{"DU1", "push", store.TxCancelled}, {"DU1", "push", store.TxFailed}, {"DU1", "push", store.TxPending}, {"DU1", "", store.TxOffered},
	} {
		end(other.user, other.factor, other.state, now)
		equal(t, "not one", raise(1, now), false)
	}
	end("DU1", "push", store.TxDenied, now)
	end("DU1", "phone", store.TxExpired, now.Add(59*time.Minute))
	equal(t, "two", raise(3, now.Add(59*time.Minute)), false)
	end("DU1", "push", store.TxFraud, now.Add(time.Hour))
	equal(t, "three, but the first an hour ago", raise(3, now.Add(time.Hour)), false)
	end("DU1", "push", store.TxExpired, now.Add(61*time.Minute))
	equal(t, "switched off", raise(0, now.Add(61*time.Minute)), false)
	equal(t, "three within an hour", raise(3, now.Add(61*time.Minute)), true)
	end("DU1", "push", store.TxDenied, now.Add(62*time.Minute))
	equal(t, "told", raise(3, now.Add(62*time.Minute)), false)
	for i := range 3 {
		end("DU1", "push", store.TxDenied, now.Add(time.Duration(119+i)*time.Minute))
	}
	equal(t, "told within the hour", raise(3, now.Add(121*time.Minute-time.Microsecond)), false)
	if won := race(t, s, func(w store.Writer, _ int) (bool, error) {
		return w.RaisePushAlarm("DU1", 3, time.Hour, now.Add(121*time.Minute))
	}); won != 1 {
		t.Fatalf("told %d times at once, want once", won)
	}
	equal(t, "nobody", decide(t, s, func(w store.Writer) (bool, error) { return w.RaisePushAlarm("DUx", 1, time.Hour, now) }), false)
}
