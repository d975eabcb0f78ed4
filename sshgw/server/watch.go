// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"time"
)

// watch is the clocks of one connection: keepalive, idle, total. It is a timer and no
// goroutine, because most connections do nothing most of the time.
type watch struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool

	heard   uint64 // bytes that had come in when the keepalive last looked
	nextAsk time.Time
	asking  bool // a keepalive is not answered yet
	missed  int
}

// keep starts the clocks of a connection over the network.
func (c *Conn) keep() {
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = c.wire.received.Load()
	w.nextAsk = time.Now().Add(c.set.Timeouts.KeepAlive)
	w.timer = time.AfterFunc(c.next(time.Now()), c.tick)
}

func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	if w.timer != nil {
		w.timer.Stop()
	}
}

// forEver is longer than any connection lives.
const forEver = 24 * time.Hour

// next is how long until a clock fires. The caller holds the watch's mutex.
func (c *Conn) next(now time.Time) time.Duration {
	t := c.set.Timeouts
	wait := forEver
	if t.KeepAlive > 0 {
		wait = min(wait, c.watch.nextAsk.Sub(now))
	}
	if t.Idle > 0 {
		wait = min(wait, t.Idle-(now.Sub(c.start)-time.Duration(c.active.Load())))
	}
	if t.Session > 0 {
		wait = min(wait, t.Session-now.Sub(c.start))
	}
	return max(wait, time.Millisecond)
}

func (c *Conn) tick() {
	now := time.Now()
	t := c.set.Timeouts
	switch age := now.Sub(c.start); {
	case t.Session > 0 && age >= t.Session:
		c.End("too_long", "timeouts.session")
		return
	case t.Idle > 0 && age-time.Duration(c.active.Load()) >= t.Idle:
		c.End("idle", "timeouts.idle")
		return
	}
	w := &c.watch
	w.mu.Lock()
	if w.stopped {
		w.mu.Unlock()
		return
	}
	dead, ask := false, false
	if t.KeepAlive > 0 && !now.Before(w.nextAsk) {
		dead, ask = w.look(c.wire.received.Load(), t.KeepAliveCount)
		w.nextAsk = now.Add(t.KeepAlive)
	}
	if !dead {
		w.timer.Reset(c.next(now))
	}
	w.mu.Unlock()
	switch {
	case dead:
		c.End("no_answer", "timeouts.keepalive_count")
	case ask:
		go c.ask()
	}
}

// look says whether the client is dead and whether to ask it. What has come in at all
// shows that it lives. The caller holds the mutex.
func (w *watch) look(received uint64, most int) (dead, ask bool) {
	if received != w.heard {
		w.heard, w.missed = received, 0
		return false, false
	}
	if w.asking {
		w.missed++
		return w.missed >= max(most, 1), false
	}
	w.asking = true
	return false, true
}

// ask sends a keepalive and waits for any answer; a connection that ends wakes it.
func (c *Conn) ask() {
	_, _, err := c.SSH.SendRequest("keepalive@openssh.com", true, nil)
	if err != nil {
		return
	}
	c.watch.mu.Lock()
	c.watch.asking, c.watch.missed = false, 0
	c.watch.mu.Unlock()
}
