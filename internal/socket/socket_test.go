// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMakeDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	for range 2 { // made, then found
		if err := MakeDir(dir); err != nil {
			t.Fatal(err)
		}
	}
	link := dir + ".link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(link); err == nil || !strings.Contains(err.Error(), "no folder") {
		t.Errorf("a link to a folder: %v", err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := MakeDir(dir); err == nil || !strings.Contains(err.Error(), "mode 0777") {
		t.Errorf("a folder that others can write: %v", err)
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.sock")
	target := path + ".target"
	if err := os.WriteFile(target, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What an earlier program or somebody else left at that name.
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o600, 0o660, 0o666} {
		l, err := Listen(path, mode, os.Getgid())
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != os.ModeSocket|mode {
			t.Errorf("the socket is %v, %v; want mode %v", info.Mode(), err, mode)
		}
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("nobody listens there: %v", err)
		}
		_ = conn.Close()
		_ = l.Close()
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("closing took the socket away: %v", err)
		}
	}
	if text, err := os.ReadFile(target); err != nil || string(text) != "kept" {
		t.Errorf("what the link pointed to holds %q, %v", text, err)
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "missing", "a.sock"), 0o600, -1); err == nil {
		t.Error("a socket in no folder")
	}
}
