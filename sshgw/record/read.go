// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"filippo.io/age"
)

// maxLine bounds a line of a recording, also one that another program has made.
const maxLine = 16 << 20

// Errors of reading.
var (
	// ErrSealed says that a recording is sealed to a key that was not given.
	ErrSealed = errors.New("the recording is sealed")
	// ErrNotCast says that a file is no recording.
	ErrNotCast = errors.New("the file is no asciicast of version 2")
	// ErrCut says that a recording stops in the middle: it is still being written, or
	// what wrote it was cut off, or somebody has cut or changed it there.
	ErrCut = errors.New("the recording is not complete")
	// ErrOrder says that a recording is not in order: it was changed, or no recorder wrote it.
	ErrOrder = errors.New("the recording is not in order")
)

// Kind is what an event is.
type Kind string

// The kinds of events.
const (
	Output Kind = "o"
	Input  Kind = "i"
	Resize Kind = "r"
	Marker Kind = "m"
	Other  Kind = "" // of another program: nothing to show
)

// Event is one of a recording.
type Event struct {
	At            time.Duration
	Kind          Kind
	Data          []byte // of output, input and markers
	Width, Height int    // of a resize
}

// Info is the head of a recording.
type Info struct {
	Meta
	Title  string
	Ours   bool // by a Recorder, so that Meta says more than the terminal
	Sealed bool
}

// Reader reads a recording.
type Reader struct {
	Info  Info
	lines *bufio.Reader
	line  int
	last  time.Duration
	done  error
}

// ageHead begins what age has sealed.
const ageHead = "age-encryption.org/"

// NewReader reads the head. Identities open what is sealed.
func NewReader(r io.Reader, identities ...age.Identity) (*Reader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	start, err := in.Peek(len(ageHead))
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read the recording: %w", err)
	}
	sealed := string(start) == ageHead
	if sealed {
		if len(identities) == 0 {
			return nil, ErrSealed
		}
		open, err := age.Decrypt(in, identities...)
		var wrong *age.NoIdentityMatchError
		if errors.As(err, &wrong) {
			return nil, fmt.Errorf("%w, and not to this key", ErrSealed)
		}
		if err != nil {
			return nil, fmt.Errorf("open the seal: %w", err)
		}
		in = bufio.NewReaderSize(open, 64<<10)
	}
	c := &Reader{lines: in}
	line, err := c.read()
	if err != nil {
		if errors.Is(err, io.EOF) || (errors.Is(err, ErrCut) && sealed) {
			return nil, fmt.Errorf("%w: it holds nothing that can be read", ErrCut)
		}
		return nil, errors.Join(ErrNotCast, err)
	}
	var h castHeader
	if err := json.Unmarshal(line, &h); err != nil || h.Version != 2 {
		// A line that begins as ours do and is not whole, with nothing after it.
		if _, after := in.Peek(1); err != nil && after != nil && bytes.HasPrefix(line, []byte(`{"version":2`)) {
			return nil, fmt.Errorf("%w: its head is cut off", ErrCut)
		}
		return nil, ErrNotCast
	}
	c.Info = Info{Title: h.Title, Sealed: sealed, Meta: Meta{
		Command: h.Command, Term: h.Env["TERM"], Width: h.Width, Height: h.Height, Started: time.Unix(h.Timestamp, 0),
	}}
	if s := h.Sallyport; s != nil {
		m := &c.Info.Meta
		c.Info.Ours = true
		m.Channel, m.Connection, m.Session, m.Inner = s.Channel, s.Connection, s.Session, s.Inner
		m.User, m.Target, m.Login = s.User, s.Target, s.Login
		m.Source, m.Rule, m.Terminal, m.Input = s.Source, s.Rule, s.Terminal, s.Input
		if !s.Terminal {
			m.Width, m.Height = 0, 0
		}
	}
	return c, nil
}

// read returns a line without its end. The last one need not have an end.
func (c *Reader) read() ([]byte, error) {
	var line []byte
	for {
		part, err := c.lines.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("line %d has over %d bytes", c.line+1, maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		line = bytes.TrimSpace(line)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return nil, io.EOF
		}
		if err != nil && !errors.Is(err, io.EOF) {
			// age cannot tell a seal that was cut off from one that was broken.
			if c.done = errors.Join(ErrCut, err); len(line) == 0 {
				return nil, c.done
			}
		}
		c.line++
		return line, nil
	}
}

// Next returns the next event, io.EOF after the last one, or an error for which no
// further event can be read.
func (c *Reader) Next() (Event, error) {
	for {
		if c.done != nil {
			return Event{}, c.done
		}
		line, err := c.read()
		if errors.Is(err, io.EOF) {
			c.done = io.EOF
			if c.Info.Ours {
				c.done = ErrCut // ours say where they end
			}
			continue
		}
		if err != nil {
			c.done = err
			continue
		}
		if len(line) == 0 {
			continue
		}
		e, code, err := parseEvent(line)
		if err != nil {
			if c.done == nil {
				c.done = fmt.Errorf("line %d: %w", c.line, err)
				if _, after := c.lines.Peek(1); after != nil {
					c.done = fmt.Errorf("%w: line %d is cut off", ErrCut, c.line)
				}
			}
			continue
		}
		if e.At < c.last {
			c.done = fmt.Errorf("%w: line %d is of %v, the one before of %v", ErrOrder, c.line, e.At, c.last)
			continue
		}
		c.last = e.At
		if code == codeEnd && c.Info.Ours {
			c.done = io.EOF
			if after, _ := c.lines.Peek(2); strings.TrimSpace(string(after)) != "" {
				c.done = fmt.Errorf("%w: something follows its end in line %d", ErrOrder, c.line)
			}
			e.Kind = Other
		}
		return e, nil
	}
}

func parseEvent(line []byte) (Event, string, error) {
	var at float64
	var code, data string
	var parts []json.RawMessage
	if err := json.Unmarshal(line, &parts); err != nil {
		return Event{}, "", fmt.Errorf("no event: %w", err)
	}
	if len(parts) != 3 || json.Unmarshal(parts[0], &at) != nil || json.Unmarshal(parts[1], &code) != nil {
		return Event{}, "", errors.New("no event")
	}
	if at < 0 || at > math.MaxInt64/2/float64(time.Second) {
		return Event{}, "", fmt.Errorf("no time: %v", at)
	}
	e := Event{At: time.Duration(math.Round(at*1e6)) * time.Microsecond}
	if parts[2][0] != '"' {
		return e, code, nil // of another program
	}
	if err := json.Unmarshal(parts[2], &data); err != nil {
		return Event{}, "", fmt.Errorf("no event: %w", err)
	}
	switch code {
	case "o", "i", "m":
		e.Kind, e.Data = Kind(code), []byte(data)
	case "ob", "ib":
		exact, err := base64.StdEncoding.DecodeString(data)
		if err != nil {
			return Event{}, "", fmt.Errorf("no base64: %w", err)
		}
		e.Kind, e.Data = Kind(code[:1]), exact
	case "r":
		w, h, ok := strings.Cut(data, "x")
		width, err := strconv.ParseUint(w, 10, 16)
		height, err2 := strconv.ParseUint(h, 10, 16)
		// A size that makes no sense is passed over: what follows it is worth reading.
		if ok && err == nil && err2 == nil && width > 0 && height > 0 {
			e.Kind, e.Width, e.Height = Resize, int(width), int(height)
		}
	}
	return e, code, nil
}

// Last is the time of the last event that was read.
func (c *Reader) Last() time.Duration { return c.last }
