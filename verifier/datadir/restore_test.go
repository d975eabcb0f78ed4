// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/config"
)

// While root fills a service's directory, the service can put nothing in the way;
// afterwards everything there is the service's, the lock that it opens too.
func TestFillForAService(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	service := os.Geteuid()
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if service == 0 {
		service = 4711
		if err := os.Chown(dir, service, service); err != nil {
			t.Fatal(err)
		}
	}
	owner := func(path string) int {
		t.Helper()
		info, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		return int(info.Sys().(*syscall.Stat_t).Uid)
	}
	refused := errors.New("no")
	for _, end := range []error{refused, nil} {
		err := Fill(dir, func(stage string) error {
			if got := owner(dir); got != os.Geteuid() {
				t.Errorf("meanwhile the directory is %d's", got)
			}
			return errors.Join(os.WriteFile(filepath.Join(stage, config.Database), nil, 0o600), os.Mkdir(filepath.Join(stage, "more"), 0o700),
				os.WriteFile(filepath.Join(stage, "more", "file"), nil, 0o600), end)
		})
		if !errors.Is(err, end) {
			t.Fatal(err)
		}
		if got := owner(dir); got != service {
			t.Errorf("after %v the directory is %d's", end, got)
		}
	}
	found := map[string]bool{}
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if got := owner(path); got != service {
			t.Errorf("%s is %d's", path, got)
		}
		found[filepath.Base(path)] = true
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{config.Database, config.LockFile, "file"} {
		if !found[name] {
			t.Errorf("%s is not there: %v", name, found)
		}
	}
}
