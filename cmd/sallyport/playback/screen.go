// SPDX-License-Identifier: Apache-2.0

// Package playback shows a recording of a session again, on a terminal or as text. What
// was recorded may have been written by somebody who wants to reach whoever looks at
// it: of what a terminal can be told only that passes which draws. It never changes a
// recording.
package playback

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// screen lets pass what draws. All else is left out: strings (OSC, DCS, APC, PM, SOS),
// by which a terminal's title or clipboard is set and its keys are defined; questions,
// whose answers are typed into the shell of whoever looks; modes that change what keys,
// the mouse or pasting send; printing; and resizing of the window.
type screen struct {
	height int  // scrolling stays within so many rows; 0: not
	saved  bool // the cursor's place was saved and not restored
	sequences
}

// maxSequence bounds one that draws.
const maxSequence = 256

// maxParam is the largest number that makes sense on a screen.
const maxParam = 9999

// append adds to dst what of p may be shown.
func (s *screen) append(dst, p []byte) []byte {
	_ = s.sequences.each(p, func(seq []byte, _ int) error {
		dst = s.one(dst, seq)
		return nil
	})
	return dst
}

// end adds to dst what is to be said at the end of a recording.
func (s *screen) end(dst []byte) []byte {
	_ = s.sequences.end(func(seq []byte, _ int) error {
		dst = s.one(dst, seq)
		return nil
	})
	return dst
}

// printable is how many bytes of ASCII text are at the beginning.
func printable(b []byte) int {
	for i, c := range b {
		if c < ' ' || c > '~' {
			// What may combine with the last one is left to the decoder.
			if c >= utf8.RuneSelf && i > 0 {
				return i - 1
			}
			return i
		}
	}
	return len(b)
}

func (s *screen) one(dst, seq []byte) []byte {
	switch c := seq[0]; {
	case c == ansi.ESC && len(seq) > 2 && seq[1] == '[':
		return s.csi(dst, seq)
	case c == ansi.ESC:
		return s.escape(dst, seq)
	case c < ' ':
		if bytes.IndexByte([]byte("\b\t\n\v\f\r\x0e\x0f"), c) >= 0 {
			dst = append(dst, c)
		}
		return dst
	case c == 0x7f || (c >= 0x80 && c < 0xa0):
		return dst
	}
	for len(seq) > 0 {
		r, n := utf8.DecodeRune(seq)
		if !invisible(r) {
			dst = utf8.AppendRune(dst, r)
		}
		seq = seq[n:]
	}
	return dst
}

// invisible says that a character is not to be seen: controls, also those of C1, and what
// formats text. Among the latter are those that turn its direction round, so that it reads
// as something else than was run.
func invisible(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }

// visible is a text without those.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if invisible(r) {
			return -1
		}
		return r
	}, text)
}

// escapes are those of two bytes that draw: save and restore the cursor, index, next
// line, tab stop, reverse index, reset, keypad, and shifts between character sets.
const escapes = "78DEHMc=>no|}~"

func (s *screen) escape(dst, seq []byte) []byte {
	switch {
	case len(seq) == 2 && bytes.IndexByte([]byte(escapes), seq[1]) >= 0:
		if seq[1] == '7' || seq[1] == '8' {
			s.saved = seq[1] == '7'
		}
		dst = append(dst, seq...)
		if seq[1] == 'c' {
			dst = s.region(dst)
		}
	case len(seq) == 3 && bytes.IndexByte([]byte("()*+"), seq[1]) >= 0: // a character set
		dst = append(dst, seq...)
	case bytes.Equal(seq, []byte("\x1b#8")): // alignment test
		dst = append(dst, seq...)
	}
	return dst
}

// Sequences that draw, by their last byte: after ESC [, and after ESC [ ?.
const (
	drawing        = "@ABCDEFGHIJKLMPSTXZ`abdefgmrsu"
	drawingPrivate = "JK"
)

// Modes that change how is drawn, and nothing else: insert and new line; and those
// of DEC: cursor keys, reverse, origin, wrap, blinking, cursor, keypad and the
// alternate screen. Keys that were changed are changed back when replay ends.
var (
	modes        = []int{4, 20}
	modesPrivate = []int{1, 5, 6, 7, 12, 25, 45, 47, 66, 1047, 1048, 1049}
)

func (s *screen) csi(dst, seq []byte) []byte {
	body, final := seq[2:len(seq)-1], seq[len(seq)-1]
	private := len(body) > 0 && body[0] == '?'
	if private {
		body = body[1:]
	}
	between := bytes.TrimLeft(body, "0123456789;:")
	params, ok := numbers(body[:len(body)-len(between)])
	switch {
	case !ok:
		return dst
	case string(between) == " " && final == 'q' && !private: // the cursor's shape
		return append(dst, seq...)
	case string(between) == "!" && final == 'p' && !private: // soft reset
		return s.region(append(dst, seq...))
	case len(between) > 0:
		return dst
	case final == 'h' || final == 'l':
		return s.mode(dst, private, params, final)
	case final == 'J' && (len(between) > 0 || len(bytes.Trim(body, "0123456789")) > 0 || len(params) > 0 && params[0] > 2):
		return dst // what was scrolled out stays
	case final == 'T' && len(bytes.Trim(body, "0123456789")) > 0:
		return dst // with more parameters it is about the mouse
	case private:
		if bytes.IndexByte([]byte(drawingPrivate), final) < 0 {
			return dst
		}
	case bytes.IndexByte([]byte(drawing), final) < 0:
		return dst
	case final == 'r' && len(params) == 0:
		return s.region(dst)
	case final == 's' || final == 'u':
		s.saved = final == 's'
	}
	return append(dst, seq...)
}

// numbers reads parameters; false if there is one that makes no sense.
func numbers(text []byte) ([]int, bool) {
	if len(text) == 0 {
		return nil, true
	}
	var out []int
	for part := range bytes.FieldsFuncSeq(text, func(r rune) bool { return r == ';' || r == ':' }) {
		n, err := strconv.Atoi(string(part))
		if err != nil || n > maxParam || len(out) == 32 {
			return nil, false
		}
		out = append(out, n)
	}
	return out, true
}

// mode passes those that are known, one by one.
func (s *screen) mode(dst []byte, private bool, params []int, final byte) []byte {
	known, mark := modes, "\x1b["
	if private {
		known, mark = modesPrivate, "\x1b[?"
	}
	for _, p := range params {
		if !slices.Contains(known, p) {
			continue
		}
		if private && p == 1048 {
			s.saved = final == 'h'
		}
		dst = append(dst, mark...)
		dst = strconv.AppendInt(dst, int64(p), 10)
		dst = append(dst, final)
	}
	return dst
}

// region makes scrolling stay where it was recorded, off the status line.
func (s *screen) region(dst []byte) []byte {
	if s.height == 0 {
		return append(dst, "\x1b[r"...)
	}
	dst = append(dst, "\x1b[1;"...)
	dst = strconv.AppendInt(dst, int64(s.height), 10)
	return append(dst, 'r')
}
