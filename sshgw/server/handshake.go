// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
)

// maxKeyExchange bounds the key exchange, within timeouts.handshake: nobody thinks or
// types meanwhile, so who is slow has no reason to hold a place for longer.
const maxKeyExchange = 20 * time.Second

// Why a handshake ended that the client did not end.
var (
	errHandshake   = errors.New("the handshake took too long")
	errKeyExchange = errors.New("the key exchange took too long")
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
	exchange := over(maxKeyExchange, errKeyExchange) // whole fires first where it is shorter
	defer exchange.Stop()
	stopBase := context.AfterFunc(s.base, func() { _ = conn.Close() })
	defer stopBase()

	visit := s.opt.Door.Visit(ctx, auth.Visitor{
		Source: source, Local: local, Proceeds: func() { exchange.Stop() },
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
		exchange.Stop()
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
		s.refused(ctx, visit, source, set, err)
		return
	}
	place.authenticated()
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
func (s *Server) refused(ctx context.Context, visit *auth.Visit, source netip.AddrPort, set Settings, err error) {
	setting := ""
	late := false
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errHandshake):
		err, setting, late = errHandshake, "timeouts.handshake", true
	case errors.Is(cause, errKeyExchange):
		err, setting, late = errKeyExchange, "20 s for the key exchange", true
	}
	r := visit.Refusal()
	if late || r.Blame || r.User != "" && broken(err) {
		s.gate.failed(source.Addr(), set.Limits, s.opt.Now())
	}
	attrs := []slog.Attr{slog.String("source", source.Addr().String())}
	for _, a := range []struct{ name, value string }{
		{"user", r.User}, {"method", r.Method}, {"key", r.Key}, {"reason", r.Reason}, {"setting", setting},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.name, a.value))
		}
	}
	if r.Reason == "" || late {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	// Who has not even named a user scans ports, or looks whether we live.
	if r.User == "" && !late {
		s.opt.Log.LogAttrs(ctx, slog.LevelDebug, "a connection ended before it named a user", attrs...)
		return
	}
	s.opt.Events.Event(ctx, slog.LevelWarn, audit.LoginRefused, attrs...)
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
			attrs = append(attrs, slog.String(a.name, a.value))
		}
	}
	if id.CA != "" {
		attrs = append(attrs, slog.Uint64("serial", id.Serial))
	}
	return attrs
}
