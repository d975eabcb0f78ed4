// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/transport"
)

// tap sees what is copied before it goes out. An error stops the copying, and what it saw
// is not written.
type tap func(p []byte) error

// stream is one direction of a copy.
type stream struct {
	to   io.Writer
	from io.Reader
	tap  tap
	// moved is told how much went through, after each write.
	moved func(n int64)
	total atomic.Int64
	// waiting is odd while the stream waits in a read and has written all it has read:
	// the number changes with each read.
	waiting atomic.Uint64
}

// errTap wraps what a tap said.
type errTap struct{ error }

func (e errTap) Unwrap() error { return e.error }

// run copies until the reader ends or the writer fails. A reader's end is no error.
func (s *stream) run() error {
	var lent transport.Buffer
	defer lent.Release()
	for n := 0; ; {
		buf := lent.Next(n)
		var err error
		s.waiting.Add(1)
		n, err = s.from.Read(buf)
		s.waiting.Add(1)
		if n > 0 {
			if err := s.pass(buf[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

func (s *stream) pass(p []byte) error {
	if s.tap != nil {
		if err := s.tap(p); err != nil {
			return errTap{err}
		}
	}
	n, err := s.to.Write(p)
	s.total.Add(int64(n))
	if s.moved != nil {
		s.moved(int64(n))
	}
	return err
}

// drain reads what nobody wants, so that it does not fill the window of a channel.
func drain(r io.Reader) {
	small := make([]byte, 512)
	for {
		if _, err := r.Read(small); err != nil {
			return
		}
	}
}

// closeWriter is a TCP connection, a Unix one, or an SSH channel.
type closeWriter interface {
	io.ReadWriteCloser
	CloseWrite() error
}

// end is one end of a forwarded connection. requests are those of a channel, which end
// when its peer has closed it altogether, and not only said that it has no more to send;
// nil for a socket, which cannot tell.
type end struct {
	closeWriter
	requests <-chan *ssh.Request
}

// linger is how long what a peer sent before it went away may stand still on its way out.
const linger = 5 * time.Second

// join copies between two ends until both directions are done, and closes both. An end of
// input is passed on, and the other direction goes on. spawn starts a goroutine.
func join(spawn func(func()), client, server end, in, out func(n int64)) {
	up := &stream{to: server, from: client, moved: in}
	down := &stream{to: client, from: server, moved: out}
	upDone, downDone := make(chan struct{}), make(chan struct{})
	// A peer that is gone altogether reads nothing any more; what it sent before still
	// goes to the other end, which is closed after that.
	follow := func(from end, s *stream, done <-chan struct{}, to end) {
		ch, ok := from.closeWriter.(ssh.Channel)
		if !ok {
			return
		}
		spawn(func() { drain(ch.Stderr()) })
		spawn(func() {
			refuse(from.requests)
			flush(s, done)
			_ = to.Close()
		})
	}
	follow(client, up, upDone, server)
	follow(server, down, downDone, client)
	spawn(func() {
		defer close(upDone)
		if up.run() == nil {
			_ = server.CloseWrite()
		}
	})
	func() {
		defer close(downDone)
		if down.run() == nil {
			_ = client.CloseWrite()
		}
	}()
	<-upDone
	_ = client.Close()
	_ = server.Close()
}

// flush waits until a stream is done, or stands still.
func flush(s *stream, done <-chan struct{}) {
	for last := int64(-1); ; {
		now := s.total.Load()
		if now == last {
			return
		}
		last = now
		timer := time.NewTimer(linger)
		select {
		case <-done:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}
