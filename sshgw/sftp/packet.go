// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Types of packets.
const (
	fxpInit          = 1
	fxpVersion       = 2
	fxpOpen          = 3
	fxpClose         = 4
	fxpRead          = 5
	fxpWrite         = 6
	fxpLstat         = 7
	fxpFstat         = 8
	fxpSetstat       = 9
	fxpFsetstat      = 10
	fxpOpendir       = 11
	fxpReaddir       = 12
	fxpRemove        = 13
	fxpMkdir         = 14
	fxpRmdir         = 15
	fxpRealpath      = 16
	fxpStat          = 17
	fxpRename        = 18
	fxpReadlink      = 19
	fxpSymlink       = 20
	fxpStatus        = 101
	fxpHandle        = 102
	fxpData          = 103
	fxpName          = 104
	fxpAttrs         = 105
	fxpExtended      = 200
	fxpExtendedReply = 201
)

// Status codes.
const (
	fxOK               = 0
	fxEOF              = 1
	fxNoSuchFile       = 2
	fxPermissionDenied = 3
)

var statusNames = [...]string{
	"ok", "end of file", "no such file", "permission denied", "failure", "bad message", "no connection", "connection lost", "not supported",
}

// Flags of SSH_FXP_OPEN and of attributes.
const (
	fxfRead     = 1
	fxfWrite    = 2
	fxfAppend   = 4
	fxfCreate   = 8
	fxfTruncate = 0x10
	fxfExclude  = 0x20

	attrSize        = 1
	attrOwner       = 2
	attrPermissions = 4
	attrTimes       = 8
)

// The type of a file in its permissions.
const (
	modeType = 0o170000
	modeLink = 0o120000
	modeDir  = 0o040000
	modeFile = 0o100000
)

const (
	// version is the only one that is spoken; clients that know a later one are told so.
	version = 3
	// maxPacket bounds one. OpenSSH sends no more than 256 KiB.
	maxPacket = 1 << 20
	// maxAnswer bounds what is kept of an answer, and those that are short by their nature.
	maxAnswer = 16 << 10
	// maxHandle is that of the draft.
	maxHandle = 256
	// usualPacket is what a buffer has from the beginning.
	usualPacket = 33 << 10
)

// packets reads them one by one.
type packets struct {
	in  *bufio.Reader
	buf []byte
	who string
}

func newPackets(in io.Reader, who string) *packets {
	return &packets{in: bufio.NewReaderSize(in, 4<<10), buf: make([]byte, usualPacket), who: who}
}

// next returns a packet with the four bytes of its length, which is right; it is good
// until the next call. It has a type at least. io.EOF is the end between two packets.
func (p *packets) next() ([]byte, error) {
	if _, err := io.ReadFull(p.in, p.buf[:4]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, p.broken(err)
	}
	n := int64(binary.BigEndian.Uint32(p.buf))
	if n < 1 || n > maxPacket {
		return nil, fmt.Errorf("%s: %w: a packet of %d bytes", p.who, ErrProtocol, n)
	}
	size := int(n) + 4
	if size > len(p.buf) {
		bigger := make([]byte, size)
		copy(bigger, p.buf[:4])
		p.buf = bigger
	}
	if _, err := io.ReadFull(p.in, p.buf[4:size]); err != nil {
		return nil, p.broken(err)
	}
	return p.buf[:size], nil
}

func (p *packets) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: %w: it ends within a packet", p.who, ErrProtocol)
	}
	return fmt.Errorf("%s: %w", p.who, err)
}

// cursor reads fields. After the first that is not there all are zero, and bad is set.
type cursor struct {
	rest []byte
	bad  bool
}

func (c *cursor) bytes(n int) []byte {
	if c.bad || n < 0 || n > len(c.rest) {
		c.bad, c.rest = true, nil
		return nil
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) u32() uint32 {
	if b := c.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) str() []byte {
	n := c.u32()
	if c.bad || int64(n) > int64(len(c.rest)) {
		c.bad, c.rest = true, nil
		return nil
	}
	return c.bytes(int(n))
}

// attrs reads size and permissions of attributes; ok says which are there.
type attrs struct {
	flags uint32
	size  uint64
	mode  uint32
}

func (c *cursor) attrs() attrs {
	a := attrs{flags: c.u32()}
	if a.flags&attrSize != 0 {
		a.size = c.u64()
	}
	if a.flags&attrOwner != 0 {
		c.bytes(8)
	}
	if a.flags&attrPermissions != 0 {
		a.mode = c.u32()
	}
	if c.bad {
		a.flags = 0
	}
	return a
}

// Packets are made by appending: start, the fields, finish.

func start(dst []byte, kind byte) []byte { return append(dst[:0], 0, 0, 0, 0, kind) }

func finish(p []byte) []byte {
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	return p
}

func addString[T string | []byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}

// status makes SSH_FXP_STATUS.
func status(dst []byte, id, code uint32, text string) []byte {
	dst = start(dst, fxpStatus)
	dst = binary.BigEndian.AppendUint32(dst, id)
	dst = binary.BigEndian.AppendUint32(dst, code)
	dst = addString(dst, text)
	return finish(addString(dst, "en"))
}

// nameReply makes SSH_FXP_NAME with one path, whose id is still to come.
func nameReply(path string) []byte {
	dst := append(start(nil, fxpName), 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, 1)
	dst = addString(dst, path)
	dst = addString(dst, path)
	return finish(binary.BigEndian.AppendUint32(dst, 0)) // no attributes
}

// statusOf reads SSH_FXP_STATUS, from its type on; false if it is something else.
func statusOf(p []byte) (uint32, bool) {
	c := cursor{rest: p}
	kind := c.bytes(1)
	c.u32()
	code := c.u32()
	if c.bad || kind[0] != fxpStatus {
		return 0, false
	}
	return code, true
}

// result is a status for the log.
func result(code uint32) string {
	if int64(code) < int64(len(statusNames)) {
		return statusNames[code]
	}
	return fmt.Sprintf("status %d", code)
}

// nameOf reads the first path of SSH_FXP_NAME, from its type on.
func nameOf(p []byte) (string, bool) {
	c := cursor{rest: p}
	kind := c.bytes(1)
	c.u32()
	n := c.u32()
	path := c.str()
	if c.bad || kind[0] != fxpName || n < 1 {
		return "", false
	}
	return string(path), true
}
