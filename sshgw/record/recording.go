// SPDX-License-Identifier: Apache-2.0

package record

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"filippo.io/age"
)

const (
	// burst is how much is written at once, without waiting for the next sync.
	burst = 64 << 10
	// waiting is how much may wait for the disk; beyond it the session waits.
	waiting = 1 << 20
	// piece bounds what one event holds.
	piece = 32 << 10
	// chunk is what age seals at a time.
	chunk = 64 << 10
)

// buffers holds those that no recording needs: one that is idle has none.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, burst+8*piece)
	return &b
}}

// Recording is one session's. Its methods are safe for concurrent use. An error of any
// is for good: the recording is incomplete.
//
// What is taken waits in memory until there is a burst of it or it is time to sync; a
// goroutine then writes it, and is gone when nothing is left. When the disk is slower
// than the session, Output waits: no byte is lost, and memory is bounded.
type Recording struct {
	recorder *Recorder
	file     file
	sink     io.Writer      // the file, or what seals into it
	seal     io.WriteCloser // nil: not sealed
	path     string
	name     string
	made     os.FileInfo
	started  time.Time
	input    bool
	failed   chan struct{}

	mu      sync.Mutex
	changed *sync.Cond // buf was taken, writing or syncing ended, or err was set
	err     error
	closed  bool
	out, in stream
	last    time.Duration // of the last event
	buf     []byte        // what waits; nil: nothing
	taken   int64         // bytes of text, all in all
	written int64         // of these, given to the sink
	writing bool
	syncing bool
	timer   *time.Timer // of the next sync
	armed   bool
	open    time.Time // since when a chunk of age's waits to be full; zero: none does
}

func newRecording(r *Recorder, f *os.File, name string, m Meta) (*Recording, error) {
	made, err := f.Stat()
	if err != nil {
		return nil, err
	}
	rec := &Recording{
		recorder: r, file: f, path: filepath.Join(r.opt.Dir, filepath.FromSlash(name)), name: name, made: made,
		started: m.Started, input: m.Input, failed: make(chan struct{}),
		out: stream{code: 'o'}, in: stream{code: 'i'},
	}
	if r.wrap != nil {
		rec.file = r.wrap(f)
	}
	rec.sink = rec.file
	if len(r.recipients) > 0 {
		rec.seal, err = age.Encrypt(rec.file, r.recipients...)
		if err != nil {
			return nil, fmt.Errorf("seal: %w", err)
		}
		rec.sink = rec.seal
	}
	rec.changed = sync.NewCond(&rec.mu)
	rec.timer = time.AfterFunc(time.Hour, rec.tick)
	rec.timer.Stop()
	head, err := header(m)
	if err != nil {
		return nil, err
	}
	// The head is written at once: a disk that is full says so before the session begins.
	if _, err := rec.sink.Write(head); err != nil {
		return nil, err
	}
	if err := rec.file.Sync(); err != nil {
		return nil, err
	}
	rec.taken, rec.written = int64(len(head)), int64(len(head))
	return rec, nil
}

// Name is the file's, from the folder of recordings.
func (r *Recording) Name() string { return r.name }

// Output takes what the target wrote. The bytes are copied.
func (r *Recording) Output(p []byte) error { return r.take(&r.out, p) }

// Typed takes what the person typed; without Meta.Input it does nothing.
func (r *Recording) Typed(p []byte) error {
	if !r.input {
		return r.Err()
	}
	return r.take(&r.in, p)
}

// Resize takes a new size of the terminal, within what a Reader takes.
func (r *Recording) Resize(width, height int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.room(); err != nil {
		return err
	}
	r.add(appendEvent(r.buf, r.now(), "r", fmt.Sprintf("%dx%d", bounded(width), bounded(height))))
	return nil
}

func (r *Recording) take(s *stream, p []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(p) > 0 {
		if err := r.room(); err != nil {
			return err
		}
		n := min(len(p), piece)
		r.add(s.append(r.buf, r.now(), p[:n]))
		p = p[n:]
	}
	return r.state()
}

func (r *Recording) state() error {
	if r.err == nil && r.closed {
		return ErrClosed
	}
	return r.err
}

// room waits until something may be added to buf. With r.mu held.
func (r *Recording) room() error {
	for r.state() == nil && len(r.buf) >= waiting {
		r.write()
		r.changed.Wait()
	}
	if r.buf == nil && r.state() == nil {
		r.buf = (*buffers.Get().(*[]byte))[:0]
	}
	return r.state()
}

// add makes buf what it has become, and sees to it that it is written. With r.mu held.
func (r *Recording) add(buf []byte) {
	before := r.taken
	r.taken += int64(len(buf) - len(r.buf))
	r.buf = buf
	if r.seal != nil && (r.open.IsZero() || before/chunk != r.taken/chunk) {
		r.open = r.recorder.opt.Now()
	}
	if len(r.buf) >= burst {
		r.write()
	}
	r.arm(r.recorder.opt.Sync)
}

// now is the time of an event: never before that of the one before it. With r.mu held.
func (r *Recording) now() time.Duration {
	r.last = max(r.last, r.recorder.opt.Now().Sub(r.started))
	return r.last
}

// arm sees to a sync in a while. With r.mu held.
func (r *Recording) arm(in time.Duration) {
	if !r.armed && !r.syncing && !r.closed && r.err == nil {
		r.armed = true
		r.timer.Reset(in)
	}
}

// write sees to buf being written. With r.mu held.
func (r *Recording) write() {
	if !r.writing && len(r.buf) > 0 && r.err == nil {
		r.writing = true
		go r.writer()
	}
}

// writer gives to the sink what waits, until nothing does.
func (r *Recording) writer() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.buf) > 0 && r.err == nil {
		buf := r.buf
		r.buf = nil
		r.mu.Unlock()
		err := r.guard("write", func() error {
			_, err := r.sink.Write(buf)
			return err
		})
		if cap(buf) <= waiting {
			b := buf[:0]
			buffers.Put(&b)
		}
		r.mu.Lock()
		r.written += int64(len(buf))
		if err != nil {
			r.fail(err)
		}
		r.changed.Broadcast()
	}
	r.writing = false
	r.changed.Broadcast()
}

// guard does something to the file. What takes too long makes the recording fail
// although nobody can make it return, and so does a panic.
func (r *Recording) guard(what string, f func() error) (err error) {
	watch := time.AfterFunc(r.recorder.opt.Stall, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.fail(fmt.Errorf("%s %s: %w (%v)", what, r.path, ErrStalled, r.recorder.opt.Stall))
	})
	defer watch.Stop()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s %s: panic: %v", what, r.path, v)
		}
	}()
	if err := f(); err != nil {
		return fmt.Errorf("%s %s: %w", what, r.path, err)
	}
	return nil
}

// fail ends the recording, unless it has failed before. With r.mu held.
func (r *Recording) fail(err error) {
	if r.err != nil {
		return
	}
	r.err = err
	close(r.failed)
	r.timer.Stop()
	r.changed.Broadcast()
}

// tick brings to disk what was taken until now.
func (r *Recording) tick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.armed = false
	if r.closed || r.err != nil {
		return
	}
	r.syncing = true
	if !r.open.IsZero() && r.recorder.opt.Now().Sub(r.open) >= r.recorder.opt.Seal {
		r.fill()
	}
	upTo := r.taken
	err := r.flush(upTo)
	if err == nil {
		r.mu.Unlock()
		err = r.sync(r.recorder.checkSpace)
		r.mu.Lock()
	}
	if err != nil {
		r.fail(err)
	}
	r.syncing = false
	if r.taken > upTo {
		r.arm(r.recorder.opt.Sync)
	} else if !r.open.IsZero() {
		r.arm(max(r.recorder.opt.Sync, r.recorder.opt.Seal-r.recorder.opt.Now().Sub(r.open)))
	}
	r.changed.Broadcast()
}

// fill ends a chunk of age's with blanks, which mean nothing after an event, so that
// it is sealed and written. age seals a chunk when it sees a byte of the next one.
// With r.mu held.
func (r *Recording) fill() {
	for n := chunk - int(r.taken%chunk) + 1; n > 0; n-- {
		r.buf = append(r.buf, ' ')
		r.taken++
	}
	r.open = time.Time{}
}

// flush waits until all up to a place is written. With r.mu held.
func (r *Recording) flush(upTo int64) error {
	for r.err == nil && r.written < upTo {
		r.write()
		r.changed.Wait()
	}
	return r.err
}

// sync brings to disk what was written, and sees that it is still in its place.
func (r *Recording) sync(then func() error) error {
	return r.guard("sync", func() error {
		r.recorder.syncs <- struct{}{}
		defer func() { <-r.recorder.syncs }()
		if err := r.file.Sync(); err != nil {
			return err
		}
		now, err := os.Lstat(r.path)
		if err != nil {
			return errors.Join(ErrMoved, err)
		}
		if !os.SameFile(now, r.made) {
			return ErrMoved
		}
		return then()
	})
}

// Failed is closed when the recording cannot go on; Err then says why.
func (r *Recording) Failed() <-chan struct{} { return r.failed }

// Err is why the recording cannot go on.
func (r *Recording) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Close ends the recording: it is whole on disk when Close returns nil.
func (r *Recording) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		for r.writing || r.syncing {
			if r.err != nil {
				break
			}
			r.changed.Wait()
		}
		return r.err
	}
	if r.err == nil {
		if r.buf == nil {
			r.buf = (*buffers.Get().(*[]byte))[:0]
		}
		before := len(r.buf)
		r.buf = r.out.end(r.buf, r.now())
		r.buf = r.in.end(r.buf, r.now())
		r.buf = appendEvent(r.buf, r.now(), codeEnd, "")
		r.buf = append(r.buf, '\n')
		r.taken += int64(len(r.buf) - before)
	}
	r.closed = true
	r.timer.Stop()
	err := r.flush(r.taken)
	for r.err == nil && (r.writing || r.syncing) {
		r.changed.Wait()
	}
	if err == nil && r.err == nil {
		r.syncing = true
		r.mu.Unlock()
		err = r.finish()
		r.mu.Lock()
		r.syncing = false
	}
	if err != nil {
		r.fail(err)
	}
	r.changed.Broadcast()
	if r.writing || r.syncing {
		go r.release() // when the disk lets go of it
	} else if err := r.file.Close(); err != nil {
		r.fail(fmt.Errorf("close %s: %w", r.path, err))
	}
	return r.err
}

// finish seals what is left and brings it to disk.
func (r *Recording) finish() error {
	if r.seal != nil {
		if err := r.guard("seal", r.seal.Close); err != nil {
			return err
		}
	}
	return r.sync(func() error { return nil })
}

// release closes the file of a recording that failed, when nobody uses it any more.
func (r *Recording) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.writing || r.syncing {
		r.changed.Wait()
	}
	_ = r.file.Close()
}
