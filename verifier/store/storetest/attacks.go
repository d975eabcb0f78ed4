// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// testActivationOfAnothersPhone: whoever was sent an activation code and lost the
// phone to somebody else, or lost the race for it, gains nothing by the code.
func testActivationOfAnothersPhone(t *testing.T, s store.Store) {
	person(t, s)
	add := func(hashes ...string) {
		update(t, s, func(w store.Writer) error {
			var err error
			for _, h := range hashes {
				err = errors.Join(err, w.AddActivation(store.Activation{
					Hash: []byte(h), UserID: "DU1", PhoneID: "DP1", Created: now, Expires: now.Add(time.Hour),
				}))
			}
			return err
		})
	}
	use := func(hash, key string) bool {
		return decide(t, s, func(w store.Writer) (bool, error) {
			_, won, err := w.UseActivation([]byte(hash), store.DeviceKey{PublicKey: key}, now)
			return won, err
		})
	}
	key := func() (key string) {
		view(t, s, func(r store.Reader) error {
			p, err := r.Phone("DP1")
			key = p.PublicKey
			return err
		})
		return key
	}
	add("a", "b")
	equal(t, "the owner's code", use("a", "OWNER"), true)
	equal(t, "an earlier code, after another was used", use("b", "THIEF"), false)
	add("c")
	update(t, s, func(w store.Writer) error { return w.DeactivatePhone("DP1") })
	equal(t, "a code from before the phone was deactivated", use("c", "THIEF"), false)
	add("d")
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddUser(User("DU2", "bob")), w.DetachPhone("DU1", "DP1"), w.AttachPhone("DU2", "DP1"))
	})
	equal(t, "the code of one who had the phone before", use("d", "THIEF"), false)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.DetachPhone("DU2", "DP1"), w.AttachPhone("DU1", "DP1"))
	})
	for _, reason := range []string{store.LockoutAdmin, store.LockoutFraud} {
		hash := "e " + reason
		add(hash)
		equal(t, "locked for "+reason, decide(t, s, func(w store.Writer) (bool, error) { return w.LockUser("DU1", reason, now) }), true)
		equal(t, "held, locked for "+reason, decide(t, s, func(w store.Writer) (bool, error) { return w.HoldEnrollable("DU1") }), false)
		equal(t, "a code of who is locked out for "+reason, use(hash, "THIEF"), false)
		update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", store.Active, "", now) })
	}
	equal(t, "held", decide(t, s, func(w store.Writer) (bool, error) { return w.HoldEnrollable("DU1") }), true)
	equal(t, "a code from before the report of fraud", use("e "+store.LockoutFraud, "THIEF"), false)
	equal(t, "key of the phone", key(), "")
}

// testFraudOutlastsFailures: a lock-out after failures ends by itself, one after a
// report of fraud does not, whichever came first.
func testFraudOutlastsFailures(t *testing.T, s store.Store) {
	person(t, s)
	policy := store.AttemptPolicy{Limit: 1, LockFor: time.Hour}
	update(t, s, func(w store.Writer) error {
		_, err := w.BeginAttempt("DU1", policy, now)
		_, err2 := w.FailAttempt("DU1", policy, now)
		return errors.Join(err, err2)
	})
	equal(t, "fraud on top of failures", decide(t, s, func(w store.Writer) (bool, error) {
		return w.LockUser("DU1", store.LockoutFraud, now)
	}), true)
	equal(t, "unlocked by time", decide(t, s, func(w store.Writer) (bool, error) {
		return w.UnlockExpired("DU1", policy.LockFor, now.Add(24*time.Hour))
	}), false)
	view(t, s, func(r store.Reader) error {
		u, err := r.User("DU1")
		equal(t, "status", []any{u.Status, u.LockoutReason}, []any{store.LockedOut, store.LockoutFraud})
		return err
	})
}

// testStepChangeKeepsWatermark: a change of a token's step neither gives back a code
// that was used nor refuses those to come.
func testStepChangeKeepsWatermark(t *testing.T, s store.Store) {
	person(t, s)
	k := Token("DHs", store.TOTP6)
	k.Step, k.LastStep = 30, -1
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddToken(k), w.AttachToken("DU1", "DHs")) })
	use := func(step int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHs", step) })
	}
	step := func(seconds int) {
		k.Step = seconds
		update(t, s, func(w store.Writer) error { return w.SetToken(k) })
	}
	step(60)
	equal(t, "before any use", use(0), true)
	step(30)
	equal(t, "step of 30 s, the minute used", []bool{use(0), use(1), use(1001)}, []bool{false, false, true})
	step(60)
	equal(t, "step of 60 s", []bool{use(500), use(501)}, []bool{false, true})
	step(30)
	equal(t, "and back", []bool{use(1002), use(1003), use(1004)}, []bool{false, false, true})
}
