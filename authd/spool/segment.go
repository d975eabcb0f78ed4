// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"encoding/binary"
	"hash/crc32"
	"time"
)

// The form of a segment; docs/explanation/offline-codes.md draws it.
const (
	magic      = "SPSPOOL1"
	headerSize = len(magic) + len(Epoch{})
	frameSize  = 4 + 4 // length and checksum
	eventHead  = 8 + 8 // sequence number and time
)

// MaxEvent bounds the body of an event, in bytes.
const MaxEvent = 4 << 10

// maxRecord bounds what a length may claim.
const maxRecord = 1 + eventHead + MaxEvent

// Kinds of records.
const (
	kindEvent = 1
	kindAck   = 2
)

// castagnoli is the polynomial of CRC-32C, which most processors compute themselves.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Epoch names a segment: random, so that no other has it.
type Epoch [16]byte

// Event is an event of the log.
type Event struct {
	Seq  uint64 // from 1 in each epoch
	At   time.Time
	Body []byte
}

func appendHeader(b []byte, e Epoch) []byte { return append(append(b, magic...), e[:]...) }

// appendRecord frames what body appends.
func appendRecord(b []byte, kind byte, body func([]byte) []byte) []byte {
	start := len(b)
	b = append(b, make([]byte, frameSize)...)
	b = body(append(b, kind))
	payload := b[start+frameSize:]
	binary.BigEndian.PutUint32(b[start:], uint32(len(payload)))
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(payload, castagnoli))
	return b
}

func appendEvent(b []byte, e Event) []byte {
	return appendRecord(b, kindEvent, func(b []byte) []byte {
		b = binary.BigEndian.AppendUint64(b, e.Seq)
		b = binary.BigEndian.AppendUint64(b, uint64(e.At.UnixMicro()))
		return append(b, e.Body...)
	})
}

func appendAck(b []byte, e Epoch, seq uint64) []byte {
	return appendRecord(b, kindAck, func(b []byte) []byte {
		return binary.BigEndian.AppendUint64(append(b, e[:]...), seq)
	})
}

// record is a record as it was read.
type record struct {
	kind  byte
	event Event // kindEvent; its body is a part of what was read
	epoch Epoch // kindAck
	seq   uint64
}

// next reads the record at the start of b. size is 0 where there is no whole,
// sound record.
func next(b []byte) (r record, size int) {
	if len(b) < frameSize {
		return r, 0
	}
	n := binary.BigEndian.Uint32(b)
	if n == 0 || n > maxRecord || int(n) > len(b)-frameSize {
		return r, 0
	}
	payload := b[frameSize : frameSize+int(n)]
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return r, 0
	}
	body := payload[1:]
	r.kind = payload[0]
	switch {
	case r.kind == kindEvent && len(body) >= eventHead:
		r.event = Event{
			Seq:  binary.BigEndian.Uint64(body),
			At:   time.UnixMicro(int64(binary.BigEndian.Uint64(body[8:]))),
			Body: body[eventHead:],
		}
	case r.kind == kindAck && len(body) == len(r.epoch)+8:
		copy(r.epoch[:], body)
		r.seq = binary.BigEndian.Uint64(body[len(r.epoch):])
	default:
		return r, 0
	}
	return r, frameSize + int(n)
}

// contents is what a segment holds.
type contents struct {
	epoch Epoch
	last  uint64           // sequence number of the last event, 0: none
	acks  map[Epoch]uint64 // of any segment
	size  int              // bytes up to the first record that is not whole and sound
}

// parse reads a segment up to its first unsound record. ok is false if it does
// not even begin like one.
func parse(b []byte) (c contents, ok bool) {
	if len(b) < headerSize || string(b[:len(magic)]) != magic {
		return c, false
	}
	copy(c.epoch[:], b[len(magic):])
	c.acks = map[Epoch]uint64{}
	c.size = headerSize
	for {
		r, n := next(b[c.size:])
		if n == 0 || r.kind == kindEvent && r.event.Seq != c.last+1 {
			return c, true
		}
		if r.kind == kindEvent {
			c.last = r.event.Seq
		} else {
			c.acks[r.epoch] = max(c.acks[r.epoch], r.seq)
		}
		c.size += n
	}
}
