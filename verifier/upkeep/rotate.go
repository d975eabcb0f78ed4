// SPDX-License-Identifier: Apache-2.0

package upkeep

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// resealChunk bounds the values that one transaction seals anew.
	resealChunk = 200
	// Settle is how long a rotation waits for requests that sealed under the old
	// key before it began and have not written yet: longer than any may take.
	Settle = 90 * time.Second
	// maxRounds bounds how often a rotation looks for values under old keys.
	maxRounds = 10
)

// ErrRotating means that a rotation is under way already.
var ErrRotating = errors.New("the keys are being rotated already")

// Rotation is how far a rotation came.
type Rotation struct {
	Key      uint32 `json:"key"`      // that seals now
	Resealed int    `json:"resealed"` // values
	Resumed  bool   `json:"resumed"`  // it went on with an earlier one that was broken off
}

// Rotate changes the key that seals: another key, all values under it, the old
// key gone. It may be broken off anywhere; the next one goes on.
func (k *Keeper) Rotate(ctx context.Context, settle time.Duration) (Rotation, error) {
	k.mu.Lock()
	busy := k.rotating
	k.rotating = true
	k.mu.Unlock()
	if busy {
		return Rotation{}, ErrRotating
	}
	defer func() {
		k.mu.Lock()
		k.rotating = false
		k.mu.Unlock()
	}()
	return Rotate(ctx, k.store, k.keys, settle, k.log)
}

// Rotate is what Keeper.Rotate does, for a data directory that nobody serves.
func Rotate(ctx context.Context, st store.Store, keys *seal.Keys, settle time.Duration, log *slog.Logger) (r Rotation, err error) {
	key, begun, err := keys.Renew(ctx, rand.Reader)
	if err != nil {
		return r, fmt.Errorf("rotate keys: %w", err)
	}
	r.Key, r.Resumed = key, !begun
	log.Info("rotating the keys that seal", "key", r.Key, "resumed", r.Resumed)
	for round := 1; ; round++ {
		n, err := reseal(ctx, st, keys, r.Key)
		r.Resealed += n
		if err != nil {
			return r, fmt.Errorf("rotate keys: the old key stays: %w", err)
		}
		select {
		case <-ctx.Done():
			return r, fmt.Errorf("rotate keys: broken off; the next rotation goes on: %w", ctx.Err())
		case <-time.After(settle):
		}
		err = keys.DropOld(ctx, func() error { return none(ctx, st, r.Key) })
		switch {
		case err == nil:
			log.Info("rotated the keys that seal", "key", r.Key, "values", r.Resealed)
			return r, nil
		case !errors.Is(err, errLeft) || round == maxRounds:
			return r, fmt.Errorf("rotate keys: the old key stays: %w", err)
		}
	}
}

var errLeft = errors.New("a value was sealed under the old key meanwhile")

// none says that no value is under another key.
func none(ctx context.Context, st store.Store, key uint32) error {
	return st.View(ctx, func(r store.Reader) error {
		for _, column := range store.SealedColumns() {
			rows, err := r.SealedUnder(column, key, true, "", 1)
			if err != nil {
				return err
			}
			if len(rows) > 0 {
				return fmt.Errorf("%w: %s of %s", errLeft, column, rows[0].ID)
			}
		}
		return nil
	})
}

// reseal seals every value anew that is under another key.
func reseal(ctx context.Context, st store.Store, keys *seal.Keys, key uint32) (total int, err error) {
	for _, column := range store.SealedColumns() {
		for after := ""; ; {
			n, last, err := resealSome(ctx, st, keys, key, column, after)
			total += n
			if err != nil {
				return total, err
			}
			if last == "" {
				break
			}
			after = last
		}
	}
	return total, nil
}

// resealSome seals the next values of a column anew, and gives the last one's id.
func resealSome(ctx context.Context, st store.Store, keys *seal.Keys, key uint32, column store.SealedColumn, after string) (n int, last string, err error) {
	err = st.Update(ctx, func(w store.Writer) error {
		n, last = 0, "" // the function may run again
		rows, err := w.SealedUnder(column, key, true, after, resealChunk)
		if err != nil {
			return err
		}
		for _, row := range rows {
			plain, err := keys.Open(row.Value, row.Identity()...)
			if err != nil {
				return fmt.Errorf("%s of %s: %w", column, row.ID, err)
			}
			won, err := w.Reseal(row, keys.Seal(plain, row.Identity()...))
			if err != nil {
				return err
			}
			if won {
				n++
			}
			last = row.ID
		}
		return nil
	})
	return n, last, err
}
