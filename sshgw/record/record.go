// SPDX-License-Identifier: Apache-2.0

// Package record writes what happened in a session to disk, so that it can be seen
// again: terminals as asciicast v2, sealed to the public keys of those who may read
// them if there are any. It reads them as well, lists them, and removes those that
// are too old. It never decides what is recorded.
package record

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"regexp"
	"strconv"
	"sync"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

// What holds where Options says nothing.
const (
	DefaultSync  = time.Second
	DefaultSeal  = 30 * time.Second
	DefaultStall = 30 * time.Second
)

// maxSyncs is how many recordings are synced at once: each holds a thread.
const maxSyncs = 16

// maxBegins is how many recordings are begun at once: a disk that hangs keeps a thread of each.
const maxBegins = 256

// Meta is what stands at the head of a recording.
type Meta struct {
	Channel       string // the session channel's own name, names the file; see validName
	Connection    string // these three as in the events of the log
	Session       string
	Inner         string // "" outside of a jump
	User          string
	Target, Login string
	Source        string
	Rule          string
	Command       string // "" for a shell
	Term          string
	Terminal      bool // there is one, whatever its size is said to be
	Width, Height int  // 0: not known
	Input         bool // what is typed is recorded as well
	Started       time.Time
}

// Options is what New needs.
type Options struct {
	Dir        string        // made if it is not there
	Recipients []string      // public keys of age that recordings are sealed to; none: not sealed
	Group      string        // whose members may read recordings; "" for nobody but the gateway
	MinFree    uint64        // bytes that must be left on the disk; 0: none
	KeepDays   int           // see Sweep; 0: for ever
	Sync       time.Duration // how soon what was recorded is on disk; 0: DefaultSync
	Seal       time.Duration // how soon it is sealed, and can be read after a crash; 0: DefaultSeal
	Stall      time.Duration // how long the disk may take for a write; 0: DefaultStall
	Now        func() time.Time
}

// Errors of Begin and of a Recording.
var (
	// ErrSpace says that less is free than must be left (record.min_free).
	ErrSpace = errors.New("the disk has less free than record.min_free")
	// ErrStalled says that the disk did not answer in time (record.stall).
	ErrStalled = errors.New("the disk did not answer within record.stall")
	// ErrMoved says that the recording is not where it was made.
	ErrMoved = errors.New("the recording was moved or removed while it was written")
	// ErrClosed says that a recording has ended.
	ErrClosed = errors.New("the recording has ended")
)

// Recorder makes recordings. It is safe for concurrent use.
type Recorder struct {
	opt        Options
	recipients []age.Recipient
	gid        int // -1: none
	syncs      chan struct{}
	begins     chan struct{}

	// For the package's tests.
	wrap func(file) file
}

// file is what a recording needs of an *os.File.
type file interface {
	io.Writer
	Sync() error
	Close() error
}

// New reads the recipients and makes the folder.
func New(opt Options) (*Recorder, error) {
	for _, d := range []struct {
		value *time.Duration
		or    time.Duration
	}{{&opt.Sync, DefaultSync}, {&opt.Seal, DefaultSeal}, {&opt.Stall, DefaultStall}} {
		if *d.value <= 0 {
			*d.value = d.or
		}
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	r := &Recorder{opt: opt, gid: -1, syncs: make(chan struct{}, maxSyncs), begins: make(chan struct{}, maxBegins)}
	for _, text := range opt.Recipients {
		to, err := ParseRecipient(text)
		if err != nil {
			return nil, err
		}
		r.recipients = append(r.recipients, to)
	}
	if opt.Group != "" {
		g, err := user.LookupGroup(opt.Group)
		if err != nil {
			return nil, fmt.Errorf("the group of recordings (record.group): %w", err)
		}
		if r.gid, err = strconv.Atoi(g.Gid); err != nil {
			return nil, fmt.Errorf("the group of recordings (record.group): %w", err)
		}
	}
	if err := r.makeFolder(); err != nil {
		return nil, fmt.Errorf("make the folder of recordings (record.dir): %w", err)
	}
	return r, nil
}

// makeFolder makes the folder. One that is there belongs to whoever made it.
func (r *Recorder) makeFolder() error {
	if _, err := os.Stat(r.opt.Dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(r.opt.Dir, r.dirMode()); err != nil || r.gid < 0 {
		return err
	}
	return errors.Join(os.Lchown(r.opt.Dir, -1, r.gid), os.Chmod(r.opt.Dir, r.dirMode()))
}

// ParseRecipient reads a public key that recordings can be sealed to.
func ParseRecipient(text string) (age.Recipient, error) {
	to, err := age.ParseX25519Recipient(text)
	if err == nil {
		return to, nil
	}
	if hybrid, err := age.ParseHybridRecipient(text); err == nil {
		return hybrid, nil
	}
	return nil, fmt.Errorf("%q is no public key of age: %w", text, err)
}

func (r *Recorder) dirMode() os.FileMode {
	if r.gid < 0 {
		return 0o700
	}
	return 0o750
}

func (r *Recorder) fileMode() os.FileMode {
	if r.gid < 0 {
		return 0o600
	}
	return 0o640
}

// Check says whether something could be recorded now.
func (r *Recorder) Check() error {
	if err := unix.Access(r.opt.Dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("write to %s: %w", r.opt.Dir, err)
	}
	return r.checkSpace()
}

func (r *Recorder) checkSpace() error {
	var s unix.Statfs_t
	if err := unix.Statfs(r.opt.Dir, &s); err != nil {
		return fmt.Errorf("ask how much is free in %s: %w", r.opt.Dir, err)
	}
	if free := s.Bavail * uint64(s.Bsize); free < r.opt.MinFree {
		return fmt.Errorf("%w: %d of %d bytes in %s", ErrSpace, free, r.opt.MinFree, r.opt.Dir)
	}
	return nil
}

// Begin makes the file of a recording; an error means that nothing can be recorded now.
func (r *Recorder) Begin(m Meta) (*Recording, error) {
	type result struct {
		rec *Recording
		err error
	}
	select {
	case r.begins <- struct{}{}:
	default:
		return nil, fmt.Errorf("begin a recording: %w: %d others wait for it", ErrStalled, maxBegins)
	}
	var once sync.Mutex // held by whoever takes the result
	done := make(chan result, 1)
	late := false
	go func() {
		defer func() { <-r.begins }()
		rec, err := r.begin(m)
		once.Lock()
		defer once.Unlock()
		if late && err == nil {
			_ = rec.Close()
		}
		done <- result{rec, err}
	}()
	timer := time.NewTimer(r.opt.Stall)
	defer timer.Stop()
	select {
	case res := <-done:
		return res.rec, res.err
	case <-timer.C:
	}
	once.Lock()
	defer once.Unlock()
	select {
	case res := <-done:
		return res.rec, res.err
	default:
		late = true
		return nil, fmt.Errorf("begin a recording: %w (%v)", ErrStalled, r.opt.Stall)
	}
}

// validName is what may name a file.
var validName = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z_-]{0,127}$`)

// Names of files: folders by day, in UTC, and in them when it began and the session.
const (
	dayForm    = "2006-01-02"
	nameForm   = "20060102T150405Z"
	extension  = ".cast"
	sealedMark = ".age"
)

func (r *Recorder) begin(m Meta) (*Recording, error) {
	if !validName.MatchString(m.Channel) {
		return nil, fmt.Errorf("begin a recording: %q cannot name a file", m.Channel)
	}
	if m.Started.IsZero() {
		m.Started = r.opt.Now()
	}
	if err := r.checkSpace(); err != nil {
		return nil, fmt.Errorf("begin a recording: %w", err)
	}
	f, name, err := r.create(m)
	if err != nil {
		return nil, fmt.Errorf("begin a recording in %s: %w", r.opt.Dir, err)
	}
	rec, err := newRecording(r, f, name, m)
	if err != nil {
		_ = os.Remove(path.Join(r.opt.Dir, name))
		return nil, fmt.Errorf("begin a recording: %w", errors.Join(err, f.Close()))
	}
	return rec, nil
}

// create makes the file, and keeps a lock on it for as long as it is written: that
// is how Sweep knows, in whatever process it runs.
func (r *Recorder) create(m Meta) (*os.File, string, error) {
	root, err := os.OpenRoot(r.opt.Dir)
	if err != nil {
		return nil, "", err
	}
	defer root.Close()
	at := m.Started.UTC()
	day := at.Format(dayForm)
	made := root.Mkdir(day, r.dirMode())
	if made != nil && !errors.Is(made, fs.ErrExist) {
		return nil, "", made
	}
	if made == nil {
		if err := r.share(root, day, r.dirMode()); err != nil {
			return nil, "", err
		}
		if err := syncFolder(root, "."); err != nil {
			return nil, "", err
		}
	}
	if info, err := root.Lstat(day); err != nil || !info.IsDir() {
		return nil, "", errors.Join(err, fmt.Errorf("%s is no folder", day))
	}
	base := day + "/" + at.Format(nameForm) + "-" + m.Channel
	end := extension
	if len(r.recipients) > 0 {
		end += sealedMark
	}
	for n := 1; ; n++ {
		name := base + end
		if n > 1 {
			name = fmt.Sprintf("%s.%d%s", base, n, end)
		}
		f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, r.fileMode())
		if errors.Is(err, fs.ErrExist) && n < 1000 {
			continue
		}
		if err != nil {
			return nil, "", err
		}
		err = errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB), r.share(root, name, r.fileMode()), syncFolder(root, day))
		if err != nil {
			return nil, "", errors.Join(err, f.Close(), root.Remove(name))
		}
		return f, name, nil
	}
}

// share gives what was made to the group, whatever the umask.
func (r *Recorder) share(root *os.Root, name string, mode os.FileMode) error {
	if r.gid >= 0 {
		if err := root.Lchown(name, -1, r.gid); err != nil {
			return err
		}
	}
	return root.Chmod(name, mode)
}

func syncFolder(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
