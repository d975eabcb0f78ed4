// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/trust"
)

// stalled takes no change until it is let go.
type stalled struct {
	store.Store
	begun chan struct{}
	goOn  chan struct{}
}

var errStalled = errors.New("no disk")

func (s stalled) Update(context.Context, func(store.Writer) error) error {
	s.begun <- struct{}{}
	<-s.goOn
	return errStalled
}

// Uploads that wait hold memory: beyond a number the next is told to come again,
// and none of those that wait is lost.
func TestUploadsWaitInBounds(t *testing.T) {
	st := stalled{begun: make(chan struct{}, 100), goOn: make(chan struct{})}
	s := trust.New(trust.Config{Store: st, Now: time.Now, After: time.After, Log: slog.New(slog.DiscardHandler)})
	const all = 100
	ends := make(chan error, all)
	var uploads sync.WaitGroup
	for range all {
		uploads.Go(func() {
			_, err := s.Add(t.Context(), trust.Caller{System: "DM1"}, "DC1", []string{"a"})
			ends <- err
		})
	}
	refused := 0
	for refused < all-64 { // the others are under way or wait
		var e *duoapi.Error
		if err := <-ends; !errors.As(err, &e) || e.Code != duoapi.CodeTooManyRequests || e.RetryAfter == 0 {
			t.Fatalf("refused by %v", err)
		}
		refused++
	}
	if n := len(st.begun); n > 2 {
		t.Errorf("%d uploads at once", n)
	}
	close(st.goOn)
	uploads.Wait()
	close(ends)
	for err := range ends {
		if !errors.Is(err, errStalled) {
			t.Errorf("one that waited: %v", err)
		}
	}
}
