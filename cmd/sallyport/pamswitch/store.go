// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// DefaultDir is where changes are kept, below the root. It is for root alone.
const DefaultDir = "/var/lib/sallyport/pam"

// State is what has become of a change.
type State string

// The states.
const (
	Pending   State = "pending"
	Confirmed State = "confirmed"
	TakenBack State = "taken back"
)

// Change is a change that was made, as it is kept on disk.
type Change struct {
	ID       string        `json:"id"`
	Action   Action        `json:"action"`
	Services []string      `json:"services"`
	State    State         `json:"state"`
	Made     time.Time     `json:"made"`
	Within   time.Duration `json:"confirm_within_ns"` // 0: it needed no confirmation
	Settled  time.Time     `json:"settled,omitzero"`
	SSHD     bool          `json:"sshd"` // sshd has to be told
	Files    []Kept        `json:"files"`
}

// Until is when the change is taken back unless it is confirmed.
func (c *Change) Until() time.Time { return c.Made.Add(c.Within) }

// Kept is a file of a change: its texts are files beside the record. An empty
// name says that the file was, or is, not there.
type Kept struct {
	Path   string      `json:"path"`
	Before string      `json:"before,omitempty"`
	After  string      `json:"after,omitempty"`
	Mode   os.FileMode `json:"mode"`
	UID    int         `json:"uid"`
	GID    int         `json:"gid"`
	Label  string      `json:"selinux,omitempty"`
}

// Store keeps changes in a folder. Each has a folder of its own, by its id.
type Store struct{ Dir string }

const (
	recordName  = "change.json"
	pendingName = "pending"
	maxRecord   = 1 << 20
)

// lock keeps other processes out until the function that it returns is called. It
// waits for its turn until ctx is over.
func (s Store) lock(ctx context.Context) (func(), error) {
	if err := os.MkdirAll(filepath.Dir(s.Dir), 0o755); err != nil { // other parts keep their state beside it
		return nil, fmt.Errorf("make folder for backups: %w", err)
	}
	if err := os.Mkdir(s.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make folder for backups: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(s.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the folder for backups: %w", err)
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing unlocks
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(fmt.Errorf("lock the folder for backups: %w", err), f.Close())
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock the folder for backups, which another process has: %w", ctx.Err()), f.Close())
		}
	}
}

// keep writes a plan and what it replaces to disk.
func (s Store) keep(root string, plan *Plan, now time.Time, within time.Duration) (*Change, error) {
	c := &Change{
		Action: plan.Action, Services: plan.Services, State: Pending,
		Made: now, Within: within, SSHD: plan.SSHD(),
	}
	var err error
	if c.ID, err = s.makeFolder(now); err != nil {
		return nil, err
	}
	for n, f := range plan.Files {
		kept, err := properties(root, f.Path)
		if err != nil {
			return nil, err
		}
		now, err := current(root, f.Path)
		if err != nil {
			return nil, err
		}
		if !same(now, f.Before) {
			return nil, fmt.Errorf("%s has changed since it was looked at; nothing was done", f.Path)
		}
		if kept.Before, err = s.write(c, strconv.Itoa(n)+".before", f.Before); err != nil {
			return nil, err
		}
		if kept.After, err = s.write(c, strconv.Itoa(n)+".after", f.After); err != nil {
			return nil, err
		}
		c.Files = append(c.Files, kept)
	}
	return c, s.record(c)
}

// makeFolder makes a folder whose name sorts by time.
func (s Store) makeFolder(now time.Time) (string, error) {
	base := now.UTC().Format("20060102T150405")
	for n := 1; ; n++ {
		id := base
		if n > 1 {
			id += "-" + strconv.Itoa(n)
		}
		err := os.Mkdir(filepath.Join(s.Dir, id), 0o700)
		if err == nil {
			return id, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("keep a backup: %w", err)
		}
	}
}

// write keeps a text and returns its name; none for a file that is not there.
func (s Store) write(c *Change, name string, text *string) (string, error) {
	if text == nil {
		return "", nil
	}
	if err := writeDurably(filepath.Join(s.Dir, c.ID, name), []byte(*text)); err != nil {
		return "", fmt.Errorf("keep a backup: %w", err)
	}
	return name, nil
}

func writeDurably(path string, text []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// text reads a text that was kept; nil for a file that is not there.
func (s Store) text(c *Change, name string) (*string, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // not there is an answer
	}
	b, err := os.ReadFile(filepath.Join(s.Dir, c.ID, filepath.Base(name)))
	if err != nil {
		return nil, fmt.Errorf("read the backup: %w", err)
	}
	text := string(b)
	return &text, nil
}

// record writes the change's record, whole or not at all.
func (s Store) record(c *Change) error {
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("record the change: %w", err)
	}
	path := filepath.Join(s.Dir, c.ID, recordName)
	err = writeDurably(path+".new", append(text, '\n'))
	if err == nil {
		err = errors.Join(os.Rename(path+".new", path), durable.SyncDir(filepath.Dir(path)), durable.SyncDir(s.Dir))
	}
	if err != nil {
		return fmt.Errorf("record the change: %w", err)
	}
	return nil
}

// markPending is the point from which on the change is taken back unless confirmed.
func (s Store) markPending(c *Change) error {
	if err := errors.Join(os.Symlink(c.ID, filepath.Join(s.Dir, pendingName)), durable.SyncDir(s.Dir)); err != nil {
		return fmt.Errorf("record the change as pending: %w", err)
	}
	return nil
}

func (s Store) settle(c *Change, state State, now time.Time) error {
	c.State, c.Settled = state, now
	if err := s.record(c); err != nil {
		return err
	}
	err := os.Remove(filepath.Join(s.Dir, pendingName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, durable.SyncDir(s.Dir)); err != nil {
		return fmt.Errorf("record the change as %s: %w", state, err)
	}
	return nil
}

// Pending is the change that waits for its confirmation, or ErrNothingPending.
func (s Store) Pending() (*Change, error) {
	id, err := os.Readlink(filepath.Join(s.Dir, pendingName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNothingPending
	}
	if err != nil {
		return nil, fmt.Errorf("look for a pending change: %w", err)
	}
	return s.Load(id)
}

// An id as makeFolder makes it.
var validID = regexp.MustCompile(`^\d{8}T\d{6}(-\d+)?$`)

// ValidID says whether a text can be the id of a change.
func ValidID(id string) bool { return validID.MatchString(id) }

// Load reads the record of a change.
func (s Store) Load(id string) (*Change, error) {
	if !ValidID(id) {
		return nil, fmt.Errorf("read change: %q is no id of one", id)
	}
	path := filepath.Join(s.Dir, id, recordName)
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read change: %w", err)
	}
	if info.Size() > maxRecord {
		return nil, fmt.Errorf("read change: %s is over %d bytes", path, maxRecord)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read change: %w", err)
	}
	c := &Change{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("read change: %s: %w", path, err)
	}
	return c, nil
}
