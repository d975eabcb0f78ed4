// SPDX-License-Identifier: Apache-2.0

package playback

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"filippo.io/age"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/sshgw/record"
)

// File is a recording that can be read from its beginning more than once.
type File struct {
	Path       string
	Identities []age.Identity
}

// open reads the head.
func (f *File) open() (*record.Reader, io.Closer, error) {
	in, err := os.Open(f.Path)
	if err != nil {
		return nil, nil, err
	}
	info, err := in.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no file")
	}
	var r *record.Reader
	if err == nil {
		r, err = record.NewReader(in, f.Identities...)
	}
	if err != nil {
		return nil, nil, errors.Join(f.explain(err), in.Close())
	}
	return r, in, nil
}

// explain says what to do about an error of reading.
func (f *File) explain(err error) error {
	err = fmt.Errorf("%s: %w", f.Path, err)
	switch {
	case errors.Is(err, record.ErrSealed) && len(f.Identities) == 0:
		return cli.WithHint(err, "name the file with your age key by --identity")
	case errors.Is(err, record.ErrSealed):
		return cli.WithHint(err, "ask whoever holds a key of record.recipients")
	case errors.Is(err, record.ErrCut):
		return cli.WithHint(err, "it is still being written, or its writer was cut off, or it was changed; what is before that is whole")
	case errors.Is(err, record.ErrOrder):
		return cli.WithHint(err, "somebody has changed it, or another program has made it")
	}
	return err
}

// ErrNotFound says that a text is nowhere in a recording.
var ErrNotFound = errors.New("the text is nowhere in the recording")

// each gives every event from a time on.
func (f *File) each(from time.Duration, do func(record.Event) error) (record.Info, error) {
	r, c, err := f.open()
	if err != nil {
		return record.Info{}, err
	}
	defer c.Close()
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return r.Info, nil
		}
		if err != nil {
			return r.Info, f.explain(err)
		}
		if e.At < from {
			continue
		}
		if err := do(e); err != nil {
			return r.Info, err
		}
	}
}

// Text writes what was on the terminal as lines. With a text to search for it writes
// the lines that hold it, each after its time.
func (f *File) Text(t *cli.Terminal, from time.Duration, search string) error {
	found := false
	l := &lines{each: func(at time.Duration, line string) error {
		if search == "" {
			t.Printf("%s\n", strings.TrimRight(line, " "))
		} else if strings.Contains(line, search) || strings.Contains(visible(line), search) {
			found = true
			t.Printf("%s  %s\n", clock(at), strings.TrimRight(line, " "))
		}
		return nil
	}}
	_, err := f.each(from, func(e record.Event) error {
		if e.Kind != record.Output {
			return nil
		}
		return l.write(e.At, e.Data)
	})
	err = errors.Join(l.end(), err)
	if err == nil && search != "" && !found {
		return fmt.Errorf("%s: %w", f.Path, ErrNotFound)
	}
	return err
}

// jsonEvent is an event as --json prints it.
type jsonEvent struct {
	Time   float64 `json:"time"`
	Kind   string  `json:"kind"`
	Text   string  `json:"text,omitempty"`
	Base64 []byte  `json:"base64,omitempty"` // what is no text
	Width  int     `json:"width,omitempty"`
	Height int     `json:"height,omitempty"`
}

var kindNames = map[record.Kind]string{
	record.Output: "output", record.Input: "input", record.Resize: "resize", record.Marker: "marker",
}

// JSON writes the events, one a line.
func (f *File) JSON(t *cli.Terminal, from time.Duration) error {
	_, err := f.each(from, func(e record.Event) error {
		name, ok := kindNames[e.Kind]
		if !ok {
			return nil
		}
		out := jsonEvent{Time: e.At.Seconds(), Kind: name, Width: e.Width, Height: e.Height}
		if utf8.Valid(e.Data) {
			out.Text = string(e.Data)
		} else {
			out.Base64 = e.Data
		}
		return t.JSONLine(out)
	})
	return err
}

// jsonInfo is what --info --json prints.
type jsonInfo struct {
	Channel    string    `json:"channel,omitempty"`
	Connection string    `json:"connection,omitempty"`
	Session    string    `json:"session,omitempty"`
	Inner      string    `json:"inner,omitempty"`
	User       string    `json:"user,omitempty"`
	Target     string    `json:"target,omitempty"`
	Login      string    `json:"login,omitempty"`
	Source     string    `json:"source,omitempty"`
	Rule       string    `json:"rule,omitempty"`
	Command    string    `json:"command,omitempty"`
	Title      string    `json:"title,omitempty"`
	Terminal   bool      `json:"terminal"`
	Term       string    `json:"term,omitempty"`
	Width      int       `json:"width,omitempty"`
	Height     int       `json:"height,omitempty"`
	Started    time.Time `json:"started"`
	Seconds    float64   `json:"seconds"`
	Events     int       `json:"events"`
	Output     int64     `json:"output_bytes"`
	Input      bool      `json:"input"`
	Sealed     bool      `json:"sealed"`
	Complete   bool      `json:"complete"`
}

// Info says what a recording is. One that is not complete is said to be so, and is no
// error.
func (f *File) Info(t *cli.Terminal, asJSON bool) error {
	var out jsonInfo
	info, err := f.each(0, func(e record.Event) error {
		if e.Kind != record.Other {
			out.Events++
		}
		if out.Seconds = e.At.Seconds(); e.Kind == record.Output {
			out.Output += int64(len(e.Data))
		}
		return nil
	})
	if info.Started.IsZero() || (err != nil && !errors.Is(err, record.ErrCut)) {
		return err
	}
	out.Complete = err == nil
	out.Channel, out.Connection, out.Session, out.Inner = info.Channel, info.Connection, info.Session, info.Inner
	out.User, out.Target, out.Login = info.User, info.Target, info.Login
	out.Source, out.Rule, out.Command, out.Title, out.Term, out.Terminal = info.Source, info.Rule, info.Command, info.Title, info.Term, info.Terminal
	out.Width, out.Height, out.Started, out.Input, out.Sealed = info.Width, info.Height, info.Started.UTC(), info.Input, info.Sealed
	if asJSON {
		return t.JSON(out)
	}
	size := "none"
	if out.Terminal || out.Width > 0 {
		size = fmt.Sprintf("%dx%d %s", out.Width, out.Height, out.Term)
	}
	rows := [][2]string{
		{"Channel", out.Channel}, {"Connection", out.Connection}, {"Session", out.Session}, {"Inner", out.Inner},
		{"User", out.User}, {"Source", out.Source},
		{"Target", out.Target}, {"Login", out.Login}, {"Rule", out.Rule}, {"Command", out.Command}, {"Terminal", size},
		{"Started", out.Started.Format(time.RFC3339)}, {"Length", clock(time.Duration(out.Seconds * float64(time.Second)))},
		{"Events", strconv.Itoa(out.Events)}, {"Output", fmt.Sprintf("%d bytes", out.Output)},
		{"Input", yes(out.Input, "recorded", "not recorded")}, {"Sealed", yes(out.Sealed, "yes", "no")},
		{"Complete", yes(out.Complete, "yes", "no: "+cutReason)},
	}
	for _, r := range rows {
		if r[1] != "" {
			t.Printf("%s  %s\n", fmt.Sprintf("%-10s", r[0]), r[1])
		}
	}
	return nil
}

const cutReason = "it is still being written, or was cut off or changed"

func yes(b bool, one, other string) string {
	if b {
		return one
	}
	return other
}

// clock shows a time in a recording.
func clock(d time.Duration) string {
	d = d.Truncate(time.Second)
	if h := int(d.Hours()); h > 0 {
		return fmt.Sprintf("%d:%02d:%02d", h, int(d.Minutes())%60, int(d.Seconds())%60)
	}
	return fmt.Sprintf("%02d:%02d", int(d.Minutes()), int(d.Seconds())%60)
}

// ParseTime reads a time in a recording: 90s, 1m30s, 1:30 or 1:02:03.
func ParseTime(text string) (time.Duration, error) {
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	var total time.Duration
	parts := strings.Split(text, ":")
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 16)
		if err != nil || len(parts) > 3 || (i > 0 && n > 59) {
			return 0, fmt.Errorf("%q is no time such as 90s, 1m30s or 1:02:03", text)
		}
		total = total*60 + time.Duration(n)*time.Second
	}
	return total, nil
}
