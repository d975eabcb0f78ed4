// SPDX-License-Identifier: Apache-2.0

// Package spool keeps events on disk, in order, until the verifier has them. It
// owns state_dir/spool, and never looks into an event.
package spool

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// Class says how much hangs on an event.
type Class int

// The classes.
const (
	// Lazy events are synced within SyncWithin. They leave an eighth of the room to
	// the durable ones, on which logins hang.
	Lazy Class = iota
	// Durable events are on disk when Append returns.
	Durable
	// Cheap events are lazy ones that somebody can bring about as often as they
	// like: they leave a quarter of the room to the others.
	Cheap
)

// SyncWithin is how soon a lazy event is on disk, but for the time of the sync itself.
const SyncWithin = 50 * time.Millisecond

// DefaultMaxBytes bounds a spool unless Options says otherwise.
const DefaultMaxBytes = 64 << 20

// segmentSize is the size beyond which another segment begins.
const segmentSize = 1 << 20

// Errors of Append.
var (
	ErrFull     = errors.New("the spool is full")
	ErrTooLarge = fmt.Errorf("an event has over %d bytes", MaxEvent)
	ErrClosed   = errors.New("the spool is closed")
)

// Options is what Open needs.
type Options struct {
	Dir      string // made if it is not there, for its owner alone
	MaxBytes int64  // of all segments; 0: DefaultMaxBytes
	Now      func() time.Time
	Log      *slog.Logger

	create func(path string) (file, error) // nil: os.OpenFile; for the package's tests
}

// file is what a segment needs of an *os.File.
type file interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// Spool is an open log. It is safe for concurrent use.
type Spool struct {
	opt  Options
	lock *os.File

	mu       sync.Mutex
	segments []*segment // oldest first; the last is the active one
	number   uint64     // of the active segment
	pending  *round     // of those who wait for the next sync
	closed   bool

	dirty, urgent, ready chan struct{}
	stop                 chan struct{}
	syncer               sync.WaitGroup
}

type segment struct {
	path  string
	file  file
	epoch Epoch
	size  int64 // of what is whole and sound
	// synced is how much of it is on disk for sure.
	synced      int64
	last, acked uint64
	cursor      int64 // at or before the first event that is not acknowledged
	// unsynced holds the events of the active segment that may not be on disk.
	unsynced []Event
}

// round is one sync, and what came of it.
type round struct {
	done chan struct{}
	err  error
}

var segmentName = regexp.MustCompile(`^([0-9a-f]{16})\.log$`)

// Open reads what earlier processes left and begins a segment of its own. It
// fails if another process has the spool open. Close ends it.
func Open(opt Options) (*Spool, error) {
	if opt.MaxBytes == 0 {
		opt.MaxBytes = DefaultMaxBytes
	}
	if opt.create == nil {
		opt.create = func(path string) (file, error) {
			return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		}
	}
	if err := os.MkdirAll(opt.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("make spool: %w", err)
	}
	s := &Spool{
		opt: opt, dirty: make(chan struct{}, 1), urgent: make(chan struct{}, 1), ready: make(chan struct{}, 1),
		stop: make(chan struct{}),
	}
	if err := s.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open spool %s: %w", opt.Dir, err), s.closeFiles())
	}
	s.syncer.Go(s.keepSynced)
	return s, nil
}

func (s *Spool) open() (err error) {
	if s.lock, err = os.OpenFile(filepath.Join(s.opt.Dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return err
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return fmt.Errorf("another authd uses it: %w", err)
	}
	entries, err := os.ReadDir(s.opt.Dir)
	if err != nil {
		return err
	}
	acks := map[Epoch]uint64{}
	for _, e := range entries { // in the order of their names, and so of their numbers
		if !segmentName.MatchString(e.Name()) {
			continue
		}
		if _, err := fmt.Sscanf(e.Name(), "%x.log", &s.number); err != nil {
			return err
		}
		if err := s.load(filepath.Join(s.opt.Dir, e.Name()), acks); err != nil {
			return err
		}
	}
	for _, g := range s.segments {
		g.acked = min(acks[g.epoch], g.last)
	}
	if err := s.begin(); err != nil {
		return err
	}
	s.drop()
	notify(s.ready)
	return nil
}

// load reads a segment of an earlier process. It is never written to again.
func (s *Spool) load(path string, acks map[Epoch]uint64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(f, s.opt.MaxBytes))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c, ok := parse(b)
	if cut := len(b) - c.size; cut > 0 {
		s.opt.Log.Warn("a spooled record is not whole, as after a crash; reading ends there",
			slog.String("event", "spool_torn"), slog.String("file", path), slog.Int("bytes", cut))
	}
	if !ok {
		return f.Close() // not one whole header: nothing can have been in it
	}
	for epoch, seq := range c.acks {
		acks[epoch] = max(acks[epoch], seq)
	}
	s.segments = append(s.segments, &segment{
		path: path, file: f, epoch: c.epoch, size: int64(c.size), synced: int64(c.size),
		last: c.last, cursor: int64(headerSize),
	})
	return nil
}

// begin makes another active segment, which is on disk, with its name, when it returns.
func (s *Spool) begin() error {
	g := &segment{path: filepath.Join(s.opt.Dir, fmt.Sprintf("%016x.log", s.number+1)), cursor: int64(headerSize)}
	_, _ = rand.Read(g.epoch[:]) // never fails: crypto/rand.Read ends the process instead
	f, err := s.opt.create(g.path)
	if err != nil {
		return err
	}
	g.file = f
	header := appendHeader(nil, g.epoch)
	_, err = f.WriteAt(header, 0)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = durable.SyncDir(s.opt.Dir)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(g.path))
	}
	g.size, g.synced = int64(len(header)), int64(len(header))
	s.number++
	s.segments = append(s.segments, g)
	return nil
}

func (s *Spool) active() *segment { return s.segments[len(s.segments)-1] }

// Append adds an event. Without an error the event is in the log; with Durable
// it is on disk. With an error it is not there.
func (s *Spool) Append(body []byte, class Class) error {
	if len(body) > MaxEvent {
		return ErrTooLarge
	}
	s.mu.Lock()
	if err := s.append(body, class); err != nil {
		s.mu.Unlock()
		return fmt.Errorf("spool an event: %w", err)
	}
	if s.pending == nil {
		s.pending = &round{done: make(chan struct{})}
	}
	r := s.pending
	s.mu.Unlock()
	if class != Durable {
		notify(s.dirty)
		return nil
	}
	notify(s.urgent)
	<-r.done
	if r.err != nil {
		return fmt.Errorf("spool an event: %w", r.err)
	}
	return nil
}

func (s *Spool) append(body []byte, class Class) error {
	if s.closed {
		return ErrClosed
	}
	limit := s.opt.MaxBytes
	switch class {
	case Cheap:
		limit -= limit / 4
	case Lazy:
		limit -= limit / 8
	}
	if s.bytes()+int64(frameSize+maxRecord) > limit {
		return ErrFull
	}
	return s.put(Event{At: s.opt.Now(), Body: slices.Clone(body)})
}

func (s *Spool) bytes() (n int64) {
	for _, g := range s.segments {
		n += g.size
	}
	return n
}

// rotate begins another segment, once all of this one is on disk.
func (s *Spool) rotate() error {
	g := s.active()
	if g.synced < g.size {
		if err := g.file.Sync(); err != nil {
			return s.salvage(err)
		}
		g.synced, g.unsynced = g.size, nil
	}
	if err := s.begin(); err != nil {
		return err
	}
	s.drop()
	return nil
}

// put writes an event behind the others. What a failed write left is cut off.
func (s *Spool) put(e Event) error {
	g := s.active()
	e.Seq = g.last + 1
	if err := s.write(appendEvent(nil, e)); err != nil {
		return err
	}
	g.last = e.Seq
	g.unsynced = append(g.unsynced, e)
	return nil
}

func (s *Spool) write(b []byte) error {
	g := s.active()
	if _, err := g.file.WriteAt(b, g.size); err != nil {
		// What comes next is written over what is left of this.
		return errors.Join(err, g.file.Truncate(g.size))
	}
	g.size += int64(len(b))
	return nil
}

// salvage leaves a segment that could not be synced: the kernel may have dropped
// what it could not write, and another sync would not tell. The events in doubt
// are cut off and written to another segment.
func (s *Spool) salvage(cause error) error {
	g := s.active()
	doubt := g.unsynced
	g.unsynced = nil
	if len(doubt) > 0 {
		g.last = doubt[0].Seq - 1
	}
	g.size = g.synced
	err := g.file.Truncate(g.size)
	if err == nil {
		err = s.begin()
	}
	for _, e := range doubt {
		if err == nil {
			err = s.put(e)
		}
	}
	if err == nil {
		err = s.active().file.Sync()
	}
	if err != nil {
		err = errors.Join(cause, err)
		if s.pending != nil { // whoever came after the sync had begun
			s.pending.err = err
			close(s.pending.done)
			s.pending = nil
		}
		s.opt.Log.Error("events could not be synced and are lost to the verifier; the journal has them",
			slog.String("event", "spool_failed"), slog.Int("events", len(doubt)), slog.Any("error", err))
		return err
	}
	s.opt.Log.Warn("a segment of the spool could not be synced; its last events were written again",
		slog.String("event", "spool_salvaged"), slog.Int("events", len(doubt)), slog.Any("error", cause))
	n := s.active()
	n.synced, n.unsynced = n.size, nil
	return nil
}

// keepSynced syncs for all who wait, and for lazy events in time.
func (s *Spool) keepSynced() {
	for {
		select {
		case <-s.stop:
			s.sync()
			return
		case <-s.urgent:
		case <-s.dirty:
			soon := time.NewTimer(SyncWithin)
			select {
			case <-s.stop:
			case <-s.urgent:
			case <-soon.C:
			}
			soon.Stop()
		}
		s.sync()
	}
}

// sync is one round. Only the goroutine that syncs also changes segments. The lock is not held during the sync itself, so that others
// may append meanwhile: they are for the next round.
func (s *Spool) sync() {
	s.mu.Lock()
	r := s.pending
	s.pending = nil
	g := s.active()
	size, last := g.size, g.last
	s.mu.Unlock()
	if r == nil {
		return
	}
	err := g.file.Sync()
	s.mu.Lock()
	if err != nil {
		err = s.salvage(err)
	} else {
		g.synced = size
		g.unsynced = slices.DeleteFunc(g.unsynced, func(e Event) bool { return e.Seq <= last })
	}
	if s.active().size >= segmentSize {
		if err := s.rotate(); err != nil {
			s.opt.Log.Debug("no further segment of the spool", slog.Any("error", err)) // the next sync tries again
		}
	}
	s.mu.Unlock()
	r.err = err
	close(r.done)
	notify(s.ready)
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is known already
	}
}

// Batch is a run of events of one epoch.
type Batch struct {
	Epoch  Epoch
	Events []Event
}

// Next returns the oldest events that are on disk and not acknowledged: at most
// count, and at most size bytes of bodies unless the first alone has more. No
// events: there are none.
func (s *Spool) Next(count, size int) (Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.segments {
		var out Batch
		err := g.each(func(e Event) bool {
			if size -= len(e.Body); len(out.Events) == count || size < 0 && len(out.Events) > 0 {
				return false
			}
			out.Events = append(out.Events, e)
			return true
		})
		if err != nil {
			return out, fmt.Errorf("read the spool: %w", err)
		}
		if len(out.Events) > 0 {
			out.Epoch = g.epoch
			return out, nil
		}
	}
	return Batch{}, nil
}

// each calls f with the events that are on disk and not acknowledged, in order,
// until it returns false. It moves the cursor past those that are acknowledged.
func (g *segment) each(f func(Event) bool) error {
	at := g.cursor
	if g.acked == g.last {
		return nil
	}
	b := make([]byte, g.synced-at)
	if n, err := g.file.ReadAt(b, at); n < len(b) {
		return err
	}
	for len(b) > 0 {
		r, n := next(b)
		if n == 0 {
			return fmt.Errorf("%s has changed on disk at byte %d", g.path, at)
		}
		b, at = b[n:], at+int64(n)
		switch {
		case r.kind != kindEvent:
		case r.event.Seq <= g.acked:
			g.cursor = at
		case !f(r.event):
			return nil
		}
	}
	return nil
}

// Ack says that the verifier has the events of epoch up to seq. Others than those
// of the spool are ignored.
func (s *Spool) Ack(epoch Epoch, seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.segments, func(g *segment) bool { return g.epoch == epoch })
	if i < 0 || s.closed {
		return
	}
	g := s.segments[i]
	if seq = min(seq, g.last); seq <= g.acked {
		return
	}
	g.acked = seq
	if g != s.active() && g.acked == g.last {
		s.drop()
		return
	}
	// Without it the events are sent once more after a restart, and known there.
	if err := s.write(appendAck(nil, epoch, seq)); err != nil {
		s.opt.Log.Debug("acknowledgement not written", slog.Any("error", err))
	}
}

// Skip gives up on the events of a segment whose file cannot be read any more, so
// that those behind it are reported.
func (s *Spool) Skip() (lost int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	for _, g := range s.segments {
		if g.acked < g.last {
			lost = int(g.last - g.acked)
			g.acked = g.last
			break
		}
	}
	s.drop()
	return lost
}

// drop removes the segments that hold nothing any more.
func (s *Spool) drop() {
	last := s.active()
	s.segments = slices.DeleteFunc(s.segments, func(g *segment) bool {
		if g == last || g.acked < g.last {
			return false
		}
		if err := errors.Join(g.file.Close(), os.Remove(g.path)); err != nil {
			s.opt.Log.Warn("a reported segment of the spool stays", slog.Any("error", err))
		}
		return true
	})
}

// Ready gets a value when there may be events to report.
func (s *Spool) Ready() <-chan struct{} { return s.ready }

// Len is how many events wait to be reported.
func (s *Spool) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, g := range s.segments {
		n += int(g.last - g.acked)
	}
	return n
}

// Oldest is the time of the oldest event that waits; zero if none does.
func (s *Spool) Oldest() time.Time {
	b, err := s.Next(1, 0)
	if err != nil || len(b.Events) == 0 {
		return time.Time{}
	}
	return b.Events[0].At
}

// Close syncs and ends the spool. Later calls of Append give ErrClosed.
func (s *Spool) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.stop)
	s.syncer.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeFiles()
}

func (s *Spool) closeFiles() error {
	var errs []error
	for _, g := range s.segments {
		errs = append(errs, g.file.Close())
	}
	s.segments = s.segments[:0]
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}
