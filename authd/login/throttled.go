// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"log/slog"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/throttle"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// slowed is the delays of one login.
type slowed struct {
	*throttle.Throttle
	key throttle.Key
	// served is the delay that was waited for since the last try.
	served time.Duration
}

// slowed says whose failures count against this login.
func (l *login) slowed() slowed {
	t := l.Throttle
	if l.peer.Socket == UserSocket {
		t = l.UserThrottle
	}
	k := throttle.Key{User: l.username, SSH: l.ssh.present, Reserved: l.who.UID == 0}
	addr, unknown := l.source()
	switch {
	case l.peer.Socket == UserSocket:
		k.Source, k.Reserved = throttle.LocalSource(l.peer.UID), false
	case addr.IsValid():
		k.Source = throttle.Source(addr)
	case unknown:
		k.Source = throttle.Unknown
	default:
		k.Source = throttle.LocalSource(l.req.RUID)
	}
	return slowed{Throttle: t, key: k}
}

// beforeQuestion waits for the failures so far, so that nobody types in vain.
func (a *asking) beforeQuestion(ctx context.Context) *verdict {
	if a.slow.Throttle == nil {
		return nil
	}
	return a.slowDown(ctx, a.slow.Delay(a.slow.key, a.cfg.Throttle))
}

// try counts a try before it is checked. Tries of other logins that are checked
// at this moment count as failures, so guessing at many prompts gains nothing.
func (a *asking) try(ctx context.Context) (*throttle.Try, *verdict) {
	if a.slow.Throttle == nil {
		return nil, nil
	}
	t, d := a.slow.Begin(a.slow.key, a.cfg.Throttle)
	if v := a.slowDown(ctx, d); v != nil {
		t.Void()
		return nil, v
	}
	a.slow.served = 0
	return t, nil
}

// tried says how a try has ended: v and the attempts that were left before it.
func (a *asking) tried(t *throttle.Try, v *verdict, failed bool) {
	switch {
	case t == nil || a.abandoned(v):
	case v != nil && v.outcome == frames.OutcomeAllow:
		t.Success()
	case !failed && (v == nil || !endsLogin(v.reason)):
		t.Void()
	}
}

// abandoned says that somebody at the gateway went away after a request had gone out
// to an authenticator. That is a failed try: else a stolen key alone could send push
// after push, until one is approved by mistake or for peace.
func (a *asking) abandoned(v *verdict) bool {
	return a.peer.Socket == GatewaySocket && a.txid != "" && v != nil && (v.reason == "peer_gone" || v.reason == "protocol_error")
}

// slowDown waits, as machine time: at most half of what is left of it, so that
// the login can still be decided.
func (a *asking) slowDown(ctx context.Context, d throttle.Delay) *verdict {
	rest := d.For - a.slow.served
	if half := a.budget / 2; rest > half {
		rest, d.Setting = half, "login_timeout"
	}
	if rest <= 0 {
		return nil
	}
	a.log.Info("login slowed down after failures", slog.String("event", "throttled"), slog.String("service", a.service.Name), slog.String("source", a.slow.key.Source),
		slog.Duration("delay", rest), slog.String("setting", d.Setting))
	if a.Meter != nil {
		a.Meter.Slowed(d.Setting, rest)
	}
	if a.req.Flags&pamSilent == 0 {
		_ = a.conv.Show(frames.StyleInfo, textSlowedDown(rest)) // a peer that is gone shows at the next frame
	}
	err := a.machine(ctx, d.Setting, rest+time.Second, func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(rest):
			return nil
		}
	})
	if err != nil {
		v := a.failed(err)
		return &v
	}
	a.slow.served = d.For
	return nil
}
