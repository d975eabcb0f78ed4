// SPDX-License-Identifier: Apache-2.0

package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckFindsFilesThatTheGatewayCannotRead(t *testing.T) {
	dir := t.TempDir()
	// The folder above is of this account alone.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	open, shut, deep := filepath.Join(dir, "open"), filepath.Join(dir, "shut"), filepath.Join(dir, "sub", "deep")
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	for path, mode := range map[string]os.FileMode{open: 0o644, shut: 0o600, deep: 0o644} {
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	k := &checker{c: &Config{Path: open, Targets: Targets{KnownHosts: []string{shut, deep, filepath.Join(dir, "none")}}}}
	k.readable(account{uid: 4_000_000_000})
	if len(k.found) != 2 || !strings.Contains(k.found[0].Text, shut+" cannot be read by uid 4000000000") || !strings.HasSuffix(k.found[1].Text, "mode of "+filepath.Dir(deep)) {
		t.Errorf("found %v", k.found)
	}
	k.found = nil
	k.readable(account{uid: uint32(os.Getuid())})
	if len(k.found) != 0 {
		t.Errorf("its own account: %v", k.found)
	}
}
