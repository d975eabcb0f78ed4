// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"time"
	"unicode/utf8"
)

// The codes of events. Those of asciicast v2 are o, i, r and m; players pass over
// the others.
const (
	codeBinary = 'b' // added to o or i: the data is base64, because it is no text
	codeEnd    = "end"
)

// castHeader is the first line. See
// https://docs.asciinema.org/manual/asciicast/v2/.
type castHeader struct {
	Version   int               `json:"version"`
	Width     int               `json:"width"`
	Height    int               `json:"height"`
	Timestamp int64             `json:"timestamp"`
	Command   string            `json:"command,omitempty"`
	Title     string            `json:"title,omitempty"`
	Env       map[string]string `json:"env,omitempty"`
	Sallyport *castMeta         `json:"sallyport,omitempty"`
}

// castMeta is what asciicast has no name for.
type castMeta struct {
	Channel    string `json:"channel"`
	Connection string `json:"connection,omitempty"`
	Session    string `json:"session,omitempty"`
	Inner      string `json:"inner,omitempty"`
	User       string `json:"user"`
	Target     string `json:"target"`
	Login      string `json:"login"`
	Source     string `json:"source,omitempty"`
	Rule       string `json:"rule,omitempty"`
	Terminal   bool   `json:"terminal"`
	Input      bool   `json:"input"`
}

// What players are told where there is no terminal, or one that has no size yet.
const noWidth, noHeight = 80, 24

// maxSize is the most columns or rows that a Reader takes.
const maxSize = math.MaxUint16

// bounded is a size that every player can read, whatever a client says of its terminal.
func bounded(n int) int { return min(max(n, 1), maxSize) }

// header is the first line, without its end: each event begins with that of the line
// before it, so that blanks can be added to a line until the next one comes.
func header(m Meta) ([]byte, error) {
	h := castHeader{
		Version: 2, Width: bounded(m.Width), Height: bounded(m.Height), Timestamp: m.Started.Unix(), Command: m.Command,
		Title: fmt.Sprintf("%s: %s@%s", m.User, m.Login, m.Target),
		Sallyport: &castMeta{
			Channel: m.Channel, Connection: m.Connection, Session: m.Session, Inner: m.Inner, User: m.User, Target: m.Target, Login: m.Login,
			Source: m.Source, Rule: m.Rule, Terminal: m.Terminal, Input: m.Input,
		},
	}
	if m.Width <= 0 || m.Height <= 0 {
		h.Width, h.Height = noWidth, noHeight
	}
	if m.Term != "" {
		h.Env = map[string]string{"TERM": m.Term}
	}
	head, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encode the head: %w", err)
	}
	return head, nil
}

func appendHead(dst []byte, at time.Duration, code string) []byte {
	dst = append(dst, "\n["...)
	dst = strconv.AppendInt(dst, int64(at/time.Second), 10)
	dst = append(dst, '.')
	micro := int64(at % time.Second / time.Microsecond)
	for unit := int64(100_000); unit > 1 && micro < unit; unit /= 10 {
		dst = append(dst, '0')
	}
	dst = strconv.AppendInt(dst, micro, 10)
	dst = append(dst, `, "`...)
	dst = append(dst, code...)
	return append(dst, `", "`...)
}

// appendEvent adds an event whose data needs no escape.
func appendEvent(dst []byte, at time.Duration, code, data string) []byte {
	dst = appendHead(dst, at, code)
	dst = append(dst, data...)
	return append(dst, `"]`...)
}

// stream is one direction. What is text becomes events that any player shows; bytes
// that are no UTF-8, and NUL, become events of their own in base64: nothing is lost,
// and binary data takes a third more room, not six times as much.
type stream struct {
	code  byte
	part  [utf8.UTFMax]byte // the beginning of a character whose rest has not come
	parts int
}

// append adds what p is to dst.
func (s *stream) append(dst []byte, at time.Duration, p []byte) []byte {
	if s.parts > 0 {
		n := s.parts
		for len(p) > 0 && n < len(s.part) && !utf8.FullRune(s.part[:n]) {
			s.part[n] = p[0]
			p = p[1:]
			n++
		}
		s.parts = n
		if !utf8.FullRune(s.part[:n]) {
			return dst
		}
		s.parts = 0
		dst = s.events(dst, at, s.part[:n])
	}
	if n := unfinished(p); n > 0 {
		s.parts = copy(s.part[:], p[len(p)-n:])
		p = p[:len(p)-n]
	}
	return s.events(dst, at, p)
}

// end adds what waits for its rest.
func (s *stream) end(dst []byte, at time.Duration) []byte {
	n := s.parts
	s.parts = 0
	return s.events(dst, at, s.part[:n])
}

// unfinished is how many bytes at the end of p begin a character that is not complete.
func unfinished(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if b := p[len(p)-n]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(p[len(p)-n:]) {
				return n
			}
			return 0
		}
	}
	return 0
}

func (s *stream) events(dst []byte, at time.Duration, p []byte) []byte {
	text, exact := string(s.code), string([]byte{s.code, codeBinary})
	for len(p) > 0 {
		if n := textLen(p); n > 0 && (n == len(p) || len(p) < bulk) {
			dst = appendHead(dst, at, text)
			dst = appendText(dst, p[:n])
			dst = append(dst, `"]`...)
			p = p[n:]
			continue
		}
		n := binaryLen(p)
		dst = appendHead(dst, at, exact)
		dst = base64.StdEncoding.AppendEncode(dst, p[:n])
		dst = append(dst, `"]`...)
		p = p[n:]
	}
	return dst
}

// textLen is how much of p, from its beginning, is text.
func textLen(p []byte) int {
	end := len(p)
	if nul := bytes.IndexByte(p, 0); nul >= 0 {
		end = nul
	}
	if utf8.Valid(p[:end]) {
		return end
	}
	n := 0
	for n < end {
		r, size := utf8.DecodeRune(p[n:end])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		n += size
	}
	return n
}

const (
	// enoughText ends binary data: less of it in between is not worth an event.
	enoughText = 256
	// bulk is too much at a time for somebody to have written it to a terminal.
	bulk = 4 << 10
)

// binaryLen is how much of p, from its beginning, is not text; text at its end is.
func binaryLen(p []byte) int {
	if len(p) >= bulk {
		return len(p)
	}
	n, text := 1, 0
	for n < len(p) && text < enoughText {
		size := 1
		switch b := p[n]; {
		case b == 0:
			text = -1
		case b >= utf8.RuneSelf:
			var r rune
			if r, size = utf8.DecodeRune(p[n:]); r == utf8.RuneError && size == 1 {
				text = -1
			}
		}
		n += size
		if text += size; text < size {
			text = 0
		}
	}
	return n - text
}

const hex = "0123456789abcdef"

// appendText escapes text for a string of JSON. It looks at eight bytes at a time, as
// almost all stand for themselves: those of characters beyond ASCII do, since the text
// was found to be UTF-8.
func appendText(dst, p []byte) []byte {
	from, i := 0, 0
	for i < len(p) {
		if i+8 <= len(p) {
			n := plain(binary.LittleEndian.Uint64(p[i:]))
			if i += n; n == 8 {
				continue
			}
		} else if b := p[i]; b >= ' ' && b != '"' && b != '\\' {
			i++
			continue
		}
		dst = append(dst, p[from:i]...)
		switch b := p[i]; b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
		i++
		from = i
	}
	return append(dst, p[from:]...)
}

// plain is how many of eight bytes, from the lowest on, need no escape. A byte below a
// limit borrows from its highest bit when the limit is taken from it; what a borrow does
// to the bytes above does not matter, as the lowest is found.
func plain(x uint64) int {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	control := x - ones*' '
	quote := (x ^ ones*'"') - ones
	backslash := (x ^ ones*'\\') - ones
	return bits.TrailingZeros64((control|quote|backslash)&^x&high) / 8
}
