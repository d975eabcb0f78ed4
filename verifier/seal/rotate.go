// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// lockPause is how long to wait before another try at the lock of the key file.
const lockPause = 50 * time.Millisecond

// Hold keeps the key file as it is until release: no key comes or goes. Who works
// on a store beside the server holds the file, so that what is sealed meanwhile
// can still be opened afterwards.
func Hold(ctx context.Context, path string) (release func(), err error) {
	f, err := lock(ctx, path, syscall.LOCK_SH)
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil
}

// lock opens the key file with a lock of the kernel on it. Each change puts
// another file in its place, so the lock counts only if that has not happened.
func lock(ctx context.Context, path string, how int) (*os.File, error) {
	for {
		f, err := open(path)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil && still(f, path) {
			return f, nil
		}
		_ = f.Close()
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, fmt.Errorf("lock key file: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the key file, which another program holds: %w", ctx.Err())
		case <-time.After(lockPause):
		}
	}
}

func still(f *os.File, path string) bool {
	mine, err := f.Stat()
	now, err2 := os.Stat(path)
	return err == nil && err2 == nil && os.SameFile(mine, now)
}

// Primary is the id of the key that seals.
func (k *Keys) Primary() uint32 { return k.ring.Load().primary }

// IDs lists the keys that open.
func (k *Keys) IDs() []uint32 {
	return slices.Sorted(maps.Keys(k.ring.Load().aeads))
}

// Renew puts another key into the key file, which seals from now on, and returns
// its id. While there is an older key beside the one that seals, an earlier
// rotation has not ended, and no other begins: begun is false.
func (k *Keys) Renew(ctx context.Context, random io.Reader) (id uint32, begun bool, err error) {
	err = k.change(ctx, func(f *file) error {
		if len(f.Keys) > 1 {
			return nil
		}
		key := make([]byte, keySize)
		if _, err := io.ReadFull(random, key); err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
		f.Primary++
		f.Keys[f.Primary] = base64.StdEncoding.EncodeToString(key)
		begun = true
		return nil
	})
	return k.Primary(), begun, err
}

// DropOld takes all keys but the primary one out of the key file. Nothing may be
// sealed under them any more: finally, which runs while nobody else holds the
// file, is the last word on that.
func (k *Keys) DropOld(ctx context.Context, finally func() error) error {
	return k.change(ctx, func(f *file) error {
		if err := finally(); err != nil {
			return err
		}
		f.Keys = map[uint32]string{f.Primary: f.Keys[f.Primary]}
		return nil
	})
}

// change writes the key file anew while nobody holds it, and takes over what it holds.
func (k *Keys) change(ctx context.Context, edit func(*file) error) error {
	in, err := lock(ctx, k.path, syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer in.Close()
	_, f, err := read(in)
	if err != nil {
		return err
	}
	before := len(f.Keys)
	if err := edit(&f); err != nil {
		return err
	}
	r, err := f.ring()
	if err != nil {
		return err
	}
	if len(f.Keys) != before {
		if err := f.write(k.path, in); err != nil {
			return fmt.Errorf("write key file: %w", err)
		}
	}
	k.ring.Store(r)
	return nil
}

// write puts the file on disk, for the same owner as the one before.
func (f file) write(path string, before *os.File) error {
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	next := path + ".new"
	_ = os.Remove(next) // of a rotation that was killed
	out, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = out.Write(append(text, '\n'))
	if info, e := before.Stat(); e != nil {
		err = errors.Join(err, e)
	} else if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		err = errors.Join(err, out.Chown(int(owner.Uid), int(owner.Gid)))
	}
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
