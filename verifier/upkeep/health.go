// SPDX-License-Identifier: Apache-2.0

package upkeep

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// staleAfter is how old the last change may be that the store took.
	staleAfter = 3 * beatEvery
	// behind is how far the clock may be behind what the store has seen.
	behind = time.Minute
	// gap is how much later than the latest time that the store knows the clock may be
	// without being doubted. Where it is more, the verifier was away, or the clock runs
	// ahead; for so long, by beats, nothing is deleted by its word.
	gap = 24 * time.Hour
	// settles is how many beats in a row may find the clock behind until the store is
	// taken to be the one that is wrong: an hour.
	settles = int(time.Hour / beatEvery)
)

// Check is one condition of being fit to serve.
type Check struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Why  string `json:"why,omitempty"` // for administrators, not for strangers
}

// Beat writes to the store, to know that it takes changes, and compares the clock
// with the latest time that it knows.
func (k *Keeper) Beat(ctx context.Context) {
	var latest time.Time
	now := k.now()
	k.mu.Lock()
	settled := k.late >= settles
	k.mu.Unlock()
	err := k.store.Update(ctx, func(w store.Writer) (err error) {
		latest, err = w.Beat(now, settled)
		return err
	})
	if ctx.Err() != nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		if k.beatErr == "" {
			k.log.Error("the store takes no changes", "error", err)
		}
		k.beatErr = err.Error()
		return
	}
	if k.beatErr != "" {
		k.log.Info("the store takes changes again")
	}
	if sane(now, k.latest) != sane(now, latest) {
		k.log.Warn("the clock is behind the latest time that the store knows, or has caught up", "clock", now, "store", latest)
	}
	k.doubt(now, latest)
	if now.After(latest) {
		latest = now
	}
	k.beat, k.latest, k.beatErr = now, latest, ""
	if k.late = k.late + 1; sane(now, latest) {
		k.late = 0
	}
}

// doubt begins, or goes on with, the time in which the clock is not believed.
func (k *Keeper) doubt(now, latest time.Time) {
	switch {
	case !latest.IsZero() && now.Sub(latest) > gap:
		k.doubts = int(gap / beatEvery)
		k.log.Warn("the clock is more than a day later than the store knows: nothing is deleted by age for a day, in case it is ahead",
			"clock", now, "store", latest)
	case k.doubts > 0:
		k.doubts--
	}
}

func sane(now, latest time.Time) bool { return !now.Before(latest.Add(-behind)) }

// MayDelete says that the clock is good enough to delete by age: not behind what
// the store has seen, and not far ahead of it lately.
func (k *Keeper) MayDelete() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.doubts == 0 && sane(k.now(), k.latest)
}

// Checks says whether the verifier should get requests.
func (k *Keeper) Checks() []Check {
	now := k.now()
	k.mu.Lock()
	beat, latest, why := k.beat, k.latest, k.beatErr
	k.mu.Unlock()
	checks := []Check{{Name: "store", OK: true}, {Name: "certificate", OK: true}, {Name: "clock", OK: true}}
	if beat.IsZero() || now.Sub(beat) > staleAfter {
		checks[0].OK = false
		checks[0].Why = fmt.Sprintf("no change was committed since %s: %s", beat.Format(time.RFC3339), why)
	}
	if err := k.certs.Valid(); err != nil {
		checks[1].OK, checks[1].Why = false, err.Error()
	}
	if !sane(now, latest) {
		checks[2].OK = false
		checks[2].Why = fmt.Sprintf("the clock says %s, but the store has seen %s", now.Format(time.RFC3339), latest.Format(time.RFC3339))
	}
	return checks
}

// Ready says that all checks pass.
func (k *Keeper) Ready() bool {
	for _, c := range k.Checks() {
		if !c.OK {
			return false
		}
	}
	return true
}
