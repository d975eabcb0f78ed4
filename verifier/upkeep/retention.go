// SPDX-License-Identifier: Apache-2.0

package upkeep

import (
	"context"
	"maps"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// purgeChunk bounds the entries that one transaction deletes, so that a login
// waits for no more; purgePause lets others in between.
const (
	purgeChunk = 500
	purgePause = 20 * time.Millisecond
)

// Purge deletes the entries of the logs that are older than the setting
// log_retention_days. It leaves everything while the clock is not sane.
func (k *Keeper) Purge(ctx context.Context) {
	days := 0
	err := k.store.View(ctx, func(r store.Reader) error {
		s, err := r.Settings()
		days = s.LogRetentionDays
		return err
	})
	if ctx.Err() != nil || err == nil && days <= 0 {
		return
	}
	if err != nil {
		k.log.Error("old entries of the logs stay: the settings cannot be read", "error", err)
		return
	}
	if !k.MayDelete() {
		k.log.Error("old entries of the logs stay, since the clock is wrong, or not believed yet")
		return
	}
	before := k.now().AddDate(0, 0, -days)
	for _, log := range store.Logs() {
		n, err := k.purge(ctx, log, before)
		k.mu.Lock()
		k.purged[log] += int64(n)
		k.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			k.log.Error("old entries of a log stay", "log", log, "deleted", n, "error", err)
		case n > 0:
			k.log.Info("deleted old entries of a log", "log", log, "entries", n, "before", before)
		}
	}
}

func (k *Keeper) purge(ctx context.Context, log string, before time.Time) (total int, err error) {
	for {
		n := 0
		err := k.store.Update(ctx, func(w store.Writer) (err error) {
			n, err = w.PurgeLog(log, before, purgeChunk)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
		if n < purgeChunk {
			return total, nil
		}
		select {
		case <-ctx.Done():
			return total, ctx.Err()
		case <-time.After(purgePause):
		}
	}
}

// Purged counts the entries of each log that were deleted since the start.
func (k *Keeper) Purged() map[string]int64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	return maps.Clone(k.purged)
}
