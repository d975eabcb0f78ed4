// SPDX-License-Identifier: Apache-2.0

// Package durable puts small files on disk so that a crash leaves the old text or
// the new one, and never half of either. It knows nothing of what is in them.
package durable

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Replace makes a file, or puts it in place of another of that name, whose mode
// does not count; nor does the umask. The folder must be there. Without an error
// text and name are on disk. Who reads meanwhile has the old text or the new one.
// A crash may leave another file in the folder, whose name begins with a dot; see
// [RemoveLeftovers]. Calls for one path must not overlap if it matters which wins.
func Replace(path string, text []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(dir), renameio.WithStaticPermissions(mode))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(text)
	if err == nil {
		err = f.CloseAtomicallyReplace() // syncs the file
	}
	if err != nil {
		// After a replacement that succeeded, Cleanup would do nothing.
		return fmt.Errorf("write %s: %w", path, errors.Join(err, f.Cleanup()))
	}
	return SyncDir(dir)
}

// RemoveLeftovers removes what a Replace of this path that was killed has left.
// It must not be called while one goes on. What cannot be removed stays.
func RemoveLeftovers(path string) {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"*"))
	if err != nil {
		return
	}
	for _, name := range left {
		_ = os.Remove(name)
	}
}

// SyncDir returns when the names in a folder are on disk: of files that were made,
// renamed or removed there.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
