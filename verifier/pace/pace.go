// SPDX-License-Identifier: Apache-2.0

// Package pace holds each of many to a rate, in bounded memory.
package pace

import (
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// keys is how many are remembered. Beyond it, who was quiet longest is forgotten.
const keys = 10_000

// Pace counts by key. Make one with New; it is safe for concurrent use. Take it
// only for keys that a stranger cannot make up: else so many of them push others out.
type Pace struct {
	every time.Duration
	burst int

	mu       sync.Mutex
	limiters *simplelru.LRU[string, *rate.Limiter]
}

// New is a pace of one each time that every passes, on and on, and of burst at once.
func New(every time.Duration, burst int) *Pace {
	limiters, err := simplelru.NewLRU[string, *rate.Limiter](keys, nil)
	if err != nil {
		panic(fmt.Sprintf("pace: %v", err)) // the size is a constant
	}
	return &Pace{every: every, burst: burst, limiters: limiters}
}

// Take counts one of a key and says whether it is within the pace. What is refused
// costs nothing.
func (p *Pace) Take(key string, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	limiter, ok := p.limiters.Get(key)
	if !ok {
		limiter = rate.NewLimiter(rate.Every(p.every), p.burst)
		p.limiters.Add(key, limiter)
	}
	return limiter.AllowN(now, 1)
}
