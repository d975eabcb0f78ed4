// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
)

// What one peer may make the gateway write of refusals: so many at once, and one more for
// each second that passes. The others are counted, and the next event says how many they
// were. Where it is too many of them, the peer loses its connection.
const (
	refusalsAtOnce = 50
	refusalsEvery  = time.Second
	refusalsMost   = 10_000 // left out
)

// refusals are those of one peer: a log that one can fill is one in which nothing is found.
type refusals struct {
	mu   sync.Mutex
	full time.Time // when all of refusalsAtOnce may be written again
	out  int64     // left out since the last that was written
	all  int64     // left out
}

// note takes note of a refusal. tell says that it is to be written, with how many were left
// out before it; over says that the peer has had too many.
func (r *refusals) note(now time.Time) (tell bool, leftOut int64, over bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.full.Before(now) {
		r.full = now
	}
	if next := r.full.Add(refusalsEvery); next.Sub(now) <= refusalsAtOnce*refusalsEvery {
		r.full = next
		leftOut, r.out = r.out, 0
		return true, leftOut, false
	}
	r.out++
	if r.all++; r.all >= refusalsMost {
		r.all = 0
		over = true
	}
	return false, 0, over
}

// rest is how many were left out and not told of.
func (r *refusals) rest() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.out
	r.out = 0
	return n
}

// refused writes an event of something that the client was refused, unless there are too
// many: a client that goes on and on loses its connection.
func (c *connection) refused(ctx context.Context, level slog.Level, code audit.Code, attrs ...slog.Attr) {
	root := c.root()
	of := &root.refusals
	if code == audit.File {
		of = &root.refusedFiles
	}
	if more, ok := c.spend(of, root.tooMany); ok {
		c.event(ctx, level, code, append(attrs, more...)...)
	}
}

// spend takes note of a refusal; true with what is to be said beside it if it is to be
// written. end is what becomes of a peer with too many.
func (c *connection) spend(of *refusals, end func()) ([]slog.Attr, bool) {
	tell, leftOut, over := of.note(c.service.Now())
	if over {
		c.spawn(end)
	}
	if leftOut > 0 {
		return []slog.Attr{slog.Int64("left_out", leftOut)}, tell
	}
	return nil, tell
}

// told says what was left out at the end of a peer.
func (c *connection) told(of *refusals, code audit.Code, attrs ...slog.Attr) {
	if n := of.rest(); n > 0 {
		c.event(c.ctx, slog.LevelWarn, code, append(attrs, slog.String("reason", "too_many"), slog.Int64("left_out", n))...)
	}
}

func (c *connection) tooMany() { c.server.End("too_many_refusals", "") }

// tooMany closes the connection to a target that was refused too much.
func (h *hop) tooMany() {
	if to := h.current(); to != nil {
		h.conn.log.Warn("a target was refused too much", "target", h.way.target.Name)
		_ = to.SSH.Close()
	}
}
