// SPDX-License-Identifier: Apache-2.0

// Package transport is what carries bytes fast and holds little while none come: the
// connections under SSH, the buffers of copies, the order of ciphers, and how much garbage
// the program lets gather. It knows no user and no rule, and looks into nothing that it carries.
package transport

import (
	"net"
	"sync"
	"time"
)

// pieceSize is the size of the buffer that x/crypto/ssh writes through. A packet that is larger comes
// as one write of exactly this size and one of the rest.
const pieceSize = 4 << 10

// pieceWait is how long a first piece waits for its rest, which follows at once: only a
// packet of exactly pieceSize, which is rare, ever waits for it.
const pieceWait = time.Millisecond

// Wrap makes one write of those two. It halves the segments of a large packet, and how often
// whoever reads them is woken. Everything smaller goes out as it comes. What is no TCP
// connection stays as it is.
func Wrap(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	return &conn{Conn: tcp}
}

var pieces = sync.Pool{New: func() any { return new([pieceSize]byte) }}

// conn embeds no more than net.Conn: what else a TCP connection can do would go around
// the piece that is held.
type conn struct {
	net.Conn

	mu    sync.Mutex
	held  *[pieceSize]byte // nil: nothing is
	pair  [2][]byte        // held and its rest, for one writev
	both  net.Buffers
	timer *time.Timer
	err   error // of a write that nobody waited for
}

// Write writes p, or holds it if more must follow.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	if c.held != nil {
		return c.writeBoth(p)
	}
	if len(p) != pieceSize {
		return c.Conn.Write(p)
	}
	c.held = pieces.Get().(*[pieceSize]byte)
	copy(c.held[:], p)
	if c.timer == nil {
		c.timer = time.AfterFunc(pieceWait, c.late)
	} else {
		c.timer.Reset(pieceWait)
	}
	return len(p), nil
}

func (c *conn) writeBoth(p []byte) (int, error) {
	c.timer.Stop()
	c.pair = [2][]byte{c.held[:], p}
	c.both = c.pair[:]
	n, err := c.both.WriteTo(c.Conn)
	c.pair, c.both = [2][]byte{}, nil
	c.drop()
	return max(int(n)-pieceSize, 0), err
}

// late writes a piece whose rest did not come.
func (c *conn) late() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == nil {
		return
	}
	_, c.err = c.Conn.Write(c.held[:])
	c.drop()
}

func (c *conn) drop() {
	pieces.Put(c.held)
	c.held = nil
}
