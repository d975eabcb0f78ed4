// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/offline"
	"github.com/sallyport-mfa/sallyport/authd/spool"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
)

const (
	// reopenEvery is how soon a spool that could not be opened is tried again.
	reopenEvery = 10 * time.Second
	// againEvery is how soon a report is sent again that no verifier took, and
	// refusedEvery one that a verifier refused. While a verifier is known to be down
	// an attempt costs nothing.
	againEvery   = 5 * time.Second
	refusedEvery = 5 * time.Minute
)

// away is what serves logins while no verifier answers, and tells the verifier
// later. Without a key of the host's own there is nothing to sign with, and so
// none of it.
type away struct {
	keeper *offline.Keeper // nil: no keys can be kept
	events *events
	back   chan struct{} // a verifier is back
	client func() *upstream.Client
	log    *slog.Logger
}

// newAway opens what earlier processes left. What cannot be opened is logged:
// logins that need no offline code go on.
func (d *running) newAway(cfg *config.Config) *away {
	if cfg.HostKey() == nil {
		return nil
	}
	a := &away{
		events: &events{opt: spool.Options{Dir: filepath.Join(cfg.StateDir, "spool"), Now: d.opt.Now, Log: d.opt.Log}},
		back:   make(chan struct{}, 1), client: d.current.Load, log: d.opt.Log,
	}
	if err := a.events.open(); err != nil {
		d.opt.Log.Error("events for the verifier cannot be kept: logins by offline codes and by fail_mode open are denied",
			slog.String("event", "spool_failed"), slog.String("setting", "state_dir"), slog.Any("error", err))
	}
	ring, err := offline.Open(offline.Options{Dir: filepath.Join(cfg.StateDir, "offline"), Now: d.opt.Now, Log: d.opt.Log})
	if err != nil {
		d.opt.Log.Error("offline codes cannot be checked", slog.String("event", "offline_state_failed"), slog.String("setting", "state_dir"), slog.Any("error", err))
		return a
	}
	a.keeper = offline.NewKeeper(ring, a.call)
	return a
}

func (a *away) call(ctx context.Context, again bool, call func(context.Context, *agentapi.Client) error) error {
	return a.client().Host(ctx, again, call)
}

// contact says that a verifier is back. It never blocks.
func (a *away) contact() {
	if a == nil {
		return
	}
	if a.keeper != nil {
		a.keeper.Contact()
	}
	select {
	case a.back <- struct{}{}:
	default:
	}
}

// run reports, and keeps the keys in step, until ctx ends.
func (a *away) run(ctx context.Context) {
	var tasks sync.WaitGroup
	if a.keeper != nil {
		tasks.Go(func() { a.keeper.Run(ctx) })
	}
	tasks.Go(func() { a.report(ctx) })
	tasks.Wait()
	if err := a.events.close(); err != nil {
		a.log.Error("the spool is not closed", slog.Any("error", err))
	}
}

// report sends what is in the spool, in order, until ctx ends.
func (a *away) report(ctx context.Context) {
	for {
		pause, wake := time.Duration(-1), a.events.ready()
		if a.events.Len() > 0 {
			pause = a.send(ctx)
		}
		if pause == 0 {
			continue
		}
		if wake == nil {
			pause = reopenEvery // nothing to wait for: the spool is not open
		} else if pause > 0 {
			wake = nil // what is new changes nothing about why the old could not be sent
		}
		var timer <-chan time.Time
		if pause > 0 {
			timer = time.After(pause + rand.N(pause)/4) //nolint:gosec // no secret: hosts must not all come at once
		}
		select {
		case <-ctx.Done():
			return
		case <-wake:
		case <-timer:
		case <-a.back:
		}
	}
}

// send reports one batch, and returns how long to wait before the next.
func (a *away) send(ctx context.Context) time.Duration {
	s := a.events.now()
	batch, err := s.Next(agentapi.MaxReportEvents, agentapi.MaxReportBytes)
	if err != nil {
		a.log.Error("events in the spool cannot be read and are lost to the verifier; the journal has them",
			slog.String("event", "spool_failed"), slog.Int("events", s.Skip()), slog.Any("error", err))
		return 0
	}
	if len(batch.Events) == 0 {
		return -1 // they are not yet on disk; the spool says when
	}
	q := agentapi.HostEvents{Epoch: hex.EncodeToString(batch.Epoch[:]), First: batch.Events[0].Seq}
	for _, e := range batch.Events {
		q.Events = append(q.Events, json.RawMessage(e.Body))
	}
	var taken agentapi.HostEventsTaken
	err = a.call(ctx, true, func(ctx context.Context, c *agentapi.Client) (err error) {
		taken, err = c.Report(ctx, q)
		return err
	})
	var outage *upstream.Outage
	switch {
	case err == nil:
		s.Ack(batch.Epoch, taken.Seq)
		if taken.Seq < q.First {
			return refusedEvery // a verifier that takes nothing must not be asked at once
		}
		return 0
	case ctx.Err() != nil:
		return againEvery
	case errors.As(err, &outage):
		a.log.Debug("events not reported", slog.Any("error", err))
		return againEvery
	}
	a.log.Warn("the verifier does not take the events of this host; they stay in the spool",
		slog.String("event", "report_refused"), slog.Int("events", s.Len()), slog.Any("error", err))
	return refusedEvery
}

// events is the spool, which is opened again where it could not be.
type events struct {
	opt spool.Options

	mu    sync.Mutex
	spool *spool.Spool
	tried time.Time
}

func (e *events) open() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reopen()
}

func (e *events) reopen() (err error) {
	if e.spool != nil || !e.tried.IsZero() && time.Since(e.tried) < reopenEvery {
		return nil
	}
	e.tried = time.Now()
	e.spool, err = spool.Open(e.opt)
	return err
}

var errNotOpen = errors.New("the spool could not be opened")

// Append implements login.Events.
func (e *events) Append(body []byte, class spool.Class) error {
	e.mu.Lock()
	err := e.reopen()
	s := e.spool
	e.mu.Unlock()
	if s == nil {
		return errors.Join(errNotOpen, err)
	}
	return s.Append(body, class)
}

func (e *events) now() *spool.Spool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.spool
}

// ready is nil while there is no spool.
func (e *events) ready() <-chan struct{} {
	if s := e.now(); s != nil {
		return s.Ready()
	}
	return nil
}

// Len is how many events wait to be reported.
func (e *events) Len() int {
	if s := e.now(); s != nil {
		return s.Len()
	}
	return 0
}

// Oldest is the time of the oldest event that waits; zero if none does.
func (e *events) Oldest() time.Time {
	if s := e.now(); s != nil {
		return s.Oldest()
	}
	return time.Time{}
}

func (e *events) close() error {
	if s := e.now(); s != nil {
		return s.Close()
	}
	return nil
}
