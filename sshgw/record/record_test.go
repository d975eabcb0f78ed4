// SPDX-License-Identifier: Apache-2.0

package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"filippo.io/age"
	"golang.org/x/sys/unix"
)

var began = time.Date(2026, 3, 1, 10, 20, 30, 0, time.UTC)

func meta() Meta {
	return Meta{
		Channel: "s1", Connection: "c1", Session: "5e55", User: "alice", Target: "db1", Login: "root", Source: "192.0.2.1", Rule: "dba",
		Term: "xterm", Terminal: true, Width: 80, Height: 24, Started: began,
	}
}

// steps is a clock that is a second later each time it is asked.
func steps() func() time.Time {
	var mu sync.Mutex
	at := began
	return func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		at = at.Add(time.Second)
		return at
	}
}

func recorder(t testing.TB, change func(*Options)) *Recorder {
	t.Helper()
	opt := Options{Dir: filepath.Join(t.TempDir(), "recordings"), Now: steps()}
	if change != nil {
		change(&opt)
	}
	r, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func begin(t testing.TB, r *Recorder, m Meta) *Recording {
	t.Helper()
	rec, err := r.Begin(m)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// readAll returns what a recording says until it ends or cannot be read further.
func readAll(t testing.TB, path string, keys ...age.Identity) (*Reader, []Event, error) {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	defer f.Close()
	c, err := NewReader(f, keys...)
	if err != nil {
		return nil, nil, err
	}
	var events []Event
	for {
		e, err := c.Next()
		if errors.Is(err, io.EOF) {
			return c, events, nil
		}
		if err != nil {
			return c, events, err
		}
		if e.Kind != Other {
			events = append(events, e)
		}
	}
}

func said(events []Event, kind Kind) string {
	var b bytes.Buffer
	for _, e := range events {
		if e.Kind == kind {
			b.Write(e.Data)
		}
	}
	return b.String()
}

func TestARecordingIsAsciicast(t *testing.T) {
	r := recorder(t, nil)
	rec := begin(t, r, meta())
	must(t, rec.Output([]byte("$ \x1b[1mls\x1b[0m \"a\\b\" é\r\n")))
	must(t, rec.Resize(132, 50))
	must(t, rec.Typed([]byte("secret")))
	must(t, rec.Output([]byte("\xff\xfe")))
	must(t, rec.Close())
	text, err := os.ReadFile(filepath.Join(r.opt.Dir, rec.Name()))
	must(t, err)
	want := `{"version":2,"width":80,"height":24,"timestamp":1772360430,"title":"alice: root@db1","env":{"TERM":"xterm"},"sallyport":{"channel":"s1","connection":"c1","session":"5e55","user":"alice","target":"db1","login":"root","source":"192.0.2.1","rule":"dba","terminal":true,"input":false}}
[1.000000, "o", "$ \u001b[1mls\u001b[0m \"a\\b\" é\r\n"]
[2.000000, "r", "132x50"]
[3.000000, "ob", "//4="]
`
	got := string(text)
	if !strings.HasPrefix(got, want) || strings.Contains(got, "secret") {
		t.Errorf("the file is\n%s\nand not\n%s", got, want)
	}
	for line := range strings.Lines(got) {
		if !json.Valid([]byte(line)) {
			t.Errorf("no JSON: %s", line)
		}
	}
}

func TestWhatIsTypedIsRecordedOnlyIfAsked(t *testing.T) {
	r := recorder(t, nil)
	m := meta()
	m.Input = true
	rec := begin(t, r, m)
	must(t, rec.Typed([]byte("ls\r")))
	must(t, rec.Output([]byte("file\r\n")))
	must(t, rec.Close())
	_, events, err := readAll(t, filepath.Join(r.opt.Dir, rec.Name()))
	must(t, err)
	if in, out := said(events, Input), said(events, Output); in != "ls\r" || out != "file\r\n" {
		t.Errorf("typed %q, written %q", in, out)
	}
}

func TestNamesAndModes(t *testing.T) {
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	r := recorder(t, nil)
	r.gid = os.Getgid()
	rec := begin(t, r, meta())
	again := begin(t, r, meta())
	defer again.Close()
	must(t, rec.Close())
	if rec.Name() != "2026-03-01/20260301T102030Z-s1.cast" || again.Name() != "2026-03-01/20260301T102030Z-s1.2.cast" {
		t.Errorf("names %q, %q", rec.Name(), again.Name())
	}
	for name, want := range map[string]fs.FileMode{rec.Name(): 0o640, "2026-03-01": fs.ModeDir | 0o750} {
		info, err := os.Stat(filepath.Join(r.opt.Dir, name))
		must(t, err)
		if info.Mode() != want {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	for _, session := range []string{"", "..", "../x", "a/b", "a\x00b", ".hidden", "-rf", strings.Repeat("x", 200), "a b", "é"} {
		m := meta()
		m.Channel = session
		if _, err := r.Begin(m); err == nil {
			t.Errorf("session %q names a file", session)
		}
	}
}

func TestAFolderOfADayThatIsALinkIsNotFollowed(t *testing.T) {
	r := recorder(t, nil)
	outside := t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(r.opt.Dir, "2026-03-01")))
	if _, err := r.Begin(meta()); err == nil {
		t.Error("a recording was begun through a link")
	}
	left, err := os.ReadDir(outside)
	must(t, err)
	if len(left) > 0 {
		t.Errorf("%v was made outside", left)
	}
}

// What a person or a target can put into a recording must come back byte by byte,
// however it was cut.
func FuzzLossless(f *testing.F) {
	f.Add([]byte("plain\r\n"), uint8(3))
	f.Add([]byte("é日本\xff\xc3\x28\xe2\x82"), uint8(1))
	f.Add([]byte("\x00\x01\x7f\"\\\u2028\xf0\x9f\x98\x80"), uint8(2))
	f.Add(bytes.Repeat([]byte("\x80text"), 300), uint8(200))
	f.Add([]byte("1234567\"12345678\\é\x1f12\x7f\x80\"\"\"abcdefgh\n"), uint8(255))
	f.Fuzz(func(t *testing.T, data []byte, cut uint8) {
		s := stream{code: 'o'}
		var dst []byte
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(cut)+1)
			dst = s.append(dst, 0, rest[:n])
			rest = rest[n:]
		}
		dst = s.end(dst, 0)
		var got []byte
		for line := range bytes.Lines(bytes.TrimPrefix(dst, []byte("\n"))) {
			e, _, err := parseEvent(line)
			if err != nil || e.Kind != Output {
				t.Fatalf("%q is no event: %v", line, err)
			}
			got = append(got, e.Data...)
		}
		if !bytes.Equal(got, data) {
			t.Fatalf("%q comes back as %q", data, got)
		}
	})
}

func TestBinaryDataDoesNotBlowUp(t *testing.T) {
	s := stream{code: 'o'}
	zeros := make([]byte, 32<<10)
	if n := len(s.append(nil, 0, zeros)); n > len(zeros)*3/2 {
		t.Errorf("%d bytes for %d zeros", n, len(zeros))
	}
	noise := bytes.Repeat([]byte{0xff, 'a', 0xc0, 'b'}, 8<<10)
	if n := len(s.append(nil, 0, noise)); n > len(noise)*3/2 {
		t.Errorf("%d bytes for %d of noise", n, len(noise))
	}
}

// fake is a file whose disk does as a test wants.
type fake struct {
	file
	mu    sync.Mutex
	syncs int
	write func([]byte) (int, error) // nil: the file's
	sync  func() error              // nil: the file's
}

func (f *fake) Write(p []byte) (int, error) {
	f.mu.Lock()
	do := f.write
	f.mu.Unlock()
	if do != nil {
		return do(p)
	}
	return f.file.Write(p)
}

func (f *fake) Sync() error {
	f.mu.Lock()
	f.syncs++
	do := f.sync
	f.mu.Unlock()
	if do != nil {
		return do()
	}
	return f.file.Sync()
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncs
}

func (f *fake) fails(write func([]byte) (int, error), sync func() error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write, f.sync = write, sync
}

func faulty(r *Recorder) *fake {
	f := &fake{}
	r.wrap = func(real file) file {
		f.file = real
		return f
	}
	return f
}

// waitFailed waits for the end of a recording; in a bubble its time passes at once.
func waitFailed(t *testing.T, rec *Recording) {
	t.Helper()
	select {
	case <-rec.Failed():
	case <-time.After(10 * time.Minute):
		t.Fatal("the recording did not fail")
	}
}

func TestWhatIsRecordedIsOnDiskWithinSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder(t, func(o *Options) { o.Now = time.Now; o.Sync = 3 * time.Second })
		disk := faulty(r)
		rec := begin(t, r, meta())
		path := filepath.Join(r.opt.Dir, rec.Name())
		must(t, rec.Output([]byte("hello")))
		time.Sleep(2 * time.Second)
		synctest.Wait()
		before := disk.count()
		time.Sleep(2 * time.Second)
		synctest.Wait()
		text, err := os.ReadFile(path)
		must(t, err)
		if !strings.HasSuffix(string(text), `"o", "hello"]`) || disk.count() != before+1 {
			t.Errorf("after the time of a sync the file holds %q; %d syncs, %d before", text, disk.count(), before)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if disk.count() != before+1 {
			t.Error("a recording that is idle is synced")
		}
		must(t, rec.Close())
	})
}

func TestADiskThatFailsEndsTheRecording(t *testing.T) {
	full := func([]byte) (int, error) { return 0, unix.ENOSPC }
	quota := func([]byte) (int, error) { return 3, unix.EDQUOT }
	readOnly := func([]byte) (int, error) { return 0, unix.EROFS }
	broken := func() error { return unix.EIO }
	for name, c := range map[string]struct {
		write func([]byte) (int, error)
		sync  func() error
		want  error
	}{
		"disk full":             {full, nil, unix.ENOSPC},
		"quota":                 {quota, nil, unix.EDQUOT},
		"read-only file system": {readOnly, nil, unix.EROFS},
		"sync":                  {nil, broken, unix.EIO},
		"panic":                 {func([]byte) (int, error) { panic("x") }, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := recorder(t, func(o *Options) { o.Now = time.Now })
				disk := faulty(r)
				rec := begin(t, r, meta())
				disk.fails(c.write, c.sync)
				must(t, rec.Output([]byte("lost")))
				waitFailed(t, rec)
				if err := rec.Err(); err == nil || (c.want != nil && !errors.Is(err, c.want)) {
					t.Errorf("Err is %v", err)
				}
				if err := rec.Output([]byte("more")); err == nil {
					t.Error("Output goes on")
				}
				if err := rec.Close(); err == nil {
					t.Error("Close says that all is well")
				}
			})
		})
	}
}

func TestAFullDeviceEndsTheRecording(t *testing.T) {
	r := recorder(t, func(o *Options) { o.Sync = time.Millisecond })
	disk := faulty(r)
	rec := begin(t, r, meta())
	dev, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	must(t, err)
	defer dev.Close()
	disk.fails(dev.Write, nil)
	must(t, rec.Output([]byte("lost")))
	waitFailed(t, rec)
	if !errors.Is(rec.Err(), unix.ENOSPC) {
		t.Error(rec.Err())
	}
}

func TestARecordingThatIsTakenAwayFails(t *testing.T) {
	for name, do := range map[string]func(dir, file string) error{
		"removed": func(_, file string) error { return os.Remove(file) },
		"folder":  func(dir, _ string) error { return os.RemoveAll(dir) },
		"moved":   func(dir, _ string) error { return os.Rename(dir, dir+".old") },
		"replaced": func(_, file string) error {
			return errors.Join(os.Remove(file), os.WriteFile(file, []byte("{}"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := recorder(t, func(o *Options) { o.Sync = time.Millisecond; o.Now = time.Now })
			rec := begin(t, r, meta())
			must(t, do(r.opt.Dir, filepath.Join(r.opt.Dir, rec.Name())))
			must(t, rec.Output([]byte("x")))
			waitFailed(t, rec)
			if !errors.Is(rec.Err(), ErrMoved) || rec.Close() == nil {
				t.Errorf("Err is %v", rec.Err())
			}
			if name == "folder" || name == "moved" {
				if _, err := r.Begin(meta()); err == nil {
					t.Error("a recording begins in a folder that is not there")
				}
			}
		})
	}
}

func TestADiskThatHangsEndsTheRecordingByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder(t, func(o *Options) { o.Now = time.Now; o.Stall = 7 * time.Second })
		disk := faulty(r)
		rec := begin(t, r, meta())
		hang := make(chan struct{})
		disk.fails(func(p []byte) (int, error) { <-hang; return len(p), nil }, nil)
		done := make(chan error)
		go func() {
			var err error
			for n := 0; err == nil && n < 1000; n++ {
				err = rec.Output(make([]byte, piece))
			}
			done <- err
		}()
		if err := <-done; !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "record.stall") {
			t.Errorf("Output returns %v", err)
		}
		if err := rec.Close(); !errors.Is(err, ErrStalled) {
			t.Errorf("Close returns %v", err)
		}
		close(hang)
		synctest.Wait()
	})
}

func TestADiskThatHangsKeepsSoManyThreadsAndNoMore(t *testing.T) {
	r := recorder(t, nil)
	for range maxBegins {
		r.begins <- struct{}{}
	}
	if _, err := r.Begin(meta()); !errors.Is(err, ErrStalled) {
		t.Errorf("Begin returns %v", err)
	}
	<-r.begins
	must(t, begin(t, r, meta()).Close())
}

func TestASlowDiskSlowsTheSessionAndLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recorder(t, func(o *Options) { o.Now = time.Now; o.Stall = time.Hour })
		disk := faulty(r)
		rec := begin(t, r, meta())
		release := make(chan struct{})
		disk.fails(func(p []byte) (int, error) { <-release; return disk.file.Write(p) }, nil)
		const pieces = 400
		var sent []byte
		took := 0
		go func() {
			for n := range pieces {
				p := bytes.Repeat([]byte{byte('a' + n%26)}, piece)
				sent = append(sent, p...)
				if rec.Output(p) == nil {
					took++
				}
			}
		}()
		synctest.Wait()
		// As much may wait as is being written.
		if took > 2*waiting/piece+2 {
			t.Errorf("%d pieces were taken while the disk wrote none", took)
		}
		rec.mu.Lock()
		if cap(rec.buf) > 2*waiting {
			t.Errorf("%d bytes wait", cap(rec.buf))
		}
		rec.mu.Unlock()
		close(release)
		synctest.Wait()
		must(t, rec.Close())
		_, events, err := readAll(t, filepath.Join(r.opt.Dir, rec.Name()))
		must(t, err)
		if took != pieces || said(events, Output) != string(sent) {
			t.Errorf("%d of %d pieces; what was read has %d bytes of %d", took, pieces, len(said(events, Output)), len(sent))
		}
	})
}

func TestTooLittleSpaceRefusesAndEnds(t *testing.T) {
	r := recorder(t, func(o *Options) { o.Sync = time.Millisecond; o.Now = time.Now })
	rec := begin(t, r, meta())
	r.opt.MinFree = 1 << 62
	if _, err := r.Begin(meta()); !errors.Is(err, ErrSpace) {
		t.Errorf("Begin says %v", err)
	}
	if !errors.Is(r.Check(), ErrSpace) {
		t.Error("Check finds nothing")
	}
	must(t, rec.Output([]byte("x")))
	waitFailed(t, rec)
	if !errors.Is(rec.Err(), ErrSpace) {
		t.Error(rec.Err())
	}
}

func TestConcurrentUse(t *testing.T) {
	r := recorder(t, func(o *Options) { o.Sync = time.Millisecond; o.Now = time.Now })
	m := meta()
	m.Input, m.Started = true, time.Now()
	rec := begin(t, r, m)
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 200 {
				_ = rec.Output(bytes.Repeat([]byte("o"), 1000))
				_ = rec.Typed([]byte("i"))
				_ = rec.Resize(80, 24)
			}
		})
	}
	all.Wait()
	must(t, rec.Close())
	must(t, rec.Close())
	if err := rec.Output([]byte("late")); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close Output says %v", err)
	}
	_, events, err := readAll(t, filepath.Join(r.opt.Dir, rec.Name()))
	must(t, err)
	if o, i := said(events, Output), said(events, Input); len(o) != 800_000 || len(i) != 800 {
		t.Errorf("%d bytes of output, %d of input", len(o), len(i))
	}
}
