// SPDX-License-Identifier: Apache-2.0

// Package upkeep does what a verifier does for itself while it serves: it shows
// that it is fit to serve, forgets old entries of the logs, keeps the certificate
// good and changes the keys that seal. It decides about no login and stands in
// the way of none.
package upkeep

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/certs"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// How often things are done.
const (
	beatEvery  = 10 * time.Second
	purgeEvery = time.Hour
	certsEvery = time.Minute
)

// Keeper is one verifier's upkeep. It is safe for concurrent use.
type Keeper struct {
	store store.Store
	keys  *seal.Keys
	certs *certs.Source
	host  string // that the certificate must be for
	now   func() time.Time
	log   *slog.Logger

	mu       sync.Mutex
	beat     time.Time // when the store last took a change
	latest   time.Time // that the store knows
	beatErr  string
	late     int // beats in a row that found the clock behind
	doubts   int // beats until the clock is believed again
	purged   map[string]int64
	rotating bool
}

// New makes a Keeper.
func New(st store.Store, keys *seal.Keys, source *certs.Source, host string, now func() time.Time, log *slog.Logger) *Keeper {
	return &Keeper{store: st, keys: keys, certs: source, host: host, now: now, log: log, purged: map[string]int64{}}
}

// Run works until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, task := range []struct {
		every time.Duration
		do    func(context.Context)
	}{{beatEvery, k.Beat}, {purgeEvery, k.Purge}, {certsEvery, k.Certificate}} {
		all.Go(func() {
			for {
				task.do(ctx)
				select {
				case <-ctx.Done():
					return
				case <-time.After(task.every):
				}
			}
		})
	}
	all.Wait()
}

// Certificate renews the own certificate in time, and reads given files again
// when they have changed.
func (k *Keeper) Certificate(context.Context) {
	changed, err := k.certs.Refresh(k.host)
	switch {
	case err != nil:
		k.log.Error("the certificate in use stays", "error", err, "certificate_until", k.certs.Expires())
	case changed:
		k.log.Info("another server certificate is in use", "certificate_until", k.certs.Expires())
	}
}
