// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"sync"
	"time"
)

// Turns is who may go next at each place. It is safe for concurrent use; the zero
// value is ready.
type Turns struct {
	mu     sync.Mutex
	places map[string]*place
}

type place struct {
	turn turn
	here int
}

// turn is held by whoever has put something into it.
type turn chan struct{}

func (t *Turns) join(name string) turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.places == nil {
		t.places = map[string]*place{}
	}
	p := t.places[name]
	if p == nil {
		p = &place{turn: make(turn, 1)}
		t.places[name] = p
	}
	p.here++
	return p.turn
}

func (t *Turns) leave(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p := t.places[name]; p != nil {
		if p.here--; p.here == 0 {
			delete(t.places, name)
		}
	}
}

// take waits for the turn, no longer than that; nil is nobody's and always free.
func (t turn) take(d time.Duration, gone <-chan struct{}) bool {
	if t == nil {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case t <- struct{}{}:
		return true
	case <-timer.C:
	case <-gone:
	}
	return false
}

func (t turn) give() {
	if t != nil {
		<-t
	}
}
