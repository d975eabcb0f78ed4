// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// selinux is the extended attribute with a file's label.
const selinux = "security.selinux"

// properties are what a file keeps when its text changes; for a file that is not
// there, those of a new one.
func properties(root, path string) (Kept, error) {
	k := Kept{Path: path, Mode: 0o644, UID: os.Geteuid(), GID: os.Getegid()}
	full := filepath.Join(root, path)
	info, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, fmt.Errorf("look at %s: %w", path, err)
	}
	if !info.Mode().IsRegular() {
		return k, fmt.Errorf("look at %s: it is no regular file", path)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		k.UID, k.GID = int(stat.Uid), int(stat.Gid)
	}
	k.Mode = info.Mode().Perm()
	label := make([]byte, 1024)
	if n, err := unix.Lgetxattr(full, selinux, label); err == nil {
		k.Label = string(label[:n])
	}
	return k, nil
}

// replace gives a file another text at once, with the properties that were kept;
// nil removes it. Who reads meanwhile sees the one or the other.
func replace(root string, k Kept, text *string) error {
	full := filepath.Join(root, k.Path)
	dir := filepath.Dir(full)
	if text == nil {
		if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", k.Path, err)
		}
		return durable.SyncDir(dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", k.Path, err)
	}
	// libpam looks for no name with a dot, and sshd for none without .conf.
	f, err := os.CreateTemp(dir, "."+filepath.Base(full)+".sallyport-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", k.Path, err)
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.WriteString(*text)
	err = errors.Join(err, f.Chmod(k.Mode), own(f, k), label(f, k), f.Sync(), f.Close())
	if err == nil {
		err = errors.Join(os.Rename(f.Name(), full), durable.SyncDir(dir))
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", k.Path, err)
	}
	return nil
}

func own(f *os.File, k Kept) error {
	if k.UID == os.Geteuid() && k.GID == os.Getegid() {
		return nil
	}
	return f.Chown(k.UID, k.GID)
}

func label(f *os.File, k Kept) error {
	if k.Label == "" {
		return nil
	}
	err := unix.Fsetxattr(int(f.Fd()), selinux, []byte(k.Label), 0)
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOTSUP) {
		return nil // SELinux is off: a label left over from when it was on
	}
	return err
}

// restore puts back what was there before a change. What somebody has written
// there since goes too, but is kept beside the backup.
func (h *Host) restore(c *Change, k Kept) error {
	before, err := h.Store.text(c, k.Before)
	if err != nil {
		return err
	}
	after, err := h.Store.text(c, k.After)
	if err != nil {
		return err
	}
	now, err := current(h.Root, k.Path)
	if err != nil {
		return err
	}
	if same(now, before) {
		return nil
	}
	if !same(now, after) {
		if _, err := h.Store.write(c, filepath.Base(k.Path)+".found", now); err != nil {
			return err
		}
	}
	return replace(h.Root, k, before)
}

func current(root, path string) (*string, error) {
	b, err := os.ReadFile(filepath.Join(root, path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // not there is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", path, err)
	}
	text := string(b)
	return &text, nil
}

func same(a, b *string) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}
