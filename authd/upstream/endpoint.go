// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/proxy"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// endpoint is one address of a verifier and what is known of its health:
//
//	up ──suspect──► probed at once ──fails──► down ──probe answers──► up
//
// A login that meets a transport failure only raises suspicion; the probe alone
// moves the state, so a login that was unlucky shuts the door on nobody else.
type endpoint struct {
	api  *duoapi.Client
	host *agentapi.Client // nil: no host key
	opt  *Options
	idle func() // drops idle connections, which may be dead ones
	kick chan struct{}

	ahead atomic.Int64 // by how much this host's clock is ahead of the verifier's, in ns

	mu      sync.Mutex
	cause   *Outage   // nil while up
	since   time.Time // of this state; zero before the first probe has ended
	contact time.Time // the last good answer
	latency time.Duration
}

func newEndpoint(u *url.URL, c *Client) *endpoint {
	e := &endpoint{
		opt:  &c.opt,
		idle: c.http.CloseIdleConnections,
		kick: make(chan struct{}, 1),
	}
	e.api = &duoapi.Client{
		BaseURL:        u,
		IntegrationKey: c.opt.IntegrationKey,
		Secret:         c.opt.Secret,
		HTTP:           c.http,
		UserAgent:      c.opt.UserAgent,
		Now:            e.now,
	}
	if c.hostID != "" {
		e.host = &agentapi.Client{BaseURL: u, Key: c.opt.HostKey, KeyID: c.hostID, HTTP: c.http, Now: e.now}
	}
	return e
}

// down is why the address is not worth asking, nil if it is.
func (e *endpoint) down() *Outage {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cause
}

// suspect asks for a probe soon. It never blocks.
func (e *endpoint) suspect(err error) {
	e.opt.Log.Debug("verifier did not answer", slog.String("verifier", e.api.BaseURL.Host), slog.Any("error", err))
	select {
	case e.kick <- struct{}{}:
	default: // one is asked for already
	}
}

// watch probes at the start, on suspicion, at intervals while up, and while down
// soon at first and then less and less often: a verifier that only restarts is
// back before anybody gives up, and one that is gone is not pestered.
func (e *endpoint) watch(ctx context.Context) {
	again := time.NewTimer(0)
	defer again.Stop()
	failures := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-e.kick:
		case <-again.C:
		}
		outage := e.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		e.set(outage)
		if outage == nil {
			failures = 0
		} else {
			failures++
		}
		if wait := e.pause(outage, failures); wait > 0 {
			again.Reset(e.opt.Jitter(wait))
		} else {
			again.Stop()
		}
	}
}

// firstProbe is how soon an address that has just gone down is looked at again.
const firstProbe = 100 * time.Millisecond

// pause is how long to wait for the next probe; 0: no longer than until there is
// suspicion.
func (e *endpoint) pause(outage *Outage, failures int) time.Duration {
	var shut *proxy.Error
	switch {
	case outage == nil:
		return e.opt.HealthInterval
	case errors.As(outage, &shut) && shut.Status == http.StatusProxyAuthRequired:
		// Trying a wrong password over and over gets an account locked.
		return max(e.opt.ProbeInterval, e.opt.HealthInterval)
	}
	return min(firstProbe<<min(failures-1, 20), e.opt.ProbeInterval)
}

// jitter is a random part of d, at least a half.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // when to probe is no secret
}

// probe asks for the time. Any answer of the API shows that the verifier is
// there: whether it also does its work is for the logins to find out.
func (e *endpoint) probe(ctx context.Context) *Outage {
	ctx, cancel := context.WithTimeoutCause(ctx, e.opt.ConnectTimeout, deadline("connect_timeout"))
	defer cancel()
	begun := e.opt.Now()
	skew, err := e.skew(ctx)
	if errors.Is(err, duoapi.ErrTransport) {
		e.idle()
		return newOutage(ctx, err)
	}
	e.mu.Lock()
	e.latency = max(e.opt.Now().Sub(begun), 1)
	e.mu.Unlock()
	if err != nil {
		return nil
	}
	e.answered(false)
	if skew.Abs() > maxSkew {
		e.opt.Log.Warn("clock differs from the verifier's; requests are dated by the verifier's",
			slog.String("event", "clock_skew"), slog.String("verifier", e.api.BaseURL.Host), slog.Duration("skew", skew.Round(time.Second)))
	}
	return nil
}

// answered takes note of a good answer.
func (e *endpoint) answered(signed bool) {
	e.mu.Lock()
	e.contact = e.opt.Now()
	e.mu.Unlock()
	if e.opt.Contact != nil {
		e.opt.Contact(signed)
	}
}

// maxSkew is how far the clocks may be apart before it is worth a warning.
const maxSkew = time.Minute

// skew asks the verifier for its time and keeps the difference: a host whose
// clock is wrong, as after a boot without a battery, can still be logged in to.
// The time comes over TLS, from whoever also decides the logins.
func (e *endpoint) skew(ctx context.Context) (time.Duration, error) {
	var ping struct {
		Time int64 `json:"time"`
	}
	if _, err := e.api.Call(ctx, http.MethodGet, "/auth/v2/ping", nil, &ping); err != nil {
		return 0, err
	}
	if ping.Time <= 0 {
		return 0, fmt.Errorf("ping: %w: no time", duoapi.ErrMalformed)
	}
	ahead := e.opt.Now().Sub(time.Unix(ping.Time, 0))
	if ahead.Abs() <= maxSkew {
		ahead = 0 // the round trip and the second's fraction are in it
	}
	e.ahead.Store(int64(ahead))
	return ahead, nil
}

// now is the verifier's time as far as it is known.
func (e *endpoint) now() time.Time { return e.opt.Now().Add(-time.Duration(e.ahead.Load())) }

// setClock asks for the time again; it says whether that changed anything.
func (e *endpoint) setClock(ctx context.Context) bool {
	before := e.ahead.Load()
	_, err := e.skew(ctx)
	return err == nil && e.ahead.Load() != before
}

func (e *endpoint) set(outage *Outage) {
	e.mu.Lock()
	was, since := e.cause, e.since
	e.cause = outage
	if since.IsZero() || (was == nil) != (outage == nil) {
		e.since = e.opt.Now()
	}
	e.mu.Unlock()

	host := slog.String("verifier", e.api.BaseURL.Host)
	switch {
	case outage != nil && was == nil:
		e.opt.Log.Error("verifier is down", slog.String("event", "verifier_down"), host,
			slog.String("cause", string(outage.Cause)), slog.String("setting", outage.Setting), slog.Any("error", outage))
	case outage == nil && was != nil:
		e.opt.Log.Info("verifier is back", slog.String("event", "verifier_back"), host,
			slog.Duration("outage", e.opt.Now().Sub(since).Round(time.Millisecond)))
	}
	if outage == nil && (was != nil || since.IsZero()) && e.opt.Back != nil {
		e.opt.Back()
	}
}
