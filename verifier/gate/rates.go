// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Rates are requests per second that one integration of a type may make, on and
// on; 0 or absent: any number. At once it may make ten times as many.
type Rates map[store.IntegrationType]int

const burstSeconds = 10

// limits hold the integrations of one verifier to their rates.
type limits struct {
	rates Rates
	now   func() time.Time

	mu       sync.Mutex
	limiters map[string]*rate.Limiter // by integration key; only of those that can sign
}

func newLimits(r Rates, now func() time.Time) *limits {
	return &limits{rates: r, now: now, limiters: map[string]*rate.Limiter{}}
}

// take counts a request of an integration whose signature was good.
func (l *limits) take(i store.Integration) error {
	perSecond := l.rates[i.Type]
	if perSecond <= 0 {
		return nil
	}
	now := l.now()
	reservation := l.limiter(i.Key, perSecond).ReserveN(now, 1)
	delay := reservation.DelayFrom(now)
	if delay == 0 {
		return nil
	}
	reservation.CancelAt(now) // what is refused costs nothing
	e := duoapi.NewError(duoapi.CodeTooManyRequests, "this integration")
	e.RetryAfter = int(math.Ceil(delay.Seconds()))
	return e
}

func (l *limits) limiter(key string, perSecond int) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.limiters) >= maxCached {
		clear(l.limiters)
	}
	limiter := l.limiters[key]
	if limiter == nil {
		limiter = rate.NewLimiter(rate.Limit(perSecond), burstSeconds*perSecond)
		l.limiters[key] = limiter
	}
	return limiter
}
