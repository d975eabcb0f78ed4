// SPDX-License-Identifier: Apache-2.0

package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "keys.json")
	// Too open a mode must not outlive the replacement.
	if err := os.WriteFile(path, []byte("old, and longer than the new"), 0o644); err != nil {
		t.Fatal(err)
	}
	reader, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for _, text := range []string{"new", ""} {
		if err := Replace(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("the file holds %q, %v; want %q", got, err, text)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
		}
	}
	if info, err := reader.Stat(); err != nil || info.Size() != 28 {
		t.Errorf("who had the old file open sees %d bytes of it, %v; want all 28", info.Size(), err)
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("the folder holds %q; want the file alone", got)
	}
}

func TestReplaceFails(t *testing.T) {
	dir := t.TempDir()
	if err := Replace(filepath.Join(dir, "missing", "f"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a folder: %v", err)
	}
	// A folder cannot be replaced by a file: the failure comes after the write.
	if err := os.Mkdir(filepath.Join(dir, "f"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(dir, "f"), []byte("text"), 0o600); err == nil {
		t.Error("a folder was replaced")
	}
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("a failed replacement left %q", got)
	}
}

func TestRemoveLeftovers(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"f.json", ".f.json123", ".g.json1"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	RemoveLeftovers(filepath.Join(dir, "f.json"))
	if got := names(t, dir); len(got) != 2 || got[0] != ".g.json1" || got[1] != "f.json" {
		t.Errorf("left: %q; want what belongs to f.json gone, and no more", got)
	}
}

func TestSyncDir(t *testing.T) {
	if err := SyncDir(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a folder that is not there: %v", err)
	}
}
