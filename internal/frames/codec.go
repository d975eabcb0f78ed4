// SPDX-License-Identifier: Apache-2.0

package frames

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

type tag byte

const (
	tagHook    tag = 1
	tagFlags   tag = 2
	tagUIDs    tag = 3
	tagVersion tag = 4
	tagService tag = 5
	tagUser    tag = 6
	tagTTY     tag = 7
	tagRHost   tag = 8
	tagRUser   tag = 9
	tagPAMEnv  tag = 10
	tagProcEnv tag = 11
	tagText    tag = 16
	tagStyle   tag = 17
	tagMillis  tag = 18
	tagOutcome tag = 19
	tagReason  tag = 20
	tagTooLong tag = 21
)

func (t tag) known() bool { return t >= tagHook && t <= tagProcEnv || t >= tagText && t <= tagTooLong }
func (t tag) bit() uint32 { return 1 << t }

// layout says which fields a frame must have and which it may have. A known
// field outside both breaks the frame; an unknown one is skipped.
type layout struct {
	required, optional uint32
}

var layouts = map[Type]layout{
	TypeRequest: {
		required: tagHook.bit() | tagFlags.bit() | tagUIDs.bit() | tagVersion.bit() | tagService.bit() | tagUser.bit(),
		optional: tagTTY.bit() | tagRHost.bit() | tagRUser.bit() | tagPAMEnv.bit() | tagProcEnv.bit(),
	},
	TypeAnswer:    {optional: tagText.bit() | tagTooLong.bit()},
	TypeAbort:     {required: tagReason.bit()},
	TypeShow:      {required: tagText.bit() | tagStyle.bit()},
	TypeAsk:       {required: tagText.bit()},
	TypeAskSecret: {required: tagText.bit()},
	TypeWait:      {required: tagMillis.bit()},
	TypeDone:      {required: tagOutcome.bit()},
}

// ReadFrame reads exactly one frame and no byte more. It returns io.EOF when r
// ends before the first byte, io.ErrUnexpectedEOF (wrapped) when r ends inside
// the frame, an error wrapping ErrBroken for bytes that are no frame, and what
// r returned otherwise. It sets no deadline.
func ReadFrame(r io.Reader) (Frame, error) {
	var header [HeaderSize]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("read frame header: %w", err)
	}
	typ, size, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r, body); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read payload of %s: %w", typ, err)
	}
	f, err := parsePayload(typ, body)
	clear(body) // an answer or a passcode may be in it
	if err != nil {
		return nil, fmt.Errorf("%s: %w", typ, err)
	}
	return f, nil
}

func parseHeader(h [HeaderSize]byte) (Type, int, error) {
	if h[0] != 'S' || h[1] != 'P' {
		return 0, 0, fmt.Errorf("%w: no frame header", ErrBroken)
	}
	if h[2] != Version {
		return 0, 0, fmt.Errorf("%w: protocol version %d, this side speaks %d", ErrBroken, h[2], Version)
	}
	typ := Type(h[3])
	if _, ok := layouts[typ]; !ok {
		return 0, 0, fmt.Errorf("%w: unknown %s", ErrBroken, typ)
	}
	size := binary.BigEndian.Uint32(h[4:])
	if size > PayloadMax {
		return 0, 0, fmt.Errorf("%w: %s with a payload of %d bytes, at most %d", ErrBroken, typ, size, PayloadMax)
	}
	return typ, int(size), nil
}

// fields is a payload taken apart: the last value of each known tag, which ones
// were there, and the repeatable ones.
type fields struct {
	value   [tagTooLong + 1][]byte
	seen    uint32
	pamEnv  map[string]string
	procEnv map[string]Secret
}

func parseFields(body []byte, l layout) (*fields, error) {
	var f fields
	for len(body) > 0 {
		if len(body) < 3 {
			return nil, fmt.Errorf("%w: field header cut off", ErrBroken)
		}
		t, n := tag(body[0]), int(binary.BigEndian.Uint16(body[1:]))
		if len(body)-3 < n {
			return nil, fmt.Errorf("%w: field %d goes past the end", ErrBroken, t)
		}
		value := body[3 : 3+n]
		body = body[3+n:]
		if !t.known() {
			continue
		}
		if err := f.add(t, value, l); err != nil {
			return nil, err
		}
	}
	if missing := l.required &^ f.seen; missing != 0 {
		return nil, fmt.Errorf("%w: fields missing (mask %#x)", ErrBroken, missing)
	}
	return &f, nil
}

func (f *fields) add(t tag, value []byte, l layout) error {
	if (l.required|l.optional)&t.bit() == 0 {
		return fmt.Errorf("%w: field %d does not belong here", ErrBroken, t)
	}
	switch t {
	case tagPAMEnv:
		f.seen |= t.bit()
		return addEnv(&f.pamEnv, value)
	case tagProcEnv:
		f.seen |= t.bit()
		return addEnv(&f.procEnv, value)
	}
	if f.seen&t.bit() != 0 {
		return fmt.Errorf("%w: field %d repeated", ErrBroken, t)
	}
	if err := checkValue(t, value); err != nil {
		return err
	}
	f.seen |= t.bit()
	f.value[t] = value
	return nil
}

func checkValue(t tag, value []byte) error {
	want := -1
	switch t {
	case tagHook, tagStyle, tagOutcome, tagReason:
		want = 1
	case tagFlags, tagMillis:
		want = 4
	case tagUIDs:
		want = 8
	case tagTooLong:
		want = 0
	}
	if want >= 0 {
		if len(value) != want {
			return fmt.Errorf("%w: field %d has %d bytes, want %d", ErrBroken, t, len(value), want)
		}
		return nil
	}
	if bytes.IndexByte(value, 0) >= 0 {
		return fmt.Errorf("%w: NUL in field %d", ErrBroken, t)
	}
	return nil
}

func addEnv[S ~string](to *map[string]S, value []byte) error {
	name, val, ok := strings.Cut(string(value), "=")
	if !ok || name == "" || strings.IndexByte(string(value), 0) >= 0 {
		return fmt.Errorf("%w: environment field is not NAME=VALUE", ErrBroken)
	}
	if _, dup := (*to)[name]; dup {
		return fmt.Errorf("%w: environment variable given twice", ErrBroken)
	}
	if *to == nil {
		*to = make(map[string]S)
	}
	(*to)[name] = S(val)
	return nil
}

func parsePayload(typ Type, body []byte) (Frame, error) {
	f, err := parseFields(body, layouts[typ])
	if err != nil {
		return nil, err
	}
	switch typ {
	case TypeRequest:
		return f.request()
	case TypeAnswer:
		return f.answer()
	case TypeAbort:
		reason := Reason(f.value[tagReason][0])
		if reason != ReasonConversation && reason != ReasonRounds {
			return nil, fmt.Errorf("%w: unknown %s", ErrBroken, reason)
		}
		return &Abort{Reason: reason}, nil
	case TypeWait:
		return &Wait{For: time.Duration(binary.BigEndian.Uint32(f.value[tagMillis])) * time.Millisecond}, nil
	case TypeDone:
		outcome := Outcome(f.value[tagOutcome][0])
		if outcome < OutcomeAllow || outcome > OutcomeAborted {
			return nil, fmt.Errorf("%w: unknown %s", ErrBroken, outcome)
		}
		return &Done{Outcome: outcome}, nil
	}
	return f.text(typ)
}

func (f *fields) request() (Frame, error) {
	r := &Request{
		Hook:    Hook(f.value[tagHook][0]),
		Flags:   binary.BigEndian.Uint32(f.value[tagFlags]),
		RUID:    binary.BigEndian.Uint32(f.value[tagUIDs]),
		EUID:    binary.BigEndian.Uint32(f.value[tagUIDs][4:]),
		Version: string(f.value[tagVersion]),
		Service: string(f.value[tagService]),
		User:    string(f.value[tagUser]),
		TTY:     string(f.value[tagTTY]),
		RHost:   string(f.value[tagRHost]),
		RUser:   string(f.value[tagRUser]),
		PAMEnv:  f.pamEnv,
		ProcEnv: f.procEnv,
	}
	if r.Hook < HookAuthenticate || r.Hook > HookSSHKeys {
		return nil, fmt.Errorf("%w: unknown %s", ErrBroken, r.Hook)
	}
	if r.Service == "" || r.User == "" {
		return nil, fmt.Errorf("%w: empty service or user", ErrBroken)
	}
	return r, nil
}

func (f *fields) answer() (Frame, error) {
	tooLong := f.seen&tagTooLong.bit() != 0
	if tooLong == (f.seen&tagText.bit() != 0) {
		return nil, fmt.Errorf("%w: an answer is either TEXT or TOO_LONG", ErrBroken)
	}
	if n := len(f.value[tagText]); n > AnswerMax {
		return nil, fmt.Errorf("%w: answer of %d bytes, at most %d", ErrBroken, n, AnswerMax)
	}
	return &Answer{Text: Secret(f.value[tagText]), TooLong: tooLong}, nil
}

func (f *fields) text(typ Type) (Frame, error) {
	if n := len(f.value[tagText]); n > TextMax {
		return nil, fmt.Errorf("%w: text of %d bytes, at most %d", ErrBroken, n, TextMax)
	}
	text := string(f.value[tagText])
	switch typ {
	case TypeAsk:
		return &Ask{Text: text}, nil
	case TypeAskSecret:
		return &AskSecret{Text: text}, nil
	}
	style := Style(f.value[tagStyle][0])
	if style != StyleInfo && style != StyleError {
		return nil, fmt.Errorf("%w: unknown style %d", ErrBroken, style)
	}
	return &Show{Text: text, Style: style}, nil
}

// WriteFrame writes f as one frame in one call of w.Write, so that a deadline on
// w covers the frame. A message that breaks the format's rules is refused before
// anything is written: ErrTooLarge for sizes, else an error that says which rule.
func WriteFrame(w io.Writer, f Frame) error {
	buf, err := Append(nil, f)
	if err != nil {
		return err
	}
	if _, err := w.Write(buf); err != nil {
		return fmt.Errorf("write %s: %w", f.Type(), err)
	}
	return nil
}

// Append appends f's encoding to buf. Errors are those of WriteFrame.
func Append(buf []byte, f Frame) ([]byte, error) {
	body, err := f.payload()
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.Type(), err)
	}
	if len(body) > PayloadMax {
		return nil, fmt.Errorf("encode %s: %w: %d bytes, at most %d", f.Type(), ErrTooLarge, len(body), PayloadMax)
	}
	// What one side may send the other must accept: the decoder is the judge.
	if _, err := parsePayload(f.Type(), body); err != nil {
		return nil, fmt.Errorf("encode %s: %w", f.Type(), err)
	}
	buf = append(buf, 'S', 'P', Version, byte(f.Type()))
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(body)))
	return append(buf, body...), nil
}

func appendField[V ~string | ~[]byte](buf []byte, t tag, value V) ([]byte, error) {
	if len(value) > math.MaxUint16 {
		return nil, fmt.Errorf("%w: field %d has %d bytes", ErrTooLarge, t, len(value))
	}
	buf = append(buf, byte(t))
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(value)))
	return append(buf, value...), nil
}

func (r *Request) payload() ([]byte, error) {
	uids := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, r.RUID), r.EUID)
	type field struct {
		tag   tag
		value string
	}
	list := []field{
		{tagHook, string([]byte{byte(r.Hook)})},
		{tagFlags, string(binary.BigEndian.AppendUint32(nil, r.Flags))},
		{tagUIDs, string(uids)},
		{tagVersion, r.Version},
		{tagService, r.Service},
		{tagUser, r.User},
	}
	for _, f := range []field{{tagTTY, r.TTY}, {tagRHost, r.RHost}, {tagRUser, r.RUser}} {
		if f.value != "" {
			list = append(list, f)
		}
	}
	for _, name := range append(sortedNames(r.PAMEnv), sortedNames(r.ProcEnv)...) {
		if strings.Contains(name, "=") {
			return nil, fmt.Errorf("environment variable name %q holds an equals sign", name)
		}
	}
	for _, name := range sortedNames(r.PAMEnv) {
		list = append(list, field{tagPAMEnv, name + "=" + r.PAMEnv[name]})
	}
	for _, name := range sortedNames(r.ProcEnv) {
		list = append(list, field{tagProcEnv, name + "=" + r.ProcEnv[name].Reveal()})
	}
	var buf []byte
	for _, f := range list {
		var err error
		if buf, err = appendField(buf, f.tag, f.value); err != nil {
			return nil, err
		}
	}
	return buf, nil
}

func (a *Answer) payload() ([]byte, error) {
	if !a.TooLong {
		return appendField(nil, tagText, a.Text)
	}
	if a.Text != "" {
		return nil, errors.New("an answer that is too long carries no text")
	}
	return appendField(nil, tagTooLong, "")
}

func (a *Abort) payload() ([]byte, error) {
	return appendField(nil, tagReason, []byte{byte(a.Reason)})
}

func (s *Show) payload() ([]byte, error) {
	buf, err := appendText(s.Text)
	if err != nil {
		return nil, err
	}
	return appendField(buf, tagStyle, []byte{byte(s.Style)})
}

func (a *Ask) payload() ([]byte, error) { return appendText(a.Text) }

func (a *AskSecret) payload() ([]byte, error) { return appendText(a.Text) }

func appendText(text string) ([]byte, error) {
	if len(text) > TextMax {
		return nil, fmt.Errorf("%w: text of %d bytes, at most %d", ErrTooLarge, len(text), TextMax)
	}
	return appendField(nil, tagText, text)
}

func (w *Wait) payload() ([]byte, error) {
	if w.For < 0 || w.For > math.MaxUint32*time.Millisecond {
		return nil, fmt.Errorf("a wait of %s cannot be expressed", w.For)
	}
	millis := (w.For + time.Millisecond - 1) / time.Millisecond
	return appendField(nil, tagMillis, binary.BigEndian.AppendUint32(nil, uint32(millis)))
}

func (d *Done) payload() ([]byte, error) {
	return appendField(nil, tagOutcome, []byte{byte(d.Outcome)})
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func quoted(names []string) []string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = strconv.Quote(name)
	}
	return out
}
