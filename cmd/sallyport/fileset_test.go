// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		if text, err := os.ReadFile(filepath.Join(dir, e.Name())); err == nil {
			out[e.Name()] = string(text)
		} else {
			out[e.Name()] = "not a file"
		}
	}
	return out
}

// Either all files are in place or what was there before.
func TestFileSet(t *testing.T) {
	for name, c := range map[string]struct {
		before map[string]string
		force  bool
		block  string // a folder in the place of this file, made after prepare
		ok     bool
	}{
		"new":                      {ok: true},
		"replaced by force":        {before: map[string]string{"a": "old", "b": "old"}, force: true, ok: true},
		"one is new, by force":     {before: map[string]string{"b": "old"}, force: true, ok: true},
		"blocked":                  {block: "b"},
		"blocked with force":       {before: map[string]string{"a": "old"}, force: true, block: "b"},
		"someone else came before": {block: "a"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, text := range c.before {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := newFileSet(dir, c.force)
			if err := s.prepare("a", "b"); err != nil {
				t.Fatal(err)
			}
			for _, file := range []string{"a", "b"} {
				if err := s.stage(file, []byte("new"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want := map[string]string{"a": "new", "b": "new"}
			if c.block != "" {
				if err := os.Mkdir(filepath.Join(dir, c.block), 0o700); err != nil {
					t.Fatal(err)
				}
				want = map[string]string{c.block: "not a file"}
				for file, text := range c.before {
					want[file] = text
				}
			}
			if err := s.commit(); (err == nil) != c.ok {
				t.Fatalf("commit: %v", err)
			}
			s.discard()
			got := contents(t, dir)
			if len(got) != len(want) {
				t.Errorf("files %v, want %v", got, want)
			}
			for file, text := range want {
				if got[file] != text {
					t.Errorf("%s is %q, want %q", file, got[file], text)
				}
			}
		})
	}
}

func TestFileSetRefusesToReplace(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "b"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := newFileSet(dir, false).prepare("a", "b"); err == nil || !strings.Contains(err.Error(), "--force") {
		t.Fatalf("error %v", err)
	}
	if got := contents(t, dir); len(got) != 1 {
		t.Errorf("leftovers %v", got)
	}
}

func TestSpan(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90m": 90 * time.Minute, "1h": time.Hour, "7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0,
	} {
		var s span
		if err := s.Set(text); err != nil || time.Duration(s) != want {
			t.Errorf("%s: %s, %v", text, time.Duration(s), err)
		}
		var back span
		if err := back.Set(s.String()); err != nil || back != s {
			t.Errorf("%s reads as %s: %v", text, s.String(), err)
		}
	}
	for _, text := range []string{"", "d", "-1h", "-1d", "1d-1h", "1x", "999999999999d", "99999999h", "7dd"} {
		var s span
		if err := s.Set(text); err == nil {
			t.Errorf("%q was accepted: %s", text, s.String())
		}
	}
}
