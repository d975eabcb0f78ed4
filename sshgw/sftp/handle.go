// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"sync"
	"sync/atomic"
)

// maxHandles bounds those that are open. OpenSSH's server has fewer.
const maxHandles = 4096

// maxNames bounds what they and their files are called, in bytes all in all.
const maxNames = 4 << 20

// maxHeld bounds what waits in a session for bytes that come before it.
const maxHeld = 4 << 20

// called is how many bytes of maxNames the handle takes.
func (h *handle) called() int { return len(h.name) + len(h.path) }

// access is what a handle was opened for.
type access struct {
	read, write, list bool
	fresh             bool // what was there before is gone: written is all there is
}

// handle is an open file or folder. Its path never changes.
type handle struct {
	name    string
	path    string
	access  access
	closing bool // SSH_FXP_CLOSE is on its way; with session.mu held

	mu     sync.Mutex
	over   bool // ops were told
	reads  flow
	writes flow
	acked  int64
	failed bool // a write was refused
	eof    bool
	size   int64 // as the server has said, -1: it has not
}

// flow is the bytes of a file in one direction.
type flow struct {
	bytes int64
	next  uint64
	sum   hash.Hash // nil: nothing yet, or lost
	lost  bool      // not in order
	ahead map[uint64][]byte
	begun bool
}

// add takes bytes at an offset. held counts what waits in the session.
func (f *flow) add(offset uint64, p []byte, held *atomic.Int64) {
	f.bytes += int64(len(p))
	f.begun = true
	if f.lost || len(p) == 0 {
		return
	}
	if f.sum == nil {
		f.sum = sha256.New()
	}
	if offset != f.next {
		_, twice := f.ahead[offset]
		if offset < f.next || twice || held.Load()+int64(len(p)) > maxHeld {
			f.lose(held)
			return
		}
		if f.ahead == nil {
			f.ahead = map[uint64][]byte{}
		}
		f.ahead[offset] = append([]byte(nil), p...)
		held.Add(int64(len(p)))
		return
	}
	f.sum.Write(p)
	f.next += uint64(len(p))
	for len(f.ahead) > 0 {
		p, ok := f.ahead[f.next]
		if !ok {
			return
		}
		delete(f.ahead, f.next)
		held.Add(-int64(len(p)))
		f.sum.Write(p)
		f.next += uint64(len(p))
	}
}

// lose gives up the sum.
func (f *flow) lose(held *atomic.Int64) {
	f.lost, f.sum = true, nil
	for _, p := range f.ahead {
		held.Add(-int64(len(p)))
	}
	f.ahead = nil
}

// total is the sum of all from the beginning, "" if there is none.
func (f *flow) total() string {
	if f.lost || len(f.ahead) > 0 {
		return ""
	}
	if f.sum == nil {
		f.sum = sha256.New()
	}
	return hex.EncodeToString(f.sum.Sum(nil))
}

// end is what was done by a handle. Nothing counts after that.
func (h *handle) end(result string, held *atomic.Int64) []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over {
		return nil
	}
	h.over = true
	ops := h.ops(result)
	h.reads.lose(held)
	h.writes.lose(held)
	return ops
}

func (h *handle) ops(result string) []Op {
	var ops []Op
	if h.access.read {
		op := Op{Kind: "read", Path: h.path, Bytes: h.reads.bytes, Result: result}
		if h.eof || (h.size >= 0 && uint64(h.size) == h.reads.next) {
			op.SHA256 = h.reads.total()
		}
		// A file that was opened for both and only written was not read.
		if !h.access.write || h.reads.begun {
			ops = append(ops, op)
		}
	}
	if h.access.write {
		op := Op{Kind: "write", Path: h.path, Bytes: h.acked, Result: result}
		if h.access.fresh && !h.failed && result == ResultOK {
			op.SHA256 = h.writes.total()
		}
		ops = append(ops, op)
	}
	if h.access.list {
		ops = append(ops, Op{Kind: "list", Path: h.path, Result: result})
	}
	return ops
}
