// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func txIDs(events []store.Event) []string {
	out := []string{}
	for _, e := range events {
		out = append(out, e.TxID)
	}
	return out
}

func listed(t *testing.T, s store.Store, f store.EventFilter) []store.Event {
	t.Helper()
	var got []store.Event
	view(t, s, func(r store.Reader) (err error) {
		got, err = r.Events(f)
		return err
	})
	return got
}

// Entries stand in the order in which they came. What comes a moment late takes
// the time of the last; what a host reports hours later keeps its own.
func testLogOrder(t *testing.T, s store.Store) {
	add := func(id string, at time.Time) {
		update(t, s, func(w store.Writer) error {
			return w.AddEvent(store.Event{TxID: id, Time: at, Timestamp: at.Unix(), User: store.EventUser{Groups: []string{}}})
		})
	}
	add("a", now)
	add("b", now.Add(-time.Second))
	add("c", now.Add(-time.Hour))
	add("d", now.Add(time.Second))
	got := listed(t, s, store.EventFilter{})
	equal(t, "order", txIDs(got), []string{"a", "b", "c", "d"})
	equal(t, "newest first", txIDs(listed(t, s, store.EventFilter{Newest: true})), []string{"d", "c", "b", "a"})
	for i, want := range []time.Time{now, now, now.Add(-time.Hour), now.Add(time.Second)} {
		if !got[i].Time.Equal(want) || got[i].Timestamp != want.Unix() {
			t.Errorf("%s is dated %s, %d", got[i].TxID, got[i].Time, got[i].Timestamp)
		}
	}
	after := func(id string, at time.Time, newest bool) []string {
		return txIDs(listed(t, s, store.EventFilter{AfterTxID: id, AfterTime: at, Newest: newest}))
	}
	equal(t, "behind c", after("c", time.Time{}, false), []string{"d"})
	equal(t, "before c", after("c", time.Time{}, true), []string{"b", "a"})
	// The event of the cursor is gone: its time tells where to go on.
	equal(t, "behind one that is gone", after("x", now.Add(time.Second), false), []string{"d"})
	equal(t, "behind one older than all", after("x", now.Add(-2*time.Hour), false), []string{"a", "b", "c", "d"})
	equal(t, "before one newer than all", after("x", now.Add(time.Hour), true), []string{"d", "c", "b", "a"})

	admin := func(action string, at time.Time) error {
		var err error
		update(t, s, func(w store.Writer) error {
			err = w.AddAdminEvent(store.AdminEvent{Time: at, Username: "u", Action: action})
			return err
		})
		return err
	}
	if err := errors.Join(admin("user_create", now), admin("o2fa_x", now), admin("user_delete", now.Add(-time.Second)), admin("o2faXy", now)); err != nil {
		t.Fatal(err)
	}
	view(t, s, func(r store.Reader) error {
		all, err := r.AdminLog(store.AdminEventFilter{})
		actions := func(f store.AdminEventFilter) []string {
			got, err2 := r.AdminLog(f)
			err = errors.Join(err, err2)
			out := []string{}
			for _, e := range got {
				out = append(out, e.Action)
			}
			return out
		}
		equal(t, "all", actions(store.AdminEventFilter{From: now}), []string{"user_create", "o2fa_x", "user_delete", "o2faXy"})
		equal(t, "prefix", actions(store.AdminEventFilter{Prefix: "o2fa_"}), []string{"o2fa_x"})
		equal(t, "not prefix", actions(store.AdminEventFilter{NotPrefix: "o2fa_", Limit: 2}), []string{"user_create", "user_delete"})
		equal(t, "after", actions(store.AdminEventFilter{AfterID: all[1].ID}), []string{"user_delete", "o2faXy"})
		equal(t, "before", actions(store.AdminEventFilter{AfterID: all[1].ID, Newest: true}), []string{"user_create"})
		equal(t, "until", actions(store.AdminEventFilter{To: now}), []string{})
		return err
	})
}

func testLogFilters(t *testing.T, s store.Store) {
	event := func(id, user, result, device string, groups ...string) store.Event {
		return store.Event{
			TxID: id, Time: now, EventType: "authentication", Result: result, AuthDevice: store.AuthDevice{Key: device},
			User: store.EventUser{Key: user, Name: user, Groups: groups},
		}
	}
	update(t, s, func(w store.Writer) error {
		return errors.Join(
			w.AddEvent(event("a", "u1", "success", "DP1", "ops", "staff")),
			w.AddEvent(event("b", "u1", "denied", "DH1", "100%")),
			w.AddEvent(event("c", "u2", "denied", "DP1", "ops2", "1000")),
			w.AddEvent(event("d", "u1", "denied", "DP2")),
		)
	})
	for _, c := range []struct {
		what string
		f    store.EventFilter
		want []string
	}{
		{"device", store.EventFilter{Devices: []string{"DP1"}}, []string{"a", "c"}},
		{"device and phone", store.EventFilter{Devices: []string{"DP1", "DP2"}, Phones: []string{"DP2"}}, []string{"d"}},
		{"group", store.EventFilter{Groups: []string{"ops"}}, []string{"a"}},
		{"groups", store.EventFilter{Groups: []string{"staff", "ops2"}}, []string{"a", "c"}},
		{"a name with a wildcard", store.EventFilter{Groups: []string{"100%"}}, []string{"b"}},
		{"no such group", store.EventFilter{Groups: []string{"op_"}}, []string{}},
	} {
		equal(t, c.what, txIDs(listed(t, s, c.f)), c.want)
		view(t, s, func(r store.Reader) error {
			c.f.Limit, c.f.AfterTxID = 1, "a"
			n, err := r.CountEvents(c.f)
			equal(t, c.what+" counted", n, len(c.want))
			return err
		})
	}
	view(t, s, func(r store.Reader) error {
		got, err := r.EventCounts(now, now.Add(time.Second))
		equal(t, "counts", got, []store.EventCount{{Result: "denied", Attempts: 3, Users: 2}, {Result: "success", Attempts: 1, Users: 1}})
		return err
	})
}

// While writers add events with clocks that differ, clients page in both
// directions: each event comes once, and none is left out that was there when
// the client began (newest first), or at all (oldest first).
func testLogPaging(t *testing.T, s store.Store) {
	const writers, each = 8, 40
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				at := now.Add(time.Duration(i*100-w*900) * time.Millisecond)
				update(t, s, func(wr store.Writer) error {
					return wr.AddEvent(store.Event{TxID: fmt.Sprintf("T%d-%d", w, i), Time: at, User: store.EventUser{Groups: []string{}}})
				})
			}
		})
	}
	seen := map[string]bool{}
	f := store.EventFilter{Limit: 7}
	written := make(chan struct{})
	go func() { wg.Wait(); close(written) }()
	for last := false; ; {
		page := listed(t, s, f)
		for _, e := range page {
			if seen[e.TxID] {
				t.Fatalf("%s comes twice", e.TxID)
			}
			seen[e.TxID] = true
			f.AfterTxID, f.AfterTime = e.TxID, e.Time
		}
		if len(page) == f.Limit {
			continue
		}
		if last {
			break
		}
		select {
		case <-written:
			last = true // one more look, after the last was written
		default:
			checkBackwards(t, s)
		}
	}
	if len(seen) != writers*each {
		t.Errorf("%d of %d events were seen", len(seen), writers*each)
	}
}

// checkBackwards pages from the newest event on: what was there is what comes.
func checkBackwards(t *testing.T, s store.Store) {
	t.Helper()
	var total int
	view(t, s, func(r store.Reader) (err error) {
		total, err = r.CountEvents(store.EventFilter{})
		return err
	})
	seen := map[string]bool{}
	f := store.EventFilter{Newest: true, Limit: 11}
	for {
		page := listed(t, s, f)
		for _, e := range page {
			if seen[e.TxID] {
				t.Fatalf("%s comes twice, newest first", e.TxID)
			}
			seen[e.TxID] = true
			f.AfterTxID, f.AfterTime = e.TxID, e.Time
		}
		if len(page) < f.Limit {
			break
		}
	}
	if len(seen) < total {
		t.Errorf("newest first: %d of %d events", len(seen), total)
	}
}
