// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
	"github.com/sallyport-mfa/sallyport/sshgw/sftp"
)

// outcome is how a program ended, as the target said. It goes to the client after the
// output that came before it.
type outcome struct {
	mu      sync.Mutex
	kind    string // exit-status or exit-signal, "" for neither
	payload []byte
	sent    bool
	eof     bool // the end of the output waits for it
}

// set keeps the first outcome that the target sends.
func (o *outcome) set(kind string, payload []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kind != "" {
		return false
	}
	o.kind, o.payload = kind, payload
	return true
}

// send hands it to the client, once.
func (o *outcome) send(ch ssh.Channel) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.kind != "" && !o.sent {
		o.sent = true
		_, _ = ch.SendRequest(o.kind, false, o.payload)
		o.endOutput(ch)
	}
}

// endOutput tells the client the end of the output, if that waits; the lock is held.
func (o *outcome) endOutput(ch ssh.Channel) {
	if o.eof {
		o.eof = false
		_ = ch.CloseWrite()
	}
}

// outputOver tells the client that there is no more output, but not before the outcome:
// a client whose own input is over closes the channel when it hears that, the library
// answers with a close by itself, and after that no status goes out. A client that goes
// on sending may wait for this very end, and hears of it soon.
func (o *outcome) outputOver(ch ssh.Channel, input <-chan struct{}) {
	o.mu.Lock()
	o.eof = true
	if o.sent {
		o.endOutput(ch)
	}
	o.mu.Unlock()
	o.send(ch)
	time.AfterFunc(settle, func() {
		select {
		case <-input:
			return
		default:
		}
		o.mu.Lock()
		defer o.mu.Unlock()
		o.endOutput(ch)
	})
}

// attrs say it to the log.
func (o *outcome) attrs() []slog.Attr {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch o.kind {
	case "exit-status":
		s, _ := parse[exitStatus](o.payload)
		return []slog.Attr{slog.Int64("exit_status", int64(s.Status))}
	case "exit-signal":
		s, _ := parse[exitSignal](o.payload)
		return []slog.Attr{slog.String("exit_signal", s.Signal)}
	}
	return nil
}

// carry copies between the client and the program until that is over, and closes both.
func (s *sessionChannel) carry(ctx context.Context, run *running) {
	c := s.conn
	in, out := c.in(run.carried), c.out(run.carried)
	up := &stream{from: s.ch, to: run.ch, moved: in}
	down := &stream{from: run.ch, to: s.ch, moved: out}
	side := &stream{from: run.ch.Stderr(), to: s.errs, moved: out}
	broken := make(chan error, 3) // what a tape said
	var failing atomic.Bool
	var recordingFailed <-chan struct{}
	if t := run.tape; t != nil {
		required := run.way.grant.Record == policy.RecordRequired
		recordingFailed = t.Failed()
		guard := func(write func([]byte) error) tap {
			return func(p []byte) error {
				if err := write(p); err != nil && required {
					return err
				}
				return nil
			}
		}
		up.tap, down.tap, side.tap = guard(t.Typed), guard(t.Output), guard(t.Output)
	}
	report := func(err error) {
		var t errTap
		if errors.As(err, &t) {
			failing.Store(true)
			broken <- t.error
		}
	}

	upDone, downDone, sideDone := make(chan struct{}), make(chan struct{}), make(chan struct{})
	if run.kind == "subsystem" && run.command == "sftp" {
		c.spawn(func() {
			defer close(upDone)
			defer close(downDone)
			s.filter(ctx, run,
				func(n int64) { up.total.Add(n); in(n) },
				func(n int64) { down.total.Add(n); out(n) })
		})
	} else {
		c.spawn(func() {
			defer close(upDone)
			err := up.run()
			report(err)
			if err == nil {
				_ = run.ch.CloseWrite()
			}
		})
		c.spawn(func() {
			defer close(downDone)
			report(down.run())
		})
	}
	c.spawn(func() {
		defer close(sideDone)
		report(side.run())
	})
	outputs := make(chan struct{}) // closed when both have ended
	var end outcome
	closed := make(chan struct{}) // by the target
	c.spawn(func() {
		defer close(closed)
		s.fromTarget(run, &end, down, side, outputs)
	})

	var (
		failure error
		timer   *time.Timer
		silent  <-chan time.Time
		gone    = s.gone
		flushed chan struct{}
	)
	hangUp := func() {
		_ = run.ch.Close()
		if timer == nil {
			timer = time.NewTimer(c.config().Timeouts.Target)
			silent = timer.C
		}
	}
	waitDown, waitSide, waitClosed := downDone, sideDone, closed
	ended := func() {
		if waitDown != nil || waitSide != nil {
			return
		}
		if !failing.Load() { // there is something to say yet
			end.outputOver(s.ch, upDone)
		}
		close(outputs)
	}
	for waitDown != nil || waitSide != nil || waitClosed != nil {
		select {
		case <-waitDown:
			waitDown = nil
			ended()
		case <-waitSide:
			waitSide = nil
			ended()
		case <-waitClosed:
			waitClosed = nil
		case <-gone:
			gone, flushed = nil, make(chan struct{})
			done := flushed
			c.spawn(func() {
				defer close(done)
				flush(up, upDone)
			})
		case <-flushed:
			flushed = nil
			hangUp()
		case <-recordingFailed:
			recordingFailed = nil
			if failure = s.unrecorded(ctx, run, run.tape.Err()); failure != nil {
				failing.Store(true)
				hangUp()
			}
		case err := <-broken:
			if failure == nil {
				recordingFailed = nil
				failure = s.unrecorded(ctx, run, err)
			}
			hangUp()
		case <-silent:
			c.log.Warn("a target does not close its channel", "target", run.way.target.Name, "setting", "timeouts.target")
			if waitDown != nil || waitSide != nil {
				close(outputs)
			}
			waitDown, waitSide, waitClosed = nil, nil, nil
		}
	}
	if timer != nil {
		timer.Stop()
	}
	select {
	case err := <-broken:
		if failure == nil {
			failure = s.unrecorded(ctx, run, err)
		}
	default:
	}
	s.finish(ctx, run, &end, failure, up.total.Load(), down.total.Load()+side.total.Load())
}

// finish closes the session and says how it was.
func (s *sessionChannel) finish(ctx context.Context, run *running, end *outcome, failure error, in, out int64) {
	c := s.conn
	if t := run.tape; t != nil {
		if err := t.Close(); err != nil && failure == nil {
			failure = s.unrecorded(ctx, run, err)
		}
	}
	if failure != nil {
		s.say(failure.Error())
		end = &outcome{kind: "exit-status", payload: ssh.Marshal(exitStatus{exitRefused})}
	}
	end.send(s.ch)
	s.end()
	_ = s.ch.Close()
	_ = run.ch.Close()
	attrs := append(run.attrs(), end.attrs()...)
	attrs = append(attrs, slog.Int64("bytes_in", in), slog.Int64("bytes_out", out),
		slog.Float64("seconds", c.service.Now().Sub(run.began).Seconds()))
	if run.kind != "shell" && run.command != "sftp" {
		c.event(ctx, slog.LevelInfo, audit.Exec, attrs...)
	}
	c.event(ctx, slog.LevelInfo, audit.SessionClosed, attrs...)
}

// settle is how long a program's outputs stand still before its exit status goes ahead of
// their end: what runs on in the background may keep them open for ever.
const settle = 50 * time.Millisecond

// fromTarget reads the target's requests of the session to their end.
func (s *sessionChannel) fromTarget(run *running, end *outcome, down, side *stream, outputs <-chan struct{}) {
	for r := range run.requests {
		switch r.Type {
		case "exit-status", "exit-signal":
			_, status := parse[exitStatus](r.Payload)
			_, signal := parse[exitSignal](r.Payload)
			if r.Type == "exit-status" && !status || r.Type == "exit-signal" && !signal || !end.set(r.Type, r.Payload) {
				break
			}
			s.conn.spawn(func() {
				tick := time.NewTicker(settle)
				defer tick.Stop()
				var before [2]uint64
				for {
					select {
					case <-outputs:
						end.send(s.ch)
						return
					case <-tick.C:
					}
					now := [2]uint64{down.waiting.Load(), side.waiting.Load()}
					if now == before && now[0]%2 == 1 && now[1]%2 == 1 {
						end.send(s.ch)
						return
					}
					before = now
				}
			})
		case "eow@openssh.com", "xon-xoff":
			_, _ = s.ch.SendRequest(r.Type, false, r.Payload)
		}
		_ = r.Reply(false, nil)
	}
}

// filter is an sftp session.
func (s *sessionChannel) filter(ctx context.Context, run *running, in, out func(int64)) {
	c := s.conn
	grant := run.way.grant
	f := &sftp.Filter{Rules: &grant, Turns: &c.service.turns, Place: run.way.login + "@" + run.way.target.Name, Report: func(op sftp.Op) {
		level := slog.LevelInfo
		if op.Result == sftp.ResultDenied {
			level = slog.LevelWarn
		}
		attrs := append(run.attrs(), slog.String("operation", op.Kind), slog.String("path", long(op.Path)), slog.String("result", op.Result))
		if op.To != "" {
			attrs = append(attrs, slog.String("to", long(op.To)))
		}
		if op.Kind == "read" || op.Kind == "write" {
			attrs = append(attrs, slog.Int64("bytes", op.Bytes))
		}
		if op.SHA256 != "" {
			attrs = append(attrs, slog.String("sha256", op.SHA256))
		}
		if op.Result == sftp.ResultDenied {
			c.refused(ctx, level, audit.File, attrs...)
			return
		}
		c.event(ctx, level, audit.File, attrs...)
	}}
	if err := f.Run(ctx, counted{s.ch, in, out}, counted{run.ch, nil, nil}); err != nil {
		c.log.Warn("sftp ended", "error", short(err.Error()))
		if errors.Is(err, sftp.ErrForeignPaths) || errors.Is(err, sftp.ErrTimeout) {
			s.say(err.Error())
		}
		_ = run.ch.Close()
		return
	}
	_ = run.ch.CloseWrite()
}

// counted is a channel as the filter sees it: what is closed is its input alone.
type counted struct {
	ssh.Channel
	in, out func(int64)
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Channel.Read(p)
	if c.in != nil {
		c.in(int64(n))
	}
	return n, err
}

func (c counted) Write(p []byte) (int, error) {
	n, err := c.Channel.Write(p)
	if c.out != nil {
		c.out(int64(n))
	}
	return n, err
}

func (c counted) Close() error { return c.Channel.CloseWrite() }

var _ io.ReadWriteCloser = counted{}
