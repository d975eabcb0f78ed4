// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// offlineKey is the key of DU1's phone at the host H1, in the phone's generation.
var offlineKey = store.OfflineKey{HostID: "H1", UserID: "DU1", PhoneID: "DP1", Generation: 1}

func withOffline(t *testing.T, s store.Store) {
	t.Helper()
	person(t, s)
	update(t, s, func(w store.Writer) error {
		return errors.Join(
			w.AddHost(store.Host{ID: "H1", Name: "db1", PublicKey: "K1", IntegrationKey: "DIh", Created: now}),
			w.AddHost(store.Host{ID: "H2", Name: "db2", PublicKey: "K2", IntegrationKey: "DIi", Created: now}),
			w.SetOfflineRoot(store.OfflineRoot{PhoneID: "DP1", Generation: 1, Sealed: []byte("old")}),
			w.SetOfflineRoot(store.OfflineRoot{PhoneID: "DP1", Generation: 1, Sealed: []byte("root")}),
		)
	})
}

func grant(t *testing.T, s store.Store, k store.OfflineKey, held bool) (out store.OfflineKey, won bool) {
	t.Helper()
	update(t, s, func(w store.Writer) (err error) {
		out, won, err = w.GrantOfflineKey(k, held, now)
		return err
	})
	return out, won
}

// testOfflineKeys: a host that has its key keeps it with its counter; one that
// has lost it, or has an older one, gets another edition.
func testOfflineKeys(t *testing.T, s store.Store) {
	withOffline(t, s)
	view(t, s, func(r store.Reader) error {
		root, err := r.OfflineRoot("DP1")
		equal(t, "root", root, store.OfflineRoot{PhoneID: "DP1", Generation: 1, Sealed: []byte("root")})
		_, missing := r.OfflineRoot("DP2")
		equal(t, "a missing root is not found", errors.Is(missing, store.ErrNotFound), true)
		return err
	})
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error {
		return w.SetOfflineRoot(store.OfflineRoot{PhoneID: "DPx", Generation: 1})
	})
	first, won := grant(t, s, offlineKey, false)
	equal(t, "won", won, true)
	equal(t, "first edition", first.Edition, int64(1))
	use := func(k store.OfflineKey, counter int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.UseOfflineCounter(k, counter) })
	}
	equal(t, "use", use(first, 4), true)
	equal(t, "the same use", use(first, 4), false)
	equal(t, "an earlier one", use(first, 2), false)
	kept, _ := grant(t, s, first, true)
	equal(t, "kept", []int64{kept.Edition, kept.Next}, []int64{1, 5})
	lost, _ := grant(t, s, offlineKey, false)
	equal(t, "lost", []int64{lost.Edition, lost.Next}, []int64{2, 0})
	equal(t, "a use of the edition before", use(first, 9), false)
	older, _ := grant(t, s, first, true)
	equal(t, "an older one", []int64{older.Edition, older.Next}, []int64{3, 0})
	other, won := grant(t, s, store.OfflineKey{HostID: "H2", UserID: "DU1", PhoneID: "DP1", Generation: 1}, false)
	equal(t, "at another host", []any{won, other.Edition}, []any{true, int64(1)})
	view(t, s, func(r store.Reader) error {
		mine, err := r.HostOfflineKeys("H1")
		equal(t, "keys of the host", mine, []store.OfflineKey{older})
		all, err2 := r.PhoneOfflineKeys("DP1")
		equal(t, "keys of the phone", len(all), 2)
		return errors.Join(err, err2)
	})
}

// testOfflinePremises: whatever ends user, phone or host ends the key, and a new
// one is not to be had.
func testOfflinePremises(t *testing.T, s store.Store) {
	withOffline(t, s)
	if _, won := grant(t, s, offlineKey, false); !won {
		t.Fatal("not granted")
	}
	wrong := offlineKey
	wrong.Generation = 2
	if _, won := grant(t, s, wrong, false); won {
		t.Error("granted for another generation")
	}
	undo := errors.New("undo")
	for _, c := range []struct {
		name   string
		change func(w store.Writer) error
		live   int
	}{
		{"nothing", func(store.Writer) error { return nil }, 1},
		{"phone renamed", func(w store.Writer) error { p := Phone("DP1"); p.Name = "x"; return w.SetPhone(p) }, 1},
		{"user disabled", func(w store.Writer) error { return w.SetUserStatus("DU1", store.Disabled, "", now) }, 0},
		{"user in bypass", func(w store.Writer) error { return w.SetUserStatus("DU1", store.Bypass, "", now) }, 0},
		{"user locked", func(w store.Writer) error { _, err := w.LockUser("DU1", store.LockoutFraud, now); return err }, 0},
		{"user deleted", func(w store.Writer) error { return w.DeleteUser("DU1") }, 0},
		{"phone taken away", func(w store.Writer) error { return w.DetachPhone("DU1", "DP1") }, 0},
		{"phone deleted", func(w store.Writer) error { return w.DeletePhone("DP1") }, 0},
		{"phone deactivated", func(w store.Writer) error { return w.DeactivatePhone("DP1") }, 0},
		{"number changed", func(w store.Writer) error { p := Phone("DP1"); p.Number = "+15550177"; return w.SetPhone(p) }, 0},
		{"host revoked", func(w store.Writer) error { return w.RevokeHost("H1", now) }, 0},
		{"another root", func(w store.Writer) error {
			return w.SetOfflineRoot(store.OfflineRoot{PhoneID: "DP1", Generation: 2, Sealed: []byte("r")})
		}, 0},
	} {
		err := s.Update(t.Context(), func(w store.Writer) error {
			if err := c.change(w); err != nil {
				return err
			}
			live, err := w.HostOfflineKeys("H1")
			if err != nil {
				return err
			}
			_, won, err := w.GrantOfflineKey(offlineKey, false, now)
			if len(live) != c.live || won != (c.live == 1) {
				t.Errorf("%s: %d live keys, granted %t", c.name, len(live), won)
			}
			return errors.Join(err, undo)
		})
		if !errors.Is(err, undo) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// testReports: the mark of a host's epoch only moves forward, once for each number.
func testReports(t *testing.T, s store.Store) {
	withOffline(t, s)
	take := func(host, epoch string, seq int64) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.TakeReport(host, epoch, seq, now) })
	}
	for _, c := range []struct {
		host, epoch string
		seq         int64
		won         bool
	}{
		{"H1", "a", 1, true}, {"H1", "a", 1, false}, {"H1", "a", 3, true}, {"H1", "a", 2, false},
		{"H1", "b", 1, true}, {"H2", "a", 1, true}, {"Hx", "a", 1, false},
	} {
		if won := take(c.host, c.epoch, c.seq); won != c.won {
			t.Errorf("%+v: %t", c, won)
		}
	}
	view(t, s, func(r store.Reader) error {
		seq, err := r.ReportedSeq("H1", "a")
		none, err2 := r.ReportedSeq("H1", "c")
		equal(t, "marks", []int64{seq, none}, []int64{3, 0})
		return errors.Join(err, err2)
	})
	update(t, s, func(w store.Writer) error { return w.RevokeHost("H2", now) })
	equal(t, "a revoked host", take("H2", "z", 1), false)
	var wins atomic.Int64
	var all sync.WaitGroup
	for range racers {
		all.Go(func() {
			err := s.Update(t.Context(), func(w store.Writer) error {
				won, err := w.TakeReport("H1", "r", 7, now)
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
	equal(t, "winners", wins.Load(), int64(1))
}

// testEventByID: an event is found by its id, with all that it says.
func testEventByID(t *testing.T, s store.Store) {
	n := int64(3)
	e := store.Event{
		TxID: "HE1", Time: now, Timestamp: now.Unix(), EventType: "authentication", User: store.EventUser{Groups: []string{}},
		HostReport: &store.HostReport{HostID: "H1", Epoch: "e", Seq: 1, Reported: now.Add(time.Hour).Unix(), Number: &n},
	}
	update(t, s, func(w store.Writer) error { return w.AddEvent(e) })
	view(t, s, func(r store.Reader) error {
		got, err := r.Event("HE1")
		equal(t, "event", got, e)
		_, missing := r.Event("HE2")
		equal(t, "a missing event is not found", errors.Is(missing, store.ErrNotFound), true)
		return err
	})
}
