// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// markFor is how long the mark of a request is kept: its date may be so far in
	// the future, and good for as long after that; and verifiers' clocks differ a little.
	markFor = 2*signature.MaxSkew + time.Minute
	// purgeMarksEvery is how often marks that have expired are deleted.
	purgeMarksEvery = 5 * time.Minute
)

// replays lets each write of the Admin and the Device API through once, at
// whichever verifier it comes. Logins are not among them: dates have a granularity
// of a second, and two sudo of a person at once are no replay.
type replays struct {
	store store.Store
	now   func() time.Time

	mu     sync.Mutex
	purged time.Time
}

// guarded says whether a request must be new.
func guarded(r *http.Request, i store.Integration) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return false
	}
	return i.Type != store.AuthAPI
}

// take refuses a request whose signature was let through before. It is the last
// check before the handler, so that what was refused before, such as for too many
// requests, may be sent again as it is: clients of this protocol do that.
func (p *replays) take(ctx context.Context, i store.Integration, c signature.Credentials) (taken []byte, err error) {
	mark := sha256.Sum256(append([]byte(i.Key+"\x00"), c.MAC()...))
	now := p.now()
	purge := p.purgeDue(now)
	var fresh bool
	err = p.store.Update(ctx, func(w store.Writer) (err error) {
		if purge {
			if err := w.PurgeRequests(now); err != nil {
				return err
			}
		}
		fresh, err = w.TakeRequest(mark[:], now.Add(markFor))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("see whether a request came before: %w", err)
	}
	if !fresh {
		return nil, duoapi.NewError(duoapi.CodeReplay, "this very request came before: look what it has done, and sign anew to do it again")
	}
	return mark[:], nil
}

// forget gives the mark of a write back that was refused with a conflict, which
// changed nothing: Duo's script for device caches takes the other cache out of the
// way and sends the same request again, within the second that dates are good to.
func (p *replays) forget(ctx context.Context, r *Request, err error) {
	var e *duoapi.Error
	if r.mark == nil || !errors.As(err, &e) || e.Status() != http.StatusConflict {
		return
	}
	// If it fails, the client reads of a replay, and asks again a second later.
	_ = p.store.Update(ctx, func(w store.Writer) error { return w.ForgetRequest(r.mark) })
}

func (p *replays) purgeDue(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.purged).Abs() < purgeMarksEvery {
		return false
	}
	p.purged = now
	return true
}
