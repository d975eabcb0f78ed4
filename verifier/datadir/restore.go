// SPDX-License-Identifier: Apache-2.0

package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
)

// restoring is where a restore puts the files before they move to their places.
const restoring = ".restore"

// HoldKeys keeps the keys of a data directory as they are until release: for
// programs that seal or copy beside the server.
func HoldKeys(ctx context.Context, dir string) (release func(), err error) {
	return seal.Hold(ctx, filepath.Join(dir, config.SealKeys))
}

// Fill gives a data directory that holds nothing the files that make puts into
// stage; after an error it holds nothing, as before. A directory that is not
// there is made; one from which a verifier serves, or which holds anything, is refused.
func Fill(dir string, make func(stage string) error) (err error) {
	made := false
	if err := os.Mkdir(dir, 0o700); err == nil {
		made = true
	} else if !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make data directory: %w; make the directory above it first", err)
	}
	owner, giveBack, err := takeOver(dir)
	if err != nil {
		return err
	}
	unlock, err := Lock(dir)
	if err != nil {
		return errors.Join(err, giveBack())
	}
	stage, lock := filepath.Join(dir, restoring), filepath.Join(dir, config.LockFile)
	defer func() {
		err = errors.Join(err, os.RemoveAll(stage))
		if err != nil {
			_ = os.Remove(lock)
		} else if owner != nil {
			err = os.Lchown(lock, int(owner.Uid), int(owner.Gid)) // who serves has to open it
		}
		err = errors.Join(err, giveBack())
		if err != nil && made {
			_ = os.Remove(dir) // only if it is empty
		}
		unlock()
	}()
	if err := empty(dir); err != nil {
		return err
	}
	if err := os.RemoveAll(stage); err != nil { // of a restore that was killed
		return fmt.Errorf("make room in %s: %w", dir, err)
	}
	if err := os.Mkdir(stage, 0o700); err != nil {
		return fmt.Errorf("make room in %s: %w", dir, err)
	}
	if err := make(stage); err != nil {
		return err
	}
	names, err := inOrder(stage, owner)
	if err != nil {
		return err
	}
	return publish(dir, stage, names, owner)
}

// empty refuses a directory that holds anything but what Fill itself may have left.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("look into %s: %w", dir, err)
	}
	for _, e := range entries {
		if e.Name() != config.LockFile && e.Name() != restoring {
			return fmt.Errorf("%s is not empty (%s): a restore overwrites nothing; name another directory, or move this one away", dir, e.Name())
		}
	}
	return nil
}

// inOrder lists what is in stage, what others look for at the end, and gives
// files in folders to the owner.
func inOrder(stage string, owner *syscall.Stat_t) ([]string, error) {
	entries, err := os.ReadDir(stage)
	if err != nil {
		return nil, fmt.Errorf("look into %s: %w", stage, err)
	}
	var names []string
	for _, e := range entries {
		if !slices.Contains(files(), e.Name()) {
			names = append(names, e.Name())
		}
		if e.IsDir() && owner != nil {
			if err := give(filepath.Join(stage, e.Name()), owner); err != nil {
				return nil, err
			}
		}
	}
	return append(names, files()...), nil
}

func give(root string, owner *syscall.Stat_t) error {
	return filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid)) //nolint:gosec // G122: under a directory that takeOver made root's alone
	})
}
