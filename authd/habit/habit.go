// SPDX-License-Identifier: Apache-2.0

// Package habit owns the memory of which factor each person used last, so that
// the menu can begin with it. It decides nothing: what it has lost, or what
// somebody has changed in its file, is at worst another order of a menu.
package habit

import (
	"container/list"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
)

const (
	// fileName is the file's name in state_dir.
	fileName = "habits.json"
	// limit is how many people are remembered; who has not come for longest is
	// forgotten first.
	limit = 4096
	// maxFile bounds the file, in bytes.
	maxFile = 4 << 20
	// maxName bounds what is kept of one person, in bytes of each word.
	maxName = 256
	// saveInterval is how often the file is written, at most.
	saveInterval = 30 * time.Second
)

// Memory is a login.Habits. It is safe for concurrent use.
type Memory struct {
	path string
	log  *slog.Logger

	mu     sync.Mutex
	order  *list.List // of entry, the one not seen for longest first
	byName map[string]*list.Element
	dirty  bool
}

type entry struct {
	Name string `json:"name"`
	login.Habit
}

// Open reads what an earlier authd has left in dir. A file that cannot be read is
// as good as none.
func Open(dir string, log *slog.Logger) *Memory {
	m := &Memory{path: filepath.Join(dir, fileName), log: log, order: list.New(), byName: map[string]*list.Element{}}
	entries, err := read(m.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("factors used last are forgotten", slog.String("event", "habits"), slog.Any("error", err))
	}
	for _, e := range entries {
		m.put(e)
	}
	m.dirty = false
	return m
}

func read(path string) ([]entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read habits: %w", err)
	}
	defer f.Close()
	var entries []entry
	if err := json.NewDecoder(io.LimitReader(f, maxFile)).Decode(&entries); err != nil {
		return nil, fmt.Errorf("read habits: %s: %w", path, err)
	}
	return entries, nil
}

// Last is what the person used last, the zero value if that is not known.
func (m *Memory) Last(username string) login.Habit {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byName[username]; e != nil {
		return e.Value.(entry).Habit
	}
	return login.Habit{}
}

// Used remembers what the person has just used.
func (m *Memory) Used(username string, h login.Habit) {
	m.put(entry{username, h})
}

func (m *Memory) put(e entry) {
	if e.Name == "" || len(e.Name) > maxName || len(e.Factor) > maxName || len(e.Device) > maxName {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.byName[e.Name]; old != nil {
		m.dirty = m.dirty || old.Value.(entry) != e
		old.Value = e
		m.order.MoveToBack(old)
		return
	}
	if m.order.Len() >= limit {
		delete(m.byName, m.order.Remove(m.order.Front()).(entry).Name)
	}
	m.byName[e.Name] = m.order.PushBack(e)
	m.dirty = true
}

// Keep writes the file now and then, if there is anything new, until ctx ends,
// and then once more.
func (m *Memory) Keep(ctx context.Context) {
	t := time.NewTicker(saveInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			m.save()
			return
		case <-t.C:
			m.save()
		}
	}
}

func (m *Memory) save() {
	m.mu.Lock()
	dirty := m.dirty
	m.dirty = false
	entries := make([]entry, 0, m.order.Len())
	for e := m.order.Front(); e != nil; e = e.Next() {
		entries = append(entries, e.Value.(entry))
	}
	m.mu.Unlock()
	if !dirty {
		return
	}
	if err := write(m.path, entries); err != nil {
		m.log.Warn("factors used last are not kept over a restart", slog.String("event", "habits"), slog.Any("error", err))
	}
}

// write replaces the file as a whole. It is not synced: a crash may lose it.
func write(path string, entries []entry) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write habits: %w", err)
	}
	text, err := json.Marshal(entries)
	if err != nil {
		return fmt.Errorf("write habits: %w", err)
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, text, 0o600); err != nil {
		return fmt.Errorf("write habits: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write habits: %w", err)
	}
	return nil
}
