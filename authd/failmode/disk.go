// SPDX-License-Identifier: Apache-2.0

package failmode

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// fileName is the memory's file in state_dir.
const fileName = "failmode.json"

// maxFile bounds the file when it is read, in bytes.
const maxFile = 32 << 20

// SaveTimeout bounds how long Decide waits for the disk. A disk that hangs shuts
// the door; it must not hold those who knock.
const SaveTimeout = 5 * time.Second

var (
	errSlow   = fmt.Errorf("state_dir did not take the count within %s", SaveTimeout)
	errClosed = errors.New("authd is stopping")
)

// disk keeps the file. One goroutine writes; those who wait meanwhile share the
// next write.
type disk struct {
	dir      string
	snapshot func() ([]byte, error)
	waiting  chan chan error // each wants a write that begins after now
	later    chan struct{}   // somebody wants one and does not wait
	stop     chan struct{}
	stopped  chan struct{}
}

func newDisk(dir string, snapshot func() ([]byte, error)) *disk {
	d := &disk{
		dir: dir, snapshot: snapshot, waiting: make(chan chan error, 256), later: make(chan struct{}, 1),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go d.run()
	return d
}

// save returns when what the memory holds now is on disk.
func (d *disk) save() error {
	timeout := time.NewTimer(SaveTimeout)
	defer timeout.Stop()
	done := make(chan error, 1)
	select {
	case d.waiting <- done:
	case <-d.stopped:
		return errClosed
	case <-timeout.C:
		return errSlow
	}
	select {
	case err := <-done:
		return err
	case <-d.stopped:
		return errClosed
	case <-timeout.C:
		return errSlow
	}
}

// saveLater asks for a write and does not wait. What fails is tried again with
// the next change.
func (d *disk) saveLater() {
	select {
	case d.later <- struct{}{}:
	default:
	}
}

func (d *disk) close() {
	close(d.stop)
	<-d.stopped
}

func (d *disk) run() {
	defer close(d.stopped)
	for {
		var first chan error
		select {
		case <-d.stop:
			_ = d.write()
			return
		case <-d.later:
		case first = <-d.waiting:
		}
		group := []chan error{first}
		for more := true; more; {
			select {
			case next := <-d.waiting:
				group = append(group, next)
			default:
				more = false
			}
		}
		err := d.write()
		for _, done := range group {
			if done != nil {
				done <- err
			}
		}
	}
}

// write replaces the file, and returns when file and name are on disk.
func (d *disk) write() error {
	text, err := d.snapshot()
	if err != nil {
		return fmt.Errorf("encode memory of fail modes: %w", err)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("make state_dir: %w", err)
	}
	return durable.Replace(filepath.Join(d.dir, fileName), text, 0o600)
}

// load reads the file; the state is empty where there is none. It removes what a
// killed authd left half written.
func load(dir string) (state, error) {
	empty := state{People: map[string]uses{}}
	path := filepath.Join(dir, fileName)
	durable.RemoveLeftovers(path)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return empty, nil
	}
	if err != nil {
		return empty, fmt.Errorf("open memory of fail modes: %w", err)
	}
	defer f.Close()
	if err := ours(f); err != nil {
		return empty, fmt.Errorf("%s: %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return empty, fmt.Errorf("read memory of fail modes: %w", err)
	}
	s, err := decode(text)
	if err != nil {
		return empty, fmt.Errorf("%s: %w", path, err)
	}
	return s, nil
}

func decode(text []byte) (state, error) {
	var s state
	if len(text) > maxFile {
		return s, fmt.Errorf("over %d bytes", maxFile)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		return s, err
	}
	return s, s.clean()
}

// ours refuses a memory that another account could have made up.
func ours(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || owner.Uid != 0 && int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return errors.New("others could have written it")
	}
	return nil
}

func (g *Gate) snapshot() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return json.Marshal(g.state)
}
