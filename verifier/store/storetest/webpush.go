// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// subscription is that of DP1 in its generation.
func subscription(edition string) store.PushSubscription {
	return store.PushSubscription{PhoneID: "DP1", Generation: 1, Edition: edition, Sealed: sealedUnder(1, edition), Created: now}
}

// testPushKey: of many that want to be the key one is, for ever.
func testPushKey(t *testing.T, s store.Store) {
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.PushKey(); return err })
	var wg sync.WaitGroup
	var kept atomic.Int32
	for i := range racers {
		wg.Go(func() {
			var won bool
			err := s.Update(t.Context(), func(w store.Writer) (err error) {
				won, err = w.AddPushKey([]byte{byte(i)}, now)
				return err
			})
			if err != nil {
				t.Errorf("add: %v", err)
			}
			if won {
				kept.Add(1)
			}
		})
	}
	wg.Wait()
	equal(t, "keys", kept.Load(), int32(1))
	var first, again []byte
	view(t, s, func(r store.Reader) (err error) { first, err = r.PushKey(); return err })
	equal(t, "another", decide(t, s, func(w store.Writer) (bool, error) { return w.AddPushKey([]byte("x"), now) }), false)
	view(t, s, func(r store.Reader) (err error) { again, err = r.PushKey(); return err })
	equal(t, "the key stays", bytes.Equal(first, again), true)
}

// testPushSubscriptions: one for each phone, in one generation; deleted only as
// the one that it was.
func testPushSubscriptions(t *testing.T, s store.Store) {
	person(t, s)
	set := func(p store.PushSubscription) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.SetPushSubscription(p) })
	}
	remove := func(generation int64, edition string) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.DeletePushSubscription("DP1", generation, edition) })
	}
	read := func() (got store.PushSubscription, err error) {
		err = s.View(t.Context(), func(r store.Reader) (err error) { got, err = r.PushSubscription("DP1"); return err })
		return got, err
	}
	missing := func(what string) {
		t.Helper()
		if _, err := read(); !errors.Is(err, store.ErrNotFound) {
			t.Fatalf("%s: %v, want ErrNotFound", what, err)
		}
	}
	missing("before")
	equal(t, "set", set(subscription("a")), true)
	got, err := read()
	equal(t, "read", []any{got, err}, []any{subscription("a"), nil})
	wrong := subscription("b")
	wrong.Generation = 2
	equal(t, "set in another generation", set(wrong), false)
	wrong = subscription("b")
	wrong.PhoneID = "DPx"
	equal(t, "set for nobody", set(wrong), false)
	equal(t, "set again", set(subscription("b")), true)
	equal(t, "remove the one before", remove(1, "a"), false)
	equal(t, "remove in another generation", remove(2, "b"), false)
	got, err = read()
	equal(t, "the later one stays", []any{got.Edition, err}, []any{"b", nil})
	equal(t, "remove", remove(1, "b"), true)
	missing("removed")
	equal(t, "remove again", remove(1, ""), false)
	equal(t, "set", set(subscription("c")), true)
	equal(t, "remove any", remove(1, ""), true)
}

// testPushPremises: what ends the phone's key ends its subscription.
func testPushPremises(t *testing.T, s store.Store) {
	person(t, s)
	equal(t, "set", decide(t, s, func(w store.Writer) (bool, error) { return w.SetPushSubscription(subscription("a")) }), true)
	undo := errors.New("undo")
	for _, c := range []struct {
		name   string
		change func(w store.Writer) error
		live   bool
	}{
		{"nothing", func(store.Writer) error { return nil }, true},
		{"purge", func(w store.Writer) error { return w.Purge(now.Add(time.Hour)) }, true},
		{"phone renamed", func(w store.Writer) error { p := Phone("DP1"); p.Name = "x"; return w.SetPhone(p) }, true},
		{"phone deleted", func(w store.Writer) error { return w.DeletePhone("DP1") }, false},
		{"phone deactivated", func(w store.Writer) error { return w.DeactivatePhone("DP1") }, false},
		{"number changed", func(w store.Writer) error { p := Phone("DP1"); p.Number = "+15550177"; return w.SetPhone(p) }, false},
	} {
		var live error
		var set bool
		err := s.Update(t.Context(), func(w store.Writer) (err error) {
			if err := c.change(w); err != nil {
				return err
			}
			if _, live = w.PushSubscription("DP1"); live != nil && !errors.Is(live, store.ErrNotFound) {
				return live
			}
			if set, err = w.SetPushSubscription(subscription("b")); err != nil {
				return err
			}
			return undo
		})
		if !errors.Is(err, undo) || (live == nil) != c.live || set != c.live {
			t.Errorf("%s: %v; read: %v, set again: %v; want live %v", c.name, err, live, set, c.live)
		}
	}
	// What counts no more is deleted, not only left out.
	update(t, s, func(w store.Writer) error { return errors.Join(w.DeactivatePhone("DP1"), w.Purge(now)) })
	equal(t, "removed by the purge", decide(t, s, func(w store.Writer) (bool, error) { return w.DeletePushSubscription("DP1", 1, "") }), false)
}
