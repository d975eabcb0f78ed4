// SPDX-License-Identifier: Apache-2.0

package target

import (
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// alive closes a connection whose other end no longer answers. Between two questions
// it is a timer and no goroutine.
type alive struct {
	ssh.Conn
	every time.Duration
	limit time.Duration

	mu     sync.Mutex
	timer  *time.Timer
	closed bool
}

// keepAlive asks the target after each interval whether it is there, and closes the
// connection when it has been silent for count of them. 0 asks never.
func keepAlive(c ssh.Conn, interval time.Duration, count int) ssh.Conn {
	if interval <= 0 || count <= 0 {
		return c
	}
	a := &alive{Conn: c, every: interval, limit: interval * time.Duration(count)}
	a.later()
	return a
}

func (a *alive) later() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.timer = time.AfterFunc(a.every, a.question)
	}
}

func (a *alive) question() {
	silent := time.AfterFunc(a.limit, func() { a.Close() })
	// Any answer will do; most servers say no.
	_, _, err := a.SendRequest("keepalive@openssh.com", true, nil)
	silent.Stop()
	if err != nil {
		a.Close()
		return
	}
	a.later()
}

// Close implements ssh.Conn.
func (a *alive) Close() error {
	a.mu.Lock()
	a.closed = true
	if a.timer != nil {
		a.timer.Stop()
	}
	a.mu.Unlock()
	return a.Conn.Close()
}
