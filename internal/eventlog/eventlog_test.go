// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
)

func TestJournalHandler(t *testing.T) {
	var message string
	var prio journal.Priority
	var vars map[string]string
	h := &journalHandler{identifier: "sallyport-authd", level: slog.LevelInfo, fallback: slog.DiscardHandler, send: func(m string, p journal.Priority, v map[string]string) error {
		message, prio, vars = m, p, v
		return nil
	}}
	slog.New(h).With("id", "x1").Warn("login", "user", "evil\nuser\x1b", "duration_ms", 5)
	if want := `login id=x1 user="evil\nuser\x1b" duration_ms=5`; message != want {
		t.Errorf("message %q, want %q", message, want)
	}
	if prio != journal.PriWarning || vars["SALLYPORT_USER"] != "evil\nuser\x1b" || vars["SALLYPORT_ID"] != "x1" || vars["SALLYPORT_DURATION_MS"] != "5" || vars["SYSLOG_IDENTIFIER"] != "sallyport-authd" {
		t.Errorf("priority %d, %q", prio, vars)
	}
	if slog.New(h).Enabled(t.Context(), slog.LevelDebug) {
		t.Error("debug lines at level info")
	}
	var fell strings.Builder
	h.fallback, h.send = slog.NewTextHandler(&fell, nil), func(string, journal.Priority, map[string]string) error { return errors.New("no journal") }
	slog.New(h).Info("login")
	if !strings.Contains(fell.String(), "msg=login") {
		t.Errorf("lost without a journal: %q", fell.String())
	}
}
