// SPDX-License-Identifier: Apache-2.0

package target

import (
	"sync"
	"time"
)

// budget is time that stands still while a person is asked.
type budget struct {
	mu    sync.Mutex
	timer *time.Timer
	left  time.Duration
	since time.Time // when it began to run; zero while it stands still
	over  bool
	fire  func()
}

func startBudget(d time.Duration, fire func()) *budget {
	b := &budget{left: d, fire: fire}
	b.resume()
	return b
}

func (b *budget) pause() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || b.since.IsZero() {
		return
	}
	b.timer.Stop()
	b.left -= time.Since(b.since)
	b.since = time.Time{}
}

func (b *budget) resume() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || !b.since.IsZero() {
		return
	}
	b.since = time.Now()
	b.timer = time.AfterFunc(max(b.left, 0), b.end)
}

func (b *budget) end() {
	b.mu.Lock()
	// A timer that fires while pause holds the lock has lost.
	if b.over || b.since.IsZero() || time.Since(b.since) < b.left {
		b.mu.Unlock()
		return
	}
	b.over = true
	b.mu.Unlock()
	b.fire()
}

// stop ends the counting, and says whether there was time left.
func (b *budget) stop() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return false
	}
	b.over = true
	if b.timer != nil {
		b.timer.Stop()
	}
	return true
}
