// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

// daemonGroup is the group of the account that authd runs as under systemd. Where
// there is one, it may read what only root can read otherwise.
const daemonGroup = "sallyport-authd"

// fileSet writes several files so that either all are in place or none. The
// files are staged in a folder of their own beside their places.
type fileSet struct {
	dir, staging string
	force        bool
	names        []string
}

func newFileSet(dir string, force bool) *fileSet { return &fileSet{dir: dir, force: force} }

// prepare makes the folder and shows that the files can be written and, without
// force, that none of them exists.
func (s *fileSet) prepare(names ...string) error {
	for _, name := range names {
		_, err := os.Lstat(filepath.Join(s.dir, name))
		if err == nil && !s.force {
			return cli.WithHint(fmt.Errorf("%s exists: this host may have joined already", filepath.Join(s.dir, name)), "pass --force to replace it")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look for what an earlier join wrote: %w", err)
		}
	}
	if err := s.makeDir(); err != nil {
		return cli.WithHint(fmt.Errorf("make configuration folder: %w", err), "run as root, or pass --config-dir")
	}
	staging, err := os.MkdirTemp(s.dir, ".join-*")
	if err != nil {
		return cli.WithHint(fmt.Errorf("write to configuration folder: %w", err), "run as root, or pass --config-dir")
	}
	s.staging = staging
	return nil
}

// makeDir makes the folder, if it is not there, so that authd's account finds
// the files whatever the umask; the secrets among them are not for others.
func (s *fileSet) makeDir() error {
	if _, err := os.Stat(s.dir); err == nil {
		return nil
	}
	return errors.Join(os.MkdirAll(s.dir, 0o755), os.Chmod(s.dir, 0o755)) //nolint:gosec // see above
}

// stage writes one file durably to where nobody looks for it.
func (s *fileSet) stage(name string, text []byte, mode os.FileMode) error {
	path := filepath.Join(s.staging, name)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	s.names = append(s.names, name)
	return nil
}

// stageForDaemon stages a file that root and authd alone may read.
func (s *fileSet) stageForDaemon(name string, text []byte) error {
	if err := s.stage(name, text, 0o600); err != nil {
		return err
	}
	group, err := osuser.LookupGroup(daemonGroup)
	if err != nil {
		var unknown osuser.UnknownGroupError
		if errors.As(err, &unknown) {
			return nil // authd is not installed as a service: it is root's, whoever starts it
		}
		return fmt.Errorf("look for the group of authd: %w", err)
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return fmt.Errorf("look for the group of authd: %w", err)
	}
	path := filepath.Join(s.staging, name)
	if os.Geteuid() != 0 {
		return nil // to be installed by root later
	}
	if err := errors.Join(os.Chown(path, -1, gid), os.Chmod(path, 0o640)); err != nil { //nolint:gosec // for authd to read
		return fmt.Errorf("give %s to authd: %w", name, err)
	}
	return nil
}

// commit puts the files in place in the order of their staging. What was there
// before is kept until all are, and put back on failure.
func (s *fileSet) commit() error {
	var undo []func() error
	for _, name := range s.names {
		revert, err := s.place(name)
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				err = errors.Join(err, undo[i]())
			}
			return fmt.Errorf("put %s in place: %w", name, err)
		}
		undo = append(undo, revert)
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return fmt.Errorf("sync configuration folder: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// place moves one file to its place and returns how to take it back.
func (s *fileSet) place(name string) (func() error, error) {
	from, to, old := filepath.Join(s.staging, name), filepath.Join(s.dir, name), filepath.Join(s.staging, name+".old")
	if s.force {
		err := os.Link(to, old)
		if err == nil {
			return func() error { return os.Rename(old, to) }, os.Rename(from, to)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("keep what is there: %w", err)
		}
	}
	// Link, unlike rename, refuses to replace.
	return func() error { return os.Remove(to) }, os.Link(from, to)
}

// discard removes the folder of staged files.
func (s *fileSet) discard() {
	if s.staging != "" {
		os.RemoveAll(s.staging) // leftovers hold nothing that is in use
	}
}
