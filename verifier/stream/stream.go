// SPDX-License-Identifier: Apache-2.0

// Package stream sends the events of the logs to where they are gathered: by
// syslog or by a signed webhook, at least once, in order. It reads what is on
// disk and never stands between a login and its answer.
package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sethvargo/go-retry"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// idlePause is how often the feed is looked at without a hint.
	idlePause = time.Second
	// firstRetry and maxRetry bound the growing delay after failures.
	firstRetry = time.Second
	maxRetry   = 5 * time.Minute
	// jitter keeps several verifiers from asking together, in percent.
	jitter = 20
)

// Message is one event on its way.
type Message struct {
	Seq  int64           `json:"seq"`
	Log  string          `json:"log"`
	ID   string          `json:"id"`
	Time time.Time       `json:"timestamp"`
	Body json.RawMessage `json:"event"`

	fields map[string]string // for structured data
	grave  gravity
}

// sender brings messages to one receiver. When send returns nil, the receiver has all of them.
type sender interface {
	send(ctx context.Context, batch []Message) error
	limit() int // messages in a batch
	close()
}

// State is how a stream does, for metrics and status.
type State struct {
	Name      string    `json:"name"`
	Backlog   int64     `json:"backlog"`  // events that wait
	Sent      int64     `json:"sent"`     // since the start
	GivenUp   int64     `json:"given_up"` // since the start
	Failures  int64     `json:"failures"` // in a row
	LastSent  time.Time `json:"last_sent,omitzero"`
	LastError string    `json:"last_error,omitempty"`
}

// Service runs all streams. It is safe for concurrent use.
type Service struct {
	store   store.Store
	now     func() time.Time
	log     *slog.Logger
	streams []*stream
	retry   func() retry.Backoff
	begun   atomic.Bool
}

type stream struct {
	name   string
	max    int64
	sender sender
	woken  chan struct{}

	mu    sync.Mutex
	state State
	// end and position give the backlog.
	end, position atomic.Int64
}

// New makes the streams that c names; hostname is what syslog calls the verifier.
func New(c map[string]config.Stream, st store.Store, hostname string, now func() time.Time, log *slog.Logger) (*Service, error) {
	s := &Service{store: st, now: now, log: log, retry: func() retry.Backoff {
		return retry.WithCappedDuration(maxRetry, retry.WithJitterPercent(jitter, retry.NewExponential(firstRetry)))
	}}
	for name, one := range c {
		to, err := newSender(name, one, hostname, now)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", name, err)
		}
		s.streams = append(s.streams, &stream{
			name: name, max: one.MaxBacklog, sender: to, woken: make(chan struct{}, 1), state: State{Name: name},
		})
	}
	return s, nil
}

// Wake says that an event was written. It never waits.
func (s *Service) Wake() {
	for _, st := range s.streams {
		select {
		case st.woken <- struct{}{}:
		default:
		}
	}
}

// States says how each stream does.
func (s *Service) States() []State {
	out := make([]State, 0, len(s.streams))
	for _, st := range s.streams {
		st.mu.Lock()
		state := st.state
		st.mu.Unlock()
		state.Backlog = max(0, st.end.Load()-st.position.Load())
		out = append(out, state)
	}
	return out
}

// Begin makes the store number events for these streams and no others. It must
// return before the first event that they shall have.
func (s *Service) Begin(ctx context.Context) error {
	names := make([]string, 0, len(s.streams))
	for _, st := range s.streams {
		names = append(names, st.name)
	}
	var gone []store.Stream
	var end int64
	err := s.store.Update(ctx, func(w store.Writer) (err error) {
		if gone, err = w.KeepStreams(names, s.now()); err != nil {
			return err
		}
		end, err = w.FeedEnd()
		return err
	})
	if err != nil {
		return fmt.Errorf("begin streams: %w", err)
	}
	s.begun.Store(true)
	for _, g := range gone {
		s.log.Warn("a stream is no more in the configuration; what it had not sent is forgotten", "stream", g.Name, "events", end-g.Position)
	}
	return nil
}

// Run sends until ctx ends. If Begin has failed, it is tried again first.
func (s *Service) Run(ctx context.Context) {
	for delays := s.retry(); !s.begun.Load() && ctx.Err() == nil; {
		if err := s.Begin(ctx); err != nil && ctx.Err() == nil {
			delay, _ := delays.Next()
			s.log.Error("the streams begin later", "error", err)
			pause(ctx, delay, nil)
		}
	}
	var all sync.WaitGroup
	for _, st := range s.streams {
		all.Go(func() { s.follow(ctx, st) })
	}
	all.Wait()
}

func (s *Service) follow(ctx context.Context, st *stream) {
	defer st.sender.close()
	delays := s.retry()
	for ctx.Err() == nil {
		sent, err := s.next(ctx, st)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			delay, _ := delays.Next()
			st.failed(err)
			s.log.Warn("a stream does not come through; it is tried again", "stream", st.name, "error", err, "in", delay.Round(time.Millisecond))
			pause(ctx, delay, nil)
		case sent == 0:
			pause(ctx, idlePause, st.woken)
		default:
			delays = s.retry()
		}
	}
}

// next sends one batch, if there is one, and moves the stream.
func (s *Service) next(ctx context.Context, st *stream) (sent int, err error) {
	position, entries, err := s.read(ctx, st)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	batch := make([]Message, 0, len(entries))
	for _, e := range entries {
		if m, ok, err := message(e); err != nil {
			return 0, err
		} else if ok {
			batch = append(batch, m)
		}
	}
	if len(batch) > 0 {
		if err := st.sender.send(ctx, batch); err != nil {
			return 0, err
		}
	}
	last := entries[len(entries)-1].Seq
	if err := s.move(ctx, st, position, last); err != nil {
		return 0, err
	}
	st.succeeded(len(batch), s.now())
	return len(entries), nil
}

// read gives where the stream is and what comes next. If too much waits, the
// oldest is given up first.
func (s *Service) read(ctx context.Context, st *stream) (position int64, entries []store.FeedEntry, err error) {
	end := int64(0)
	err = s.store.View(ctx, func(r store.Reader) error {
		all, err := r.Streams()
		if err != nil {
			return err
		}
		found := false
		for _, one := range all {
			if one.Name == st.name {
				position, found = one.Position, true
			}
		}
		if !found {
			return errors.New("the store does not know it; another verifier with another configuration works on it")
		}
		if end, err = r.FeedEnd(); err != nil {
			return err
		}
		entries, err = r.Feed(position, st.sender.limit())
		return err
	})
	if err != nil {
		return 0, nil, fmt.Errorf("read the feed: %w", err)
	}
	st.end.Store(end)
	st.position.Store(position)
	if len(entries) == 0 || end-entries[0].Seq < st.max {
		return position, entries, nil
	}
	from := end - st.max
	if err := s.move(ctx, st, position, from); err != nil {
		return 0, nil, err
	}
	lost := from - entries[0].Seq + 1
	st.mu.Lock()
	st.state.GivenUp += lost
	st.mu.Unlock()
	s.log.Error("a stream's backlog is over its limit: the oldest events are given up for it", "stream", st.name, "events", lost, "max_backlog", st.max)
	return s.read(ctx, st)
}

func (s *Service) move(ctx context.Context, st *stream, from, to int64) error {
	won := false
	// What a receiver has must not be sent again because the verifier stops.
	err := s.store.Update(context.WithoutCancel(ctx), func(w store.Writer) (err error) {
		won, err = w.MoveStream(st.name, from, to)
		return err
	})
	if err != nil {
		return fmt.Errorf("move on: %w", err)
	}
	if !won {
		return errors.New("move on: another verifier works on the same stream")
	}
	st.position.Store(to)
	return nil
}

func (st *stream) failed(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.state.Failures++
	st.state.LastError = err.Error()
}

func (st *stream) succeeded(n int, now time.Time) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.state.Sent += int64(n)
	st.state.Failures, st.state.LastError, st.state.LastSent = 0, "", now
}

// pause waits for a time, a hint, or the end.
func pause(ctx context.Context, d time.Duration, hint <-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-hint:
	}
}
