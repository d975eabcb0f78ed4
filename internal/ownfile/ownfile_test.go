// SPDX-License-Identifier: Apache-2.0

package ownfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/ownfile"
)

func TestAFileThatOthersMayChangeIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ownfile.Check(path); err != nil {
		t.Errorf("0644: %v", err)
	}
	if err := os.Chmod(path, 0o646); err != nil {
		t.Fatal(err)
	}
	if err := ownfile.Check(path); err == nil || !strings.Contains(err.Error(), "chmod go-w") {
		t.Errorf("0646: %v", err)
	}
	if err := ownfile.Check(path + "x"); err == nil {
		t.Error("a file that is not there is ours")
	}
}
