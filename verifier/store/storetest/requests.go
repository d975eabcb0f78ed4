// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func testRequests(t *testing.T, s store.Store) {
	take := func(mark string, expires time.Time) (won bool) {
		err := s.Update(t.Context(), func(w store.Writer) (err error) {
			won, err = w.TakeRequest([]byte(mark), expires)
			return err
		})
		if err != nil {
			t.Error(err)
		}
		return won
	}
	purge := func(at time.Time) {
		if err := s.Update(t.Context(), func(w store.Writer) error { return w.PurgeRequests(at) }); err != nil {
			t.Fatal(err)
		}
	}
	if !take("a", now.Add(time.Minute)) || take("a", now.Add(time.Hour)) || !take("b", now.Add(time.Hour)) {
		t.Error("each mark is taken once")
	}
	purge(now.Add(time.Minute - time.Microsecond))
	if take("a", now) {
		t.Error("a mark was forgotten before its time")
	}
	purge(now.Add(time.Minute))
	if !take("a", now.Add(time.Minute)) || take("b", now) {
		t.Error("what has expired is forgotten, and nothing else")
	}

	if err := s.Update(t.Context(), func(w store.Writer) error { return w.ForgetRequest([]byte("b")) }); err != nil {
		t.Fatal(err)
	}
	if take("a", now) || !take("b", now.Add(time.Hour)) {
		t.Error("what was given back may be taken, and nothing else")
	}

	var won atomic.Int64
	var group sync.WaitGroup
	for range racers {
		group.Go(func() {
			if take("race", now.Add(time.Minute)) {
				won.Add(1)
			}
		})
	}
	group.Wait()
	if won.Load() != 1 {
		t.Errorf("%d of %d took the same request", won.Load(), racers)
	}
}
