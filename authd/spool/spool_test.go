// SPDX-License-Identifier: Apache-2.0

package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string, change func(*Options)) *Spool {
	t.Helper()
	o := Options{Dir: dir, Now: func() time.Time { return start }, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func add(t *testing.T, s *Spool, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err := s.Append([]byte(text), Durable); err != nil {
			t.Fatal(err)
		}
	}
}

// drain reads and acknowledges everything, two events at a time.
func drain(t *testing.T, s *Spool) (out []string) {
	t.Helper()
	for {
		b, err := s.Next(2, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Events) == 0 {
			return out
		}
		for _, e := range b.Events {
			out = append(out, string(e.Body))
		}
		s.Ack(b.Epoch, b.Events[len(b.Events)-1].Seq)
	}
}

func want(t *testing.T, got []string, texts ...string) {
	t.Helper()
	if !slices.Equal(got, texts) {
		t.Fatalf("got %q, want %q", got, texts)
	}
}

func TestEventsOutliveRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := open(t, dir, nil)
	add(t, s, "a", "b", "c")
	b, err := s.Next(1, 1<<20)
	if err != nil || len(b.Events) != 1 || b.Events[0].Seq != 1 || !b.Events[0].At.Equal(start) {
		t.Fatalf("got %+v, %v", b, err)
	}
	s.Ack(b.Epoch, 1)
	if s.Len() != 2 || !s.Oldest().Equal(start) {
		t.Errorf("%d events, oldest %s", s.Len(), s.Oldest())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Append([]byte("late"), Lazy); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	s = open(t, dir, nil)
	add(t, s, "d")
	second, err := s.Next(9, 1<<20)
	if err != nil || second.Epoch != b.Epoch || second.Events[0].Seq != 2 || len(second.Events) != 2 {
		t.Fatalf("got %+v, %v", second, err)
	}
	want(t, drain(t, s), "b", "c", "d")
	if s.Len() != 0 || !s.Oldest().IsZero() {
		t.Errorf("%d events, oldest %s", s.Len(), s.Oldest())
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, nil)
	want(t, drain(t, s))
	if files, _ := filepath.Glob(filepath.Join(dir, "*.log")); len(files) != 1 {
		t.Errorf("segments stay: %q", files)
	}
}

func TestLazyEventsAreSyncedSoon(t *testing.T) {
	s := open(t, t.TempDir(), nil)
	<-s.Ready()
	if err := s.Append([]byte("a"), Lazy); err != nil {
		t.Fatal(err)
	}
	<-s.Ready()
	want(t, drain(t, s), "a")
}

func TestOnlyOneProcess(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, nil)
	if _, err := Open(Options{Dir: dir, Now: time.Now, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "another authd") {
		t.Errorf("got %v", err)
	}
}

func TestSegmentsGoWhenReported(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	big := strings.Repeat("x", MaxEvent)
	n := 3 * segmentSize / MaxEvent
	for range n {
		add(t, s, big)
	}
	count := func() int {
		files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		return len(files)
	}
	if count() < 3 {
		t.Fatalf("%d segments", count())
	}
	if got := drain(t, s); len(got) != n {
		t.Fatalf("%d events of %d", len(got), n)
	}
	if count() != 1 {
		t.Errorf("%d segments are left", count())
	}
}

// What ordinary users can bring about does not use up the room of the others, and
// neither leaves no room for what a login hangs on.
func TestFull(t *testing.T) {
	s := open(t, t.TempDir(), func(o *Options) { o.MaxBytes = 64 << 10 })
	fill := func(c Class) (n int) {
		for {
			err := s.Append(make([]byte, 1000), c)
			if errors.Is(err, ErrFull) {
				return n
			}
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
	}
	cheap, lazy, durable := fill(Cheap), fill(Lazy), fill(Durable)
	if cheap < 35 || lazy < 5 || durable < 5 || cheap+lazy+durable > 64 {
		t.Errorf("%d cheap ones, then %d lazy ones, then %d durable ones", cheap, lazy, durable)
	}
	if err := s.Append(make([]byte, MaxEvent+1), Lazy); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

// Whatever byte a crash ends the file at, the whole events before it are there,
// and events after the restart as well.
func TestTornTail(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	add(t, s, "first", "second", "third")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.log"))
	whole, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"first", "second", "third"}
	ends := []int{headerSize}
	for _, text := range all {
		ends = append(ends, ends[len(ends)-1]+frameSize+1+eventHead+len(text))
	}
	for cut := 0; cut <= len(whole); cut++ {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(files[0])), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, nil)
		add(t, s, "later")
		n := 0
		for n < len(all) && cut >= ends[n+1] {
			n++
		}
		want(t, drain(t, s), append(slices.Clone(all[:n]), "later")...)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// faulty is a file that fails when told to.
type faulty struct {
	*os.File
	f *faults
}

type faults struct {
	mu                    sync.Mutex
	write, sync, truncate bool
}

func (f *faults) set(write, sync, truncate bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write, f.sync, f.truncate = write, sync, truncate
}

func (f *faults) get() (write, sync, truncate bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.write, f.sync, f.truncate
}

var errDisk = errors.New("disk")

func (f faulty) WriteAt(b []byte, off int64) (int, error) {
	if write, _, _ := f.f.get(); write {
		n, _ := f.File.WriteAt(b[:len(b)/2], off) // a full disk takes a part
		return n, errDisk
	}
	return f.File.WriteAt(b, off)
}

func (f faulty) Sync() error {
	if _, sync, _ := f.f.get(); sync {
		return errDisk
	}
	return f.File.Sync()
}

func (f faulty) Truncate(n int64) error {
	if _, _, truncate := f.f.get(); truncate {
		return errDisk
	}
	return f.File.Truncate(n)
}

func withFaults(f *faults) func(*Options) {
	return func(o *Options) {
		o.create = func(path string) (file, error) {
			osFile, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
			return faulty{osFile, f}, err
		}
	}
}

func TestFailedWritesLeaveNothing(t *testing.T) {
	for _, truncate := range []bool{false, true} {
		f := &faults{}
		dir := t.TempDir()
		s := open(t, dir, withFaults(f))
		add(t, s, "a")
		f.set(true, false, truncate)
		if err := s.Append([]byte("a long one that is cut in the middle"), Durable); !errors.Is(err, errDisk) {
			t.Fatalf("got %v", err)
		}
		f.set(false, false, false)
		add(t, s, "b")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		want(t, drain(t, open(t, dir, nil)), "a", "b")
	}
}

// A sync that fails once costs nothing; one that fails for good is told to those
// who wait, and then the event is not there.
func TestFailedSyncs(t *testing.T) {
	f := &faults{}
	dir := t.TempDir()
	s := open(t, dir, withFaults(f))
	add(t, s, "a")
	f.set(false, true, false)
	if err := s.Append([]byte("lost"), Durable); !errors.Is(err, errDisk) {
		t.Fatalf("got %v", err)
	}
	f.set(false, false, false)
	add(t, s, "b")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, nil)
	want(t, drain(t, s), "a", "b")
}

func TestSalvage(t *testing.T) {
	f := &faults{}
	dir := t.TempDir()
	s := open(t, dir, withFaults(f))
	add(t, s, "a")
	s.mu.Lock()
	s.segments[0].file = once{s.segments[0].file, new(sync.Once)}
	s.mu.Unlock()
	add(t, s, "b")
	add(t, s, "c")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want(t, drain(t, open(t, dir, nil)), "a", "b", "c")
}

// once fails the first sync alone.
type once struct {
	file
	o *sync.Once
}

func (f once) Sync() (err error) {
	f.o.Do(func() { err = errDisk })
	if err != nil {
		return err
	}
	return f.file.Sync()
}

// Appending from many sides while reports go on loses and doubles nothing, over
// restarts without warning.
func TestParallel(t *testing.T) {
	dir := t.TempDir()
	seen := map[string]int{}
	marks := map[Epoch]uint64{} // the verifier's
	wanted := 0
	for round := range 5 {
		s := open(t, dir, nil)
		done := make(chan struct{})
		var report sync.WaitGroup
		report.Go(func() {
			for {
				b, err := s.Next(1+rand.IntN(5), 1<<20)
				if err != nil {
					t.Error(err)
					return
				}
				for _, e := range b.Events {
					if e.Seq > marks[b.Epoch] {
						marks[b.Epoch] = e.Seq
						seen[string(e.Body)]++
					}
				}
				if len(b.Events) > 0 && rand.IntN(3) > 0 { // else the answer was lost
					s.Ack(b.Epoch, b.Events[len(b.Events)-1].Seq)
				}
				if len(b.Events) == 0 {
					select {
					case <-done:
						return
					case <-s.Ready():
					}
				}
			}
		})
		var writers sync.WaitGroup
		for w := range 8 {
			wanted += 25
			writers.Go(func() {
				for i := range 25 {
					if err := s.Append(fmt.Appendf(nil, "%d-%d-%d", round, w, i), []Class{Lazy, Durable, Cheap}[i%3]); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writers.Wait()
		if round == 4 {
			for s.Len() > 0 {
				time.Sleep(time.Millisecond)
			}
		}
		close(done)
		notify(s.ready)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		report.Wait()
	}
	for text, n := range seen {
		if n != 1 {
			t.Errorf("%s came %d times", text, n)
		}
	}
	if len(seen) != wanted {
		t.Errorf("%d events of %d", len(seen), wanted)
	}
}

func FuzzSegment(f *testing.F) {
	whole := appendHeader(nil, Epoch{1})
	whole = appendEvent(whole, Event{Seq: 1, At: start, Body: []byte("{}")})
	whole = appendAck(whole, Epoch{1}, 1)
	whole = appendEvent(whole, Event{Seq: 2, At: start, Body: []byte("x")})
	f.Add(whole)
	f.Add(whole[:len(whole)-1])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := parse(b)
		if !ok {
			return
		}
		if c.size < headerSize || c.size > len(b) {
			t.Fatalf("size %d of %d bytes", c.size, len(b))
		}
		// What was read is what would be written.
		again := appendHeader(nil, c.epoch)
		for rest := b[headerSize:c.size]; len(rest) > 0; {
			r, n := next(rest)
			if n == 0 {
				t.Fatal("an unsound record within the size")
			}
			if r.kind == kindEvent {
				again = appendEvent(again, r.event)
			} else {
				again = appendAck(again, r.epoch, r.seq)
			}
			rest = rest[n:]
		}
		if !bytes.Equal(again, b[:c.size]) {
			t.Fatal("it does not come out as it was")
		}
	})
}

var _ io.Closer = (*Spool)(nil)
