// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// credential is user verification of DU1's phone.
var credential = store.UserVerification{PhoneID: "DP1", CredentialID: "cred", PublicKey: []byte("cose"), SignCount: 3, Created: now}

// withCode gives DU1's phone an activation code.
func withCode(w store.Writer) error {
	return w.AddActivation(store.Activation{Hash: []byte("code"), UserID: "DU1", PhoneID: "DP1", Created: now, Expires: now.Add(time.Hour)})
}

// otherKeys are the ways in which a phone loses its key.
var otherKeys = []struct {
	name   string
	change func(store.Writer) error
}{
	{"deactivated", func(w store.Writer) error { return w.DeactivatePhone("DP1") }},
	{"activated anew", func(w store.Writer) error {
		_, won, err := w.UseActivation([]byte("code"), store.DeviceKey{PublicKey: "KEY2"}, now)
		if err == nil && !won {
			err = errors.New("not activated")
		}
		return err
	}},
	{"deleted", func(w store.Writer) error { return w.DeletePhone("DP1") }},
}

// testAnnouncements: what an authenticator says of itself holds for its key.
func testAnnouncements(t *testing.T, s store.Store) {
	person(t, s)
	a := store.Announcement{PhoneID: "DP1", Generation: 1, Program: "old/1", Announced: now}
	set := func(a store.Announcement) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.SetAnnouncement(a) })
	}
	none := func(what string) {
		t.Helper()
		view(t, s, func(r store.Reader) error {
			_, err := r.Announcement("DP1")
			equal(t, what, errors.Is(err, store.ErrNotFound), true)
			return nil
		})
	}
	none("nothing announced")
	equal(t, "set", set(a), true)
	a.Program, a.Capabilities, a.Announced = "new/1", []string{"digits", "stream"}, now.Add(time.Second)
	equal(t, "set again", set(a), true)
	view(t, s, func(r store.Reader) error {
		got, err := r.Announcement("DP1")
		equal(t, "announcement", got, a)
		return err
	})
	later := a
	later.Generation = 2
	equal(t, "for another generation", set(later), false)
	later.PhoneID = "DPx"
	equal(t, "for no phone", set(later), false)
	undo := errors.New("undo")
	update(t, s, withCode)
	for _, c := range otherKeys {
		err := s.Update(t.Context(), func(w store.Writer) error {
			if err := c.change(w); err != nil {
				return err
			}
			if _, err := w.Announcement("DP1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", c.name, err)
			}
			won, err := w.SetAnnouncement(a)
			if won {
				t.Errorf("%s: announced for the key before", c.name)
			}
			return errors.Join(err, undo)
		})
		if !errors.Is(err, undo) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// testUserVerification: one credential for one key, its count only moves forward.
func testUserVerification(t *testing.T, s store.Store) {
	person(t, s)
	update(t, s, withCode)
	add := func(v store.UserVerification, generation int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.AddVerification(v, generation) })
	}
	equal(t, "another generation", add(credential, 2), false)
	equal(t, "add", add(credential, 1), true)
	second := credential
	second.CredentialID = "second"
	equal(t, "a second one", add(second, 1), false)
	view(t, s, func(r store.Reader) error {
		got, err := r.UserVerification("DP1")
		equal(t, "credential", got, credential)
		p, err2 := r.Phone("DP1")
		equal(t, "of the phone", p.Verification, "cred")
		return errors.Join(err, err2)
	})
	for _, c := range []struct {
		id    string
		count int64
		want  bool
	}{{"cred", 3, false}, {"cred", 0, false}, {"cred", 2, false}, {"other", 4, false}, {"cred", 4, true}, {"cred", 4, false}, {"cred", 9, true}} {
		if won := decide(t, s, func(w store.Writer) (bool, error) { return w.CountVerification("DP1", c.id, c.count) }); won != c.want {
			t.Errorf("%s counts %d: %t", c.id, c.count, won)
		}
	}
	undo := errors.New("undo")
	for _, c := range otherKeys {
		err := s.Update(t.Context(), func(w store.Writer) error {
			if err := c.change(w); err != nil {
				return err
			}
			if _, err := w.UserVerification("DP1"); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %v", c.name, err)
			}
			if p, err := w.Phone("DP1"); err == nil && p.Verification != "" {
				t.Errorf("%s: the phone has %q", c.name, p.Verification)
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A change of the number is a new generation, and no way round the verification.
	p := Phone("DP1")
	p.Number = "+15550177"
	update(t, s, func(w store.Writer) error { return w.SetPhone(p) })
	view(t, s, func(r store.Reader) error {
		p, err := r.Phone("DP1")
		equal(t, "after a change of the number", []any{p.Generation, p.Verification}, []any{int64(2), "cred"})
		return err
	})
	remove := func(id string) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.RemoveVerification("DP1", id) })
	}
	equal(t, "remove another", []bool{remove("second"), remove("")}, []bool{false, false})
	equal(t, "remove", []bool{remove("cred"), remove("cred")}, []bool{true, false})
	second.SignCount = 0
	equal(t, "another after it", add(second, 2), true)
	// Credentials that are on several devices do not count.
	for range 2 {
		equal(t, "no count", decide(t, s, func(w store.Writer) (bool, error) { return w.CountVerification("DP1", "second", 0) }), true)
	}
}

// testVerifiedApprovals: an approval rests on whether the phone has user
// verification, and which; a denial never does.
func testVerifiedApprovals(t *testing.T, s store.Store) {
	person(t, s)
	n := 0
	answer := func(state store.TxState, verification string) bool {
		t.Helper()
		n++
		id := fmt.Sprint("T", n)
		update(t, s, func(w store.Writer) error { return w.AddTransaction(Transaction(id, store.TxPending)) })
		return decide(t, s, func(w store.Writer) (bool, error) {
			return w.DecideTransaction(store.Decision{
				TxID: id, State: state, PhoneID: "DP1", NeedsKey: true, Verification: verification, Now: now.Add(time.Second),
			})
		})
	}
	equal(t, "without one", []bool{answer(store.TxApproved, ""), answer(store.TxApproved, "cred"), answer(store.TxDenied, "")}, []bool{true, false, true})
	equal(t, "add", decide(t, s, func(w store.Writer) (bool, error) { return w.AddVerification(credential, 1) }), true)
	equal(t, "with one", []bool{answer(store.TxApproved, ""), answer(store.TxApproved, "other"), answer(store.TxApproved, "cred")}, []bool{false, false, true})
	equal(t, "denials", []bool{answer(store.TxDenied, ""), answer(store.TxFraud, "")}, []bool{true, true})
}

// testChallenges: a challenge is good once, for its purpose and phone, in time,
// and there are few of them.
func testChallenges(t *testing.T, s store.Store) {
	person(t, s)
	made := func(name string) store.VerificationChallenge {
		return store.VerificationChallenge{
			Hash: []byte(name), PhoneID: "DP1", Generation: 1, Purpose: store.ChallengeOperation, Created: now, Expires: now.Add(time.Minute),
		}
	}
	use := func(c store.VerificationChallenge, at time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.UseChallenge(c, at) })
	}
	update(t, s, func(w store.Writer) error { return w.AddChallenge(made("a")) })
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddChallenge(made("a")) })
	purpose, phone, generation := made("a"), made("a"), made("a")
	purpose.Purpose, phone.PhoneID, generation.Generation = store.ChallengeRegister, "DP2", 2
	for _, c := range []store.VerificationChallenge{made("b"), purpose, phone, generation} {
		if use(c, now) {
			t.Errorf("used as %+v", c)
		}
	}
	equal(t, "late", use(made("a"), now.Add(time.Minute)), false)
	var wins atomic.Int64
	var all sync.WaitGroup
	for range racers {
		all.Go(func() {
			err := s.Update(t.Context(), func(w store.Writer) error {
				won, err := w.UseChallenge(made("a"), now)
				if won {
					wins.Add(1)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	equal(t, "uses", wins.Load(), int64(1))
	// One more than there may be voids the oldest.
	for i := range store.MaxChallenges + 1 {
		c := made(fmt.Sprint("many", i))
		c.Created = now.Add(time.Duration(i) * time.Second)
		update(t, s, func(w store.Writer) error { return w.AddChallenge(c) })
	}
	equal(t, "the oldest, the next", []bool{use(made("many0"), now), use(made("many1"), now)}, []bool{false, true})
	update(t, s, func(w store.Writer) error { return w.DeactivatePhone("DP1") })
	equal(t, "of the key before", use(made("many2"), now), false)
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddChallenge(made("old")), w.Purge(now.Add(time.Minute)), w.AddChallenge(made("old")))
	})
}
