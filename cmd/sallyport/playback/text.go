// SPDX-License-Identifier: Apache-2.0

package playback

import (
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// maxWidth bounds a line; what is longer is broken.
const maxWidth = 16 << 10

// lines makes lines of text of what was written to a terminal: as a person would have
// read them, line by line. What a program draws all over the screen comes as it was
// drawn.
type lines struct {
	each func(at time.Duration, line string) error

	at    time.Duration // of the line's beginning
	line  []rune
	col   int
	begun bool
	last  time.Duration // of what was written
	sequences
}

func (l *lines) write(at time.Duration, p []byte) error {
	l.last = at
	return l.sequences.each(p, func(seq []byte, _ int) error { return l.one(at, seq) })
}

func (l *lines) one(at time.Duration, seq []byte) error {
	if !l.begun {
		l.at, l.begun = at, true
	}
	switch c := seq[0]; {
	case c == '\n':
		return l.flush()
	case c == '\r':
		l.col = 0
		return nil
	case c == '\b':
		l.col = max(l.col-1, 0)
		return nil
	case c == '\t':
		return l.put(' ')
	case c == ansi.ESC && len(seq) > 2 && seq[1] == '[':
		l.edit(seq)
		return nil
	case c < ' ' || (c >= 0x7f && c < 0xa0):
		return nil
	}
	for len(seq) > 0 {
		r, n := utf8.DecodeRune(seq)
		seq = seq[n:]
		if unicode.IsControl(r) { // what else is not seen is escaped where it is printed
			continue
		}
		if err := l.put(r); err != nil {
			return err
		}
	}
	return nil
}

func (l *lines) put(r rune) error {
	if l.col >= maxWidth {
		if err := l.flush(); err != nil {
			return err
		}
	}
	for len(l.line) <= l.col {
		l.line = append(l.line, ' ')
	}
	l.line[l.col] = r
	l.col++
	return nil
}

// edit does what shells send when a line is edited.
func (l *lines) edit(seq []byte) {
	body, final := seq[2:len(seq)-1], seq[len(seq)-1]
	params, ok := numbers(body)
	if !ok {
		return
	}
	n := 1
	if len(params) > 0 {
		n = max(params[0], 1)
	}
	switch final {
	case 'C':
		l.col = min(l.col+n, maxWidth)
	case 'D':
		l.col = max(l.col-n, 0)
	case 'G':
		l.col = min(n, maxWidth) - 1
	case 'P':
		if l.col < len(l.line) {
			l.line = append(l.line[:l.col], l.line[min(l.col+n, len(l.line)):]...)
		}
	case '@':
		if l.col < len(l.line) && len(l.line)+n <= maxWidth {
			room := make([]rune, n, n+len(l.line)-l.col)
			for i := range room {
				room[i] = ' '
			}
			l.line = append(l.line[:l.col], append(room, l.line[l.col:]...)...)
		}
	case 'K':
		if len(params) == 0 || params[0] == 0 {
			l.line = l.line[:min(l.col, len(l.line))]
		}
	}
}

// flush ends a line.
func (l *lines) flush() error {
	text := string(l.line)
	l.line, l.col, l.begun = l.line[:0], 0, false
	return l.each(l.at, text)
}

// end gives what has no end of line.
func (l *lines) end() error {
	if err := l.sequences.end(func(seq []byte, _ int) error { return l.one(l.last, seq) }); err != nil {
		return err
	}
	if len(l.line) == 0 {
		return nil
	}
	return l.flush()
}
