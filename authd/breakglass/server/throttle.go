// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"time"
)

// Delays after a wrong code. Only who was wrong waits: a right code is never held
// back, so nobody can lock another out by guessing.
const (
	firstDelay   = time.Second
	longestDelay = 30 * time.Second
	forgetAfter  = 10 * time.Minute
	maxRemember  = 256 // persons and codes; the rest share one counter
)

// throttle counts failures per person and per code that exists. Its zero value is
// ready; it is safe for concurrent use.
type throttle struct {
	mu     sync.Mutex
	counts map[string]*count
	last   time.Time
}

type count struct {
	failures int
	last     time.Time
}

// fail counts a wrong code and returns how long its answer is to be held back. An
// empty code is one that does not exist.
func (t *throttle) fail(person, code string, now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = now
	d := t.count("person "+person, now)
	if code != "" {
		d = max(d, t.count("code "+code, now))
	}
	return d
}

func (t *throttle) count(key string, now time.Time) time.Duration {
	if t.counts == nil {
		t.counts = map[string]*count{}
	}
	c := t.counts[key]
	if c == nil && len(t.counts) >= maxRemember {
		t.sweep(now)
		if len(t.counts) >= maxRemember {
			key = "the rest"
			c = t.counts[key]
		}
	}
	if c == nil || now.Sub(c.last) > forgetAfter {
		c = &count{}
		t.counts[key] = c
	}
	c.last = now
	c.failures++
	return min(firstDelay<<min(c.failures-1, 10), longestDelay)
}

func (t *throttle) sweep(now time.Time) {
	for key, c := range t.counts {
		if now.Sub(c.last) > forgetAfter {
			delete(t.counts, key)
		}
	}
}

// forgive forgets the failures of a person whose code was right, and of the code.
func (t *throttle) forgive(person, code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.counts, "person "+person)
	delete(t.counts, "code "+code)
}

// quiet says that there is nothing to remember any more.
func (t *throttle) quiet(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Sub(t.last) > forgetAfter
}
