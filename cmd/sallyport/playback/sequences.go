// SPDX-License-Identifier: Apache-2.0

package playback

import (
	"fmt"
	"slices"

	"github.com/charmbracelet/x/ansi"
)

// maxString is how much a control string may hold before it is taken for none.
const maxString = 64 << 10

// sequences cuts what was written to a terminal into text and sequences. Control strings
// (OSC, DCS, APC, PM, SOS) are left out. One that nobody ends would hide all that follows
// it from whoever looks: it is over at the end of its line, or when it is too long, and what
// was left out is told.
type sequences struct {
	rest []byte // the beginning of a sequence whose end has not come
	open bool   // within a string
	osc  bool   // a bell ends it
	size int    // of the string so far
}

// each gives what p goes on with: text, several characters at a time where they are plain,
// sequences, and what stands for a string that was not ended.
func (q *sequences) each(p []byte, do func(seq []byte, width int) error) error {
	b := p
	if len(q.rest) > 0 {
		b = append(q.rest, p...)
		q.rest = nil
	}
	for len(b) > 0 {
		if q.open {
			n, over, whole := q.skip(b)
			b = b[n:]
			if !over {
				q.rest = slices.Clone(b)
				return nil
			}
			if err := q.close(whole, do); err != nil {
				return err
			}
			continue
		}
		if n := printable(b); n > 0 {
			if err := do(b[:n], n); err != nil {
				return err
			}
			b = b[n:]
			continue
		}
		if n := q.begin(b); n > 0 {
			b = b[n:]
			continue
		}
		seq, width, n, state := ansi.DecodeSequence(b, ansi.NormalState, nil)
		if state != ansi.NormalState {
			if len(b) <= maxSequence {
				q.rest = slices.Clone(b)
			}
			return nil
		}
		if len(seq) > 0 {
			if err := do(seq, width); err != nil {
				return err
			}
		}
		b = b[max(n, 1):]
	}
	return nil
}

// begin is how many bytes begin a string, 0 for none.
func (q *sequences) begin(b []byte) int {
	n, kind := 1, b[0]
	if kind == ansi.ESC {
		if len(b) == 1 || b[1] < '@' || b[1] > '_' {
			return 0
		}
		n, kind = 2, b[1]+0x40
	}
	switch kind {
	case ansi.OSC, ansi.DCS, ansi.APC, ansi.PM, ansi.SOS:
		q.open, q.osc, q.size = true, kind == ansi.OSC, n
		return n
	}
	return 0
}

// skip is how many bytes of b belong to the string. over says that it has come to an end
// there, and whole that this was its own.
func (q *sequences) skip(b []byte) (n int, over, whole bool) {
	for i, c := range b {
		switch {
		case c == ansi.ST, c == ansi.BEL && q.osc:
			q.size += i + 1
			return i + 1, true, true
		case c == ansi.ESC && i+1 == len(b): // its second half is still to come
			q.size += i
			return i, false, false
		case c == ansi.ESC && b[i+1] == '\\':
			q.size += i + 2
			return i + 2, true, true
		case c == ansi.ESC, c == ansi.CAN, c == ansi.SUB, c == '\n', c == '\r', q.size+i >= maxString:
			q.size += i
			return i, true, false
		}
	}
	q.size += len(b)
	return len(b), false, false
}

func (q *sequences) close(whole bool, do func(seq []byte, width int) error) error {
	q.open = false
	if whole {
		return nil
	}
	text := fmt.Sprintf("[a control string of %d bytes is left out]", q.size)
	return do([]byte(text), len(text))
}

// end is the end of the recording.
func (q *sequences) end(do func(seq []byte, width int) error) error {
	if !q.open {
		return nil
	}
	return q.close(false, do)
}
