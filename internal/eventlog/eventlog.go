// SPDX-License-Identifier: Apache-2.0

// Package eventlog owns how the host's daemons write their log: fields to the
// journal where systemd reads stderr, else lines of text or JSON. It never
// decides what is logged, and it drops nothing for want of a journal.
package eventlog

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
)

// Format says how the log is written.
type Format string

// The formats. Auto is the journal when systemd reads stderr, else text.
const (
	Auto    Format = "auto"
	Text    Format = "text"
	JSON    Format = "json"
	Journal Format = "journal"
)

// Parse reads a format as a flag has it.
func Parse(s string) (Format, error) {
	switch f := Format(s); f {
	case Auto, Text, JSON, Journal:
		return f, nil
	}
	return "", fmt.Errorf("--log %q is none of auto, text, json, journal", s)
}

// FromFlags is New for a program's flags --log and --debug.
func FromFlags(identifier, format string, debug bool, stderr io.Writer) (*slog.Logger, error) {
	f, err := Parse(format)
	if err != nil {
		return nil, err
	}
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return New(identifier, f, level, stderr), nil
}

// New makes the log of the program that identifier names in the journal. Text and
// JSON escape control characters; to the journal fields go as they are, by its own
// protocol, and the message is text.
func New(identifier string, format Format, level slog.Level, stderr io.Writer) *slog.Logger {
	opt := &slog.HandlerOptions{Level: level}
	if format == Auto {
		format = Text
		if toJournal, err := journal.StderrIsJournalStream(); err == nil && toJournal {
			format = Journal
		}
	}
	switch format {
	case JSON:
		return slog.New(slog.NewJSONHandler(stderr, opt))
	case Journal:
		return slog.New(&journalHandler{identifier: identifier, level: level, fallback: slog.NewTextHandler(stderr, opt), send: journal.Send})
	}
	return slog.New(slog.NewTextHandler(stderr, opt))
}

// journalHandler writes each attribute as a field SALLYPORT_KEY, beside a
// message that reads the same on a terminal. Groups are not used in the log
// and become prefixes.
type journalHandler struct {
	identifier string // SYSLOG_IDENTIFIER
	level      slog.Level
	attrs      []slog.Attr
	prefix     string
	fallback   slog.Handler
	send       func(message string, p journal.Priority, vars map[string]string) error
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	for _, a := range attrs {
		a.Key = h.prefix + a.Key
		c.attrs = append(slices.Clip(c.attrs), a)
	}
	c.fallback = h.fallback.WithAttrs(attrs)
	return &c
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	c := *h
	c.prefix = h.prefix + name + "_"
	c.fallback = h.fallback.WithGroup(name)
	return &c
}

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	vars := map[string]string{"SYSLOG_IDENTIFIER": h.identifier}
	line := slog.NewRecord(r.Time, r.Level, r.Message, 0)
	add := func(a slog.Attr) bool {
		vars[fieldName(a.Key)] = a.Value.Resolve().String()
		line.AddAttrs(a)
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(func(a slog.Attr) bool {
		a.Key = h.prefix + a.Key
		return add(a)
	})
	if err := h.send(messageText(ctx, line), priority(r.Level), vars); err != nil {
		return h.fallback.Handle(ctx, r) // a log line is never lost for want of a journal
	}
	return nil
}

// messageText is the message and its attributes in slog's text form, which
// quotes whatever does not print.
func messageText(ctx context.Context, r slog.Record) string {
	var b strings.Builder
	h := slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}})
	_ = h.Handle(ctx, r) // a Builder takes everything
	return strings.TrimPrefix(strings.TrimSuffix(b.String(), "\n"), "msg=")
}

// fieldName is a name that the journal accepts: capitals, digits and underscores.
func fieldName(key string) string {
	return "SALLYPORT_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, key)
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
