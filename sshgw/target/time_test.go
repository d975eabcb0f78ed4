// SPDX-License-Identifier: Apache-2.0

package target

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"
)

func TestBudgetStandsStill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fired := make(chan time.Time, 2)
		begin := time.Now()
		b := startBudget(10*time.Second, func() { fired <- time.Now() })
		time.Sleep(6 * time.Second)
		b.pause()
		b.pause()
		time.Sleep(time.Hour)
		b.resume()
		b.resume()
		if after := (<-fired).Sub(begin); after != time.Hour+10*time.Second {
			t.Errorf("it fired after %v; want 10 s and the hour that did not count", after)
		}
		if b.stop() {
			t.Error("there was time left")
		}
		b = startBudget(10*time.Second, func() { fired <- time.Now() })
		if !b.stop() || b.stop() {
			t.Error("stopped in time: said otherwise")
		}
		b.resume()
		time.Sleep(time.Hour)
		if len(fired) != 0 {
			t.Error("it fired after it was stopped")
		}
	})
}

// peer is the other end of a connection that answers keepalives, or does not.
type peer struct {
	ssh.Conn
	mu      sync.Mutex
	asked   int
	silent  bool
	closed  chan struct{}
	closing sync.Once
}

func (p *peer) SendRequest(name string, wantReply bool, _ []byte) (bool, []byte, error) {
	p.mu.Lock()
	p.asked++
	silent := p.silent
	p.mu.Unlock()
	if name != "keepalive@openssh.com" || !wantReply {
		return false, nil, errors.New("no question that must be answered")
	}
	if silent {
		<-p.closed
		return false, nil, errors.New("closed")
	}
	return false, nil, nil
}

func (p *peer) Close() error {
	p.closing.Do(func() { close(p.closed) })
	return nil
}

func TestKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{closed: make(chan struct{})}
		c := keepAlive(p, 15*time.Second, 3)
		time.Sleep(5*15*time.Second + time.Second)
		p.mu.Lock()
		if p.asked != 5 {
			t.Errorf("asked %d times; want 5", p.asked)
		}
		p.silent = true
		p.mu.Unlock()
		silent := time.Now()
		<-p.closed
		if after := time.Since(silent); after != 14*time.Second+45*time.Second {
			t.Errorf("closed after %v of silence", after)
		}
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestKeepAliveEndsWithTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &peer{closed: make(chan struct{})}
		c := keepAlive(p, 15*time.Second, 3)
		c.Close()
		time.Sleep(time.Hour)
		if p.asked != 0 {
			t.Errorf("a closed connection was asked %d times", p.asked)
		}
		if keepAlive(p, 0, 3) != ssh.Conn(p) {
			t.Error("switched off, it keeps alive")
		}
	})
}
