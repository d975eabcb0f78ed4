// SPDX-License-Identifier: Apache-2.0

package transport

import "sync"

// The sizes of a buffer. A stream that waits holds the least: thousands do. One that
// carries a file gathers several packets of 32 KiB (x/crypto's largest) in one read, so
// that there is one write, one wake-up and one window adjustment for all of them.
const (
	sizeIdle = 512
	sizeBusy = 32 << 10
	sizeBulk = 256 << 10
	// sizeKeep is the shortest read after which a stream is still taken for busy.
	sizeKeep = 4 << 10
)

// A pointer to an array needs no allocation to be put back.
var (
	busyBuffers = sync.Pool{New: func() any { return new([sizeBusy]byte) }}
	bulkBuffers = sync.Pool{New: func() any { return new([sizeBulk]byte) }}
)

// Buffer is what one direction of a copy reads into: it grows while reads fill it, and
// shrinks when little comes. The zero value is ready.
type Buffer struct {
	idle []byte
	busy *[sizeBusy]byte
	bulk *[sizeBulk]byte
}

// Next is where to read to, after a read of n bytes into the one before; 0 at first.
func (b *Buffer) Next(n int) []byte {
	switch {
	case b.idle == nil:
		b.idle = make([]byte, sizeIdle)
	case b.bulk != nil && n >= sizeKeep, b.busy != nil && n >= sizeKeep && n < sizeBusy:
	case b.busy != nil && n == sizeBusy:
		b.Release()
		b.bulk = bulkBuffers.Get().(*[sizeBulk]byte)
	case b.busy == nil && b.bulk == nil && n == sizeIdle:
		b.busy = busyBuffers.Get().(*[sizeBusy]byte)
	default:
		b.Release()
	}
	switch {
	case b.bulk != nil:
		return b.bulk[:]
	case b.busy != nil:
		return b.busy[:]
	}
	return b.idle
}

// Release gives back what is lent. Another copy will read over what is in it, and
// never look at more than it has read.
func (b *Buffer) Release() {
	if b.busy != nil {
		busyBuffers.Put(b.busy)
	}
	if b.bulk != nil {
		bulkBuffers.Put(b.bulk)
	}
	b.busy, b.bulk = nil, nil
}
