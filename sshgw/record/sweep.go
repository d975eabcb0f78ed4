// SPDX-License-Identifier: Apache-2.0

package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The names that a Recorder makes: nothing else is listed or removed.
var (
	dayName  = regexp.MustCompile(`^\d{4}-\d\d-\d\d$`)
	castName = regexp.MustCompile(`^(\d{8}T\d{6}Z)-([0-9A-Za-z][0-9A-Za-z_-]{0,127})(\.\d+)?\.cast(\.age)?$`)
)

// maxRemoved bounds what one sweep removes, so that it does not hold up the disk.
const maxRemoved = 10_000

// Sweep removes the recordings that nobody has written to for KeepDays days, and
// folders that are empty after that. It follows no link, removes nothing that a
// Recorder has not named, and none that is being written, by whatever process. It
// returns how many it has removed; more says that there are more than one sweep removes.
func (r *Recorder) Sweep(ctx context.Context) (removed int, more bool, err error) {
	if r.opt.KeepDays <= 0 {
		return 0, false, nil
	}
	before := r.opt.Now().AddDate(0, 0, -r.opt.KeepDays)
	root, err := os.OpenRoot(r.opt.Dir)
	if err != nil {
		return 0, false, fmt.Errorf("sweep recordings: %w", err)
	}
	defer root.Close()
	days, err := names(root, ".", dayName, fs.ModeDir)
	if err != nil {
		return 0, false, fmt.Errorf("sweep recordings: %w", err)
	}
	var failed []error
	for _, day := range days {
		if at, err := time.Parse(dayForm, day); err != nil || !at.Before(before) {
			continue // nothing in it was begun early enough
		}
		files, err := names(root, day, castName, 0)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		for _, name := range files {
			if ctx.Err() != nil || removed >= maxRemoved {
				return removed, true, errors.Join(append(failed, ctx.Err())...)
			}
			gone, err := removeOld(root, day+"/"+name, before)
			if err != nil {
				failed = append(failed, err)
			}
			if gone {
				removed++
			}
		}
		// A folder that is not empty stays; today's is in use.
		if err := root.Remove(day); err != nil && !errors.Is(err, unix.ENOTEMPTY) && !errors.Is(err, fs.ErrExist) {
			failed = append(failed, err)
		}
	}
	if len(failed) > 0 {
		return removed, false, fmt.Errorf("sweep recordings: %w", errors.Join(failed[:min(len(failed), 10)]...))
	}
	return removed, false, nil
}

// names lists what in a folder has a name of that form and is of that type, in order.
func names(root *os.Root, dir string, form *regexp.Regexp, kind fs.FileMode) ([]string, error) {
	d, err := root.Open(dir)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		if form.MatchString(e.Name()) && e.Type() == kind {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, nil
}

func removeOld(root *os.Root, name string, before time.Time) (bool, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || !info.ModTime().Before(before) {
		return false, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil // somebody writes it
		}
		return false, fmt.Errorf("lock %s: %w", name, err)
	}
	return true, root.Remove(name)
}

// Listed is a recording in the folder.
type Listed struct {
	Name    string // from the folder
	Channel string // the session channel's own name
	Started time.Time
	Size    int64
	Sealed  bool
	Live    bool // it is being written
}

// List says which recordings began in a span of time, oldest first, by their names
// alone; NewReader tells the rest.
func List(ctx context.Context, dir string, since, until time.Time) ([]Listed, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("list recordings: %w", err)
	}
	defer root.Close()
	days, err := names(root, ".", dayName, fs.ModeDir)
	if err != nil {
		return nil, fmt.Errorf("list recordings: %w", err)
	}
	var out []Listed
	for _, day := range days {
		if at, err := time.Parse(dayForm, day); err != nil || at.AddDate(0, 0, 1).Before(since) || at.After(until) {
			continue
		}
		files, err := names(root, day, castName, 0)
		if err != nil {
			return nil, fmt.Errorf("list recordings: %w", err)
		}
		for _, name := range files {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			m := castName.FindStringSubmatch(name)
			at, err := time.Parse(nameForm, m[1])
			if err != nil || at.Before(since) || at.After(until) {
				continue
			}
			l := Listed{Name: day + "/" + name, Channel: m[2], Started: at, Sealed: m[4] != ""}
			if !l.look(root) {
				continue // removed meanwhile
			}
			out = append(out, l)
		}
	}
	return out, nil
}

func (l *Listed) look(root *os.Root) bool {
	f, err := root.OpenFile(l.Name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return false
	}
	l.Size = info.Size()
	l.Live = errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	return true
}
