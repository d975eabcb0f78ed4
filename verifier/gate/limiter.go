// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"net/netip"
	"sync"
	"time"
)

// refusalsPerMinute is how many refused requests of one address are answered in
// full and logged.
const refusalsPerMinute = 60

// maxAddresses bounds the limiter's memory; beyond it the counts start anew.
const maxAddresses = 16_384

// limiter counts per address (per /64 with IPv6) in windows of a minute.
type limiter struct {
	limit int
	now   func() time.Time

	mu     sync.Mutex
	window time.Time
	counts map[netip.Prefix]int
}

func newLimiter(limit int, now func() time.Time) *limiter {
	return &limiter{limit: limit, now: now, counts: map[netip.Prefix]int{}}
}

// take counts one and says whether it is within the limit.
func (l *limiter) take(addr netip.Addr) bool {
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	key, err := addr.Prefix(bits)
	if err != nil {
		key = netip.Prefix{} // no address: one count for all of those
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if window := l.now().Truncate(time.Minute); !window.Equal(l.window) || len(l.counts) >= maxAddresses {
		l.window = window
		clear(l.counts)
	}
	l.counts[key]++
	return l.counts[key] <= l.limit
}
