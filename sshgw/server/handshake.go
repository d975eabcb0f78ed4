// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

// Why a handshake ended that the client did not end.
var (
	errHandshake   = errors.New("the handshake took too long")
	errFirstFactor = errors.New("the first factor took too long")
	errGone        = auth.ErrGone
)

// serve leads one connection from its first byte to its last.
func (s *Server) serve(conn net.Conn, source, local netip.AddrPort, place *visitor, set Settings) {
	ctx, cancel := context.WithCancelCause(s.base)
	defer cancel(nil)
	w := &wire{Conn: conn, gone: func(err error) { cancel(errors.Join(errGone, err)) }}

	over := func(d time.Duration, why error) *time.Timer {
		return time.AfterFunc(d, func() {
			cancel(why)
			_ = conn.Close()
		})
	}
	whole := over(set.Timeouts.Handshake, errHandshake)
	defer whole.Stop()
	// Who has proven nothing has a place for a shorter time.
	first := set.Timeouts.FirstFactor
	if first <= 0 {
		first = set.Timeouts.Handshake
	}
	unproven := over(first, errFirstFactor) // whole fires first where it is shorter
	defer unproven.Stop()
	stopBase := context.AfterFunc(s.base, func() { _ = conn.Close() })
	defer stopBase()

	visit := s.opt.Door.Visit(ctx, auth.Visitor{
		Source: source, Local: local, Proven: sync.OnceFunc(func() {
			if !unproven.Stop() {
				cancel(errFirstFactor)
			}
			place.proven()
		}),
		Admit: func(id *identity.Identity) error {
			if why := place.admit(id.Account.Name, set.Limits); why != nil {
				s.limited(whoOf(id), why)
				return why
			}
			return nil
		},
	})
	cfg := s.newConfig()
	for _, k := range s.opt.Keys.HostSigners() {
		cfg.AddHostKey(k)
	}
	visit.Configure(cfg)
	sc, channels, requests, err := ssh.NewServerConn(w, cfg)
	var id *identity.Identity
	if err == nil {
		// Neither clock may end an open connection. One that has fired closes this one, and
		// whether it has said so yet or not, nobody came in.
		unproven.Stop()
		inTime := whole.Stop()
		if id, err = visit.Identity(sc); err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err == nil && !inTime {
			err = errHandshake
			cancel(err)
		}
		if err != nil {
			_ = sc.Close()
			go ssh.DiscardRequests(requests)
			for range channels { // to its end, which is near
			}
		}
	}
	if err != nil {
		s.refused(ctx, visit, source, set, place, err)
		return
	}
	w.trusted.Store(true)
	place.authenticated()
	s.gate.succeeded(source.Addr(), set.Limits, s.opt.Now())
	if !stopBase() {
		_ = sc.Close()
	}
	c := s.newConn(id, sc, w, set)
	s.opt.Events.Event(ctx, slog.LevelInfo, audit.LoginAllowed, c.Who().Attrs(described(id)...)...)
	s.run(c, channels, requests)
}

// newConfig is what all handshakes have in common. Nobody is let in by method none, and
// a configuration without any callback is an error of the library.
func (s *Server) newConfig() *ssh.ServerConfig {
	cfg := &ssh.ServerConfig{Config: s.opt.Algorithms, ServerVersion: s.serverVersion()}
	cfg.Rand = s.opt.Rand
	return cfg
}

// refused says in the log why a connection was not authenticated, and makes its source
// wait where that was the client's doing.
func (s *Server) refused(ctx context.Context, visit *auth.Visit, source netip.AddrPort, set Settings, place *visitor, err error) {
	r := visit.Refusal()
	if place.madeRoom() {
		s.limited(audit.Who{User: r.User, Source: source.Addr().String()}, errCrowd)
		return
	}
	setting, late := "", true
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errHandshake):
		err, setting = errHandshake, "timeouts.handshake"
	case errors.Is(cause, errFirstFactor):
		err, setting = errFirstFactor, "timeouts.first_factor"
	default:
		late = false
	}
	flooded := errors.Is(err, errFlood) || errors.Is(context.Cause(ctx), errFlood)
	failed := late || r.User != "" && broken(err)
	if r.Blame || flooded || failed && !r.Proven && !r.Ours {
		s.gate.failed(source.Addr(), set.Limits, s.opt.Now())
	}
	// What ended the handshake says more than what was tried last, and what was tried more
	// than the library.
	reason, what := r.Reason, r.Error
	switch {
	case flooded:
		reason, what = "flood", errFlood.Error()
	case late:
		reason, what = "timeout", err.Error()
	case reason == "" && broken(err):
		reason, what = "protocol", err.Error()
	case reason == "":
		reason, what = "client_left", err.Error()
	}
	who := audit.Who{User: clip(r.User), Session: r.Session, Connection: roster.Short(r.Session), Source: source.Addr().String()}
	attrs := who.Attrs()
	for _, a := range []struct{ name, value string }{
		{"method", r.Method}, {"key", r.Key}, {"reason", reason}, {"setting", setting}, {"error", what},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.name, clip(a.value)))
		}
	}
	// Who went away before they tried anything scans ports, looks whether we live, or was
	// asked at home whether the host key is ours, or for a passphrase.
	if r.Reason == "" && !r.Proven && !failed && !flooded {
		s.opt.Log.LogAttrs(ctx, slog.LevelDebug, "a connection ended before anything was tried", attrs...)
		return
	}
	s.rationed(s.no, audit.LoginRefused, attrs)
}

// broken says that the client broke the protocol, as by a signature that is none.
func broken(err error) bool {
	var network net.Error
	var tries *ssh.ServerAuthError
	return !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.As(err, &network) && !errors.As(err, &tries)
}

// described is what the log says of who came in.
func described(id *identity.Identity) []slog.Attr {
	attrs := []slog.Attr{
		slog.Int("port", int(id.Source.Port())), slog.String("method", string(id.Method)), slog.String("factor", string(id.Factor)),
	}
	for _, a := range []struct{ name, value string }{
		{"key", id.Key}, {"key_type", id.KeyType}, {"ca", id.CA}, {"key_id", id.KeyID}, {"rule", id.DoorRule},
		{"target", id.Target}, {"login", id.Login}, {"client", id.Client},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.name, clip(a.value)))
		}
	}
	if id.CA != "" {
		attrs = append(attrs, slog.Uint64("serial", id.Serial))
	}
	return attrs
}
