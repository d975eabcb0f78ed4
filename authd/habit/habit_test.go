// SPDX-License-Identifier: Apache-2.0

package habit

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/authd/login"
)

func open(dir string) (*Memory, *strings.Builder) {
	var log strings.Builder
	return Open(dir, slog.New(slog.NewTextHandler(&log, nil))), &log
}

// stop ends Keep, as the end of the daemon does.
func stop(m *Memory) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	m.Keep(ctx)
}

func TestHabitsOutliveTheDaemon(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state", "authd")
	m, log := open(dir)
	want := login.Habit{Factor: "push", Device: "DPONE"}
	m.Used("alice", login.Habit{Factor: "sms", Device: "DPTWO"})
	m.Used("alice", want)
	if got := m.Last("alice"); got != want {
		t.Errorf("at once: %+v", got)
	}
	stop(m)
	if log.Len() > 0 {
		t.Error(log)
	}
	if m, _ = open(dir); m.Last("alice") != want || m.Last("bob") != (login.Habit{}) {
		t.Errorf("after a restart: %+v, %+v", m.Last("alice"), m.Last("bob"))
	}
	info, err := os.Stat(filepath.Join(dir, fileName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", info, err)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	m, _ := open(t.TempDir())
	h := login.Habit{Factor: "push"}
	m.Used("first", h)
	for i := range limit - 1 {
		m.Used(fmt.Sprint(i), h)
	}
	m.Used("first", h) // comes back, so another one is forgotten
	m.Used("last", h)
	m.Used(strings.Repeat("x", maxName+1), h)
	if len(m.byName) != limit || m.order.Len() != limit || m.Last("first") != h || m.Last("last") != h || m.Last("0") == h {
		t.Errorf("%d people, first %+v, last %+v, 0 %+v", len(m.byName), m.Last("first"), m.Last("last"), m.Last("0"))
	}
}

func TestBrokenFileIsNoReasonToFail(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{"", "{", `[{"name":1}]`, "\x00"} {
		if err := os.WriteFile(filepath.Join(dir, fileName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, log := open(dir)
		if !strings.Contains(log.String(), "forgotten") {
			t.Errorf("%q: nothing in the log", text)
		}
		m.Used("alice", login.Habit{Factor: "push"})
		stop(m)
		if m, _ := open(dir); m.Last("alice").Factor != "push" {
			t.Errorf("%q is still there", text)
		}
	}
}

func TestFullDiskIsLoggedOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // no folder can be made here
		t.Fatal(err)
	}
	m, log := open(dir)
	log.Reset()
	m.Used("alice", login.Habit{Factor: "push"})
	stop(m)
	stop(m)
	if n := strings.Count(log.String(), "not kept"); n != 1 {
		t.Errorf("%d lines: %s", n, log)
	}
}
