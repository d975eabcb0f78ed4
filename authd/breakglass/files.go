// SPDX-License-Identifier: Apache-2.0

package breakglass

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// slotSize is the room for the use of one code: one sector, so that a disk writes
// it whole or not at all. A slot of blanks is free; any other is spent, a torn or
// damaged one too.
const slotSize = 512

// lockTimeout bounds the wait for another process that holds the store.
const lockTimeout = 5 * time.Second

// prepare makes the folder and the file of uses, with all its room allocated. The
// folder is root's, so that the program that writes into the files can neither
// replace them nor put others in their place.
func (s *Store) prepare(o Owners) error {
	err := os.Mkdir(s.dir, 0o755)
	if err == nil {
		err = os.Chmod(s.dir, 0o755) //nolint:gosec // authd and the program go through it, whatever the umask is
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make store: %w", err)
	}
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	defer root.Close()
	f, err := openRegular(root, usesFile, os.O_RDONLY)
	if err == nil {
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.Size() == MaxCodes*slotSize {
			return nil
		}
		return fmt.Errorf("%s in %s has not the size of a store's: it is damaged; remove the folder's files to begin anew", usesFile, s.dir)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open store: %w", err)
	}
	return replace(root, usesFile, bytes.Repeat(blankSlot(), MaxCodes), give(o.ProgramUID, o.AuthdGID))
}

func (s *Store) replaceDefinitions(defs []Definition, o Owners) error {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	defer root.Close()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, d := range defs {
		if err := enc.Encode(d); err != nil {
			return fmt.Errorf("write codes: %w", err)
		}
	}
	return replace(root, codesFile, b.Bytes(), give(0, o.ProgramGID))
}

// replace puts a file in place of another: never half of it, and on disk when it
// returns. owner, if there is one, sets who may read it.
func replace(root *os.Root, name string, data []byte, owner func(*os.File) error) (err error) {
	tmp := name + ".new"
	_ = root.Remove(tmp)
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			_ = root.Remove(tmp)
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	overwriteInPlace(f)
	if _, err = f.Write(data); err != nil {
		return err
	}
	if owner != nil {
		if err = owner(f); err != nil {
			return err
		}
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = root.Rename(tmp, name); err != nil {
		return err
	}
	return syncDir(root)
}

// give is an owner who may write and a group that may read; -1: the maker's own.
func give(uid, gid int) func(*os.File) error {
	if gid < 0 {
		return nil
	}
	return func(f *os.File) error { return errors.Join(f.Chown(uid, gid), f.Chmod(0o640)) }
}

func syncDir(root *os.Root) error {
	dir, err := root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// overwriteInPlace asks a file system that writes elsewhere (btrfs) to overwrite
// this file's blocks in place, which needs no new room. Others do so anyway, or
// cannot; then nothing changes.
func overwriteInPlace(f *os.File) {
	const noCow = 0x00800000 // FS_NOCOW_FL of <linux/fs.h>
	if flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS); err == nil {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|noCow)
	}
}

// openRegular opens a file of the store. Links are not followed, and a pipe that
// somebody put there does not hang.
func openRegular(root *os.Root, name string, flag int) (*os.File, error) {
	f, err := root.OpenFile(name, flag|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("open %s: %w", name, errors.Join(err, errors.New("not a regular file")))
	}
	return f, nil
}

func (s *Store) openUses(flag int) (*os.File, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return openRegular(root, usesFile, flag)
}

// lock opens the file of uses and holds its lock until unlock is called.
func (s *Store) lock(ctx context.Context) (f *os.File, unlock func(), err error) {
	f, err = s.openUses(os.O_RDWR)
	if err != nil {
		return nil, nil, fmt.Errorf("open uses: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, lockTimeout)
	defer cancel()
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, func() { _ = f.Close() }, nil // which unlocks
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, nil, fmt.Errorf("lock uses: %w", err)
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, nil, fmt.Errorf("lock uses: another process holds them: %w", ctx.Err())
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func blankSlot() []byte {
	slot := bytes.Repeat([]byte{' '}, slotSize)
	slot[slotSize-1] = '\n'
	return slot
}

// readSlot says what a slot holds for the code id; an empty id stands for any.
func readSlot(f *os.File, slot int, id string) (State, Use) {
	if f == nil {
		return Damaged, Use{}
	}
	buf := make([]byte, slotSize)
	if _, err := f.ReadAt(buf, int64(slot)*slotSize); err != nil {
		return Damaged, Use{}
	}
	return parseSlot(buf, id)
}

func parseSlot(buf []byte, id string) (State, Use) {
	if bytes.Equal(buf, blankSlot()) {
		return Unused, Use{}
	}
	var use Use
	if json.Unmarshal(buf, &use) != nil || use.ID == "" || id != "" && use.ID != id || use.State != Used && use.State != Revoked {
		return Damaged, Use{}
	}
	return use.State, use
}

// spend overwrites a slot and waits until it is on disk. The blocks are there
// already, so a full disk does not hinder it.
func spend(f *os.File, slot int, use Use) error {
	if err := writeSlot(f, slot, use.encode()); err != nil {
		return fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	if err := unix.Fdatasync(int(f.Fd())); err != nil {
		return fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	return nil
}

func writeSlot(f *os.File, slot int, data []byte) error {
	if info, err := f.Stat(); err != nil || info.Size() != MaxCodes*slotSize {
		return fmt.Errorf("%s has not the size of a store's", usesFile)
	}
	if _, err := f.WriteAt(data, int64(slot)*slotSize); err != nil {
		return fmt.Errorf("write %s: %w", usesFile, err)
	}
	return nil
}

// encode fits the record into a slot: values that are too long for it are cut,
// and the rarest left out. ID, state and time always fit.
func (u Use) encode() []byte {
	texts := []*string{&u.TTY, &u.Source, &u.Service, &u.User}
	for limit := 255; ; limit /= 2 {
		for _, t := range texts {
			if len(*t) > limit {
				*t = (*t)[:limit]
			}
		}
		data, err := json.Marshal(u)
		if err == nil && len(data) < slotSize {
			slot := blankSlot()
			copy(slot, data)
			return slot
		}
		if limit == 0 {
			return append(bytes.Repeat([]byte{'?'}, slotSize-1), '\n') // never blank: spent all the same
		}
	}
}

// readLimited reads a whole file that must not be larger than limit.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("read %s: more than %d bytes", path, limit)
	}
	return data, err
}
