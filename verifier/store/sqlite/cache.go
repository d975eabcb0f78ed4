// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqldb"
)

const (
	// maxCached bounds the cache; beyond it, it starts anew.
	maxCached = 10_000
	// renewEvery is how long a change by another process (recover-admin) may stay
	// unseen; changes by this one are seen by every View that begins after Update.
	renewEvery = time.Second
)

// SeenWithin is how soon every View sees a change that another process has made.
const SeenWithin = renewEvery + 200*time.Millisecond

// cache keeps what every request reads and hardly anyone changes: integrations
// and settings. An entry counts only in the epoch in which its reading began;
// each update that changes one of them begins another.
type cache struct {
	epoch   atomic.Uint64
	mu      sync.RWMutex
	entries map[string]entry
}

type entry struct {
	epoch uint64
	value any
}

func (c *cache) now() uint64 { return c.epoch.Load() }

func (c *cache) renew() { c.epoch.Add(1) }

// keepCache begins a new epoch from time to time, for changes by other processes.
func (db *DB) keepCache() {
	t := time.NewTicker(renewEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			db.cache.renew()
		case <-db.stop:
			return
		}
	}
}

// through returns the cached value of key, or what read gives.
func through[T any](c *cache, epoch uint64, key string, read func() (T, error)) (T, error) {
	c.mu.RLock()
	e, ok := c.entries[key]
	c.mu.RUnlock()
	if v, is := e.value.(T); ok && is && e.epoch == epoch {
		return v, nil
	}
	v, err := read()
	if err != nil {
		return v, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil || len(c.entries) >= maxCached {
		c.entries = map[string]entry{}
	}
	c.entries[key] = entry{epoch, v}
	return v, nil
}

// readerTx is the Reader of a View.
type readerTx struct {
	*sqldb.Tx
	cache *cache
	epoch uint64
}

// Integration implements store.Reader.
func (r readerTx) Integration(key string) (store.Integration, error) {
	return through(r.cache, r.epoch, "integration "+key, func() (store.Integration, error) { return r.Tx.Integration(key) })
}

// Settings implements store.Reader.
func (r readerTx) Settings() (store.Settings, error) {
	return through(r.cache, r.epoch, "settings", r.Tx.Settings)
}

// writerTx is the Writer of an Update. It notes changes of what is cached.
type writerTx struct {
	*sqldb.Tx
	touched *bool
}

// AddIntegration implements store.Writer.
func (w writerTx) AddIntegration(i store.Integration) error {
	*w.touched = true
	return w.Tx.AddIntegration(i)
}

// SetIntegration implements store.Writer.
func (w writerTx) SetIntegration(i store.Integration) error {
	*w.touched = true
	return w.Tx.SetIntegration(i)
}

// DeleteIntegration implements store.Writer.
func (w writerTx) DeleteIntegration(key string) error {
	*w.touched = true
	return w.Tx.DeleteIntegration(key)
}

// RevokeHost implements store.Writer.
func (w writerTx) RevokeHost(id string, now time.Time) error {
	*w.touched = true
	return w.Tx.RevokeHost(id, now)
}

// SetSettings implements store.Writer.
func (w writerTx) SetSettings(set store.Settings) error {
	*w.touched = true
	return w.Tx.SetSettings(set)
}

// Reseal implements store.SealedWriter.
func (w writerTx) Reseal(row store.SealedRow, value []byte) (bool, error) {
	*w.touched = true
	return w.Tx.Reseal(row, value)
}
