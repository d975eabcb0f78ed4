// SPDX-License-Identifier: Apache-2.0

// Package cli holds what commands share at a terminal: streams, tables, JSON,
// colour, escapes, and how an error becomes a line and an exit code. It knows
// no command and never talks to the network.
package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"
)

// Exit codes of every program.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// Terminal is where a command reads and writes.
type Terminal struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer
	// Interactive says that In and Out are terminals: questions may be asked.
	Interactive bool
	// Rich says that Out is a terminal: a QR code makes sense.
	Rich bool
	// Color says that Out is a terminal and that nobody asked for no colour.
	Color bool
	Now   func() time.Time
}

// Stdio is the terminal of the process. Colour follows https://no-color.org
// and TERM=dumb.
func Stdio() *Terminal {
	rich := term.IsTerminal(int(os.Stdout.Fd()))
	return &Terminal{
		In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Now: time.Now,
		Rich:        rich,
		Interactive: rich && term.IsTerminal(int(os.Stdin.Fd())),
		Color:       rich && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb",
	}
}

// UsageError is a command line that makes no sense; it exits with ExitUsage.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// Usagef makes a UsageError.
func Usagef(format string, args ...any) error {
	return &UsageError{fmt.Errorf(format, args...)}
}

// Hint is an error with what to do about it.
type Hint struct {
	Err  error
	Next string // an instruction, without a full stop
}

func (e *Hint) Error() string { return e.Err.Error() + "; " + e.Next }
func (e *Hint) Unwrap() error { return e.Err }

// WithHint adds what to do next to an error; nil stays nil.
func WithHint(err error, next string) error {
	if err == nil {
		return nil
	}
	return &Hint{err, next}
}

// ErrReported ends a command with ExitFailed after it has already said why.
var ErrReported = errors.New("failed")

// Fail writes err and returns the exit code that it deserves. An error is one
// line; what joins several has one each, the later ones indented, so that text
// of a peer cannot pass for a message of its own.
func (t *Terminal) Fail(program string, err error) int {
	var usage *UsageError
	if err == nil {
		return ExitDone
	}
	if errors.Is(err, ErrReported) {
		return ExitFailed
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = Escape(line)
	}
	fmt.Fprintf(t.Err, "%s: %s\n", program, strings.Join(lines, "\n    "))
	if errors.As(err, &usage) {
		return ExitUsage
	}
	return ExitFailed
}

// Count is a number of things, whose plural ends in s.
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// Printf writes to Out. Arguments that are strings are escaped.
func (t *Terminal) Printf(format string, args ...any) {
	fmt.Fprintf(t.Out, format, escapeArgs(args)...)
}

// Notef writes to Err, for people who watch, so that Out stays data.
func (t *Terminal) Notef(format string, args ...any) {
	fmt.Fprintf(t.Err, format, escapeArgs(args)...)
}

func escapeArgs(args []any) []any {
	out := make([]any, len(args))
	for i, a := range args {
		switch v := a.(type) {
		case string:
			out[i] = Escape(v)
		case error:
			out[i] = Escape(v.Error())
		default:
			out[i] = a
		}
	}
	return out
}

// JSON writes v as indented JSON. What Escape would change in text is escaped
// the way of JSON, so that the output means the same and is harmless as well.
func (t *Terminal) JSON(v any) error { return t.writeJSON(v, "  ") }

// JSONLine writes v as JSON on one line.
func (t *Terminal) JSONLine(v any) error { return t.writeJSON(v, "") }

func (t *Terminal) writeJSON(v any, indent string) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetIndent("", indent)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	if _, err := t.Out.Write(harmlessJSON(buf.Bytes())); err != nil {
		return fmt.Errorf("write JSON: %w", err)
	}
	return nil
}

// harmlessJSON escapes the runes of valid JSON that are not to be shown; outside
// of strings there are none but line breaks.
func harmlessJSON(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		switch {
		case r == utf8.RuneError && size == 1:
			out = append(out, `\ufffd`...)
		case r == '\n' || unicode.IsGraphic(r):
			out = append(out, b[:size]...)
		default:
			for _, unit := range utf16.Encode([]rune{r}) {
				out = fmt.Appendf(out, `\u%04x`, unit)
			}
		}
		b = b[size:]
	}
	return out
}

// Table writes aligned columns under a head. Cells are escaped; an empty cell
// shows as a dash, so that columns can be counted.
func (t *Terminal) Table(head []string, rows [][]string) error {
	w := tabwriter.NewWriter(t.Out, 0, 8, 2, ' ', 0)
	write := func(cells []string) {
		line := make([]string, len(cells))
		for i, c := range cells {
			if line[i] = Escape(c); c == "" {
				line[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	write(head)
	for _, r := range rows {
		write(r)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return nil
}

// Style is a colour by meaning.
type Style string

// The styles in use, as SGR parameters (ECMA-48).
const (
	Good Style = "32"
	Warn Style = "33"
	Bad  Style = "31"
	Bold Style = "1"
)

// Styled is s in a style where colour is wanted. s must be escaped already.
func (t *Terminal) Styled(style Style, s string) string {
	if !t.Color {
		return s
	}
	return "\x1b[" + string(style) + "m" + s + "\x1b[0m"
}

// Escape makes text of a peer harmless: control characters, invisible format
// characters (such as those that reverse the direction of text), other line
// separators and invalid UTF-8 become visible escapes.
func Escape(s string) string {
	if clean(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unicode.IsGraphic(r):
			b.WriteRune(r)
		default:
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		i += size
	}
	return b.String()
}

func clean(s string) bool {
	for i, r := range s {
		if r == utf8.RuneError {
			if _, size := utf8.DecodeRuneInString(s[i:]); size == 1 {
				return false
			}
		}
		if !unicode.IsGraphic(r) {
			return false
		}
	}
	return true
}
