// SPDX-License-Identifier: Apache-2.0

// Package server owns connections: it accepts them, bounds them, leads the handshake,
// keeps them alive and ends them. It never looks into a channel.
package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/time/rate"

	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/sshgw/transport"
)

// Settings are what sshgw.toml says of connections.
type Settings struct {
	Limits   config.Limits
	Timeouts config.Timeouts
}

// HostKeys are the gateway's host keys; keys.Ring has them.
type HostKeys interface {
	HostSigners() []ssh.Signer
	Announced() []ssh.Signer
}

// Options is what New needs.
type Options struct {
	// Settings are those in force; asked for each connection when it comes.
	Settings func() Settings
	Keys     HostKeys
	Door     *auth.Door
	Handler  Handler
	Roster   *roster.Roster // who is connected; nil: nobody looks
	Events   *audit.Log
	Log      *slog.Logger
	// Algorithms in the order of preference; the zero value: transport.Algorithms.
	Algorithms ssh.Config
	Now        func() time.Time // nil: time.Now
	Rand       io.Reader        // nil: crypto/rand
}

// Server serves SSH connections. It is safe for concurrent use.
type Server struct {
	opt    Options
	gate   *gate
	crowd  *ration // of gw_limited in the log
	no     *ration // of gw_login_refused
	base   context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	ending bool
	conns  map[*Conn]struct{}
	live   int           // connections that are served, handshakes included
	empty  chan struct{} // closed when none is; nil: nobody waits
}

// New makes a server.
func New(o Options) *Server {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if len(o.Algorithms.KeyExchanges) == 0 {
		o.Algorithms = transport.Algorithms()
	}
	s := &Server{opt: o, gate: newGate(), crowd: newRation(), no: newRation(), conns: map[*Conn]struct{}{}}
	s.base, s.cancel = context.WithCancel(context.Background())
	return s
}

// Listen opens a listener at host:port. A gateway that starts again does not wait for
// connections of the one before (SO_REUSEADDR, which package net sets). Dead peers are
// found by SSH's own keepalive.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", address, err)
	}
	return l, nil
}

// Serve accepts connections until ctx ends or the listener is closed, and closes the
// listener. It may run for several listeners at once. Connections go on when it returns: see Drain.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	defer func() { _ = l.Close() }()
	wait := time.Duration(0)
	for {
		conn, err := l.Accept()
		if err == nil {
			wait = 0
			s.accepted(transport.Wrap(conn))
			continue
		}
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return nil
		}
		// Out of descriptors or memory: those who are in go on, and some will leave.
		if wait = min(max(2*wait, 5*time.Millisecond), time.Second); wait == 5*time.Millisecond {
			s.opt.Log.LogAttrs(ctx, slog.LevelError, "cannot accept connections for now", slog.Any("error", err))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil
		}
	}
}

// accepted lets a connection in within the limits, else closes it.
func (s *Server) accepted(conn net.Conn) {
	source, local := addrPort(conn.RemoteAddr()), addrPort(conn.LocalAddr())
	set := s.opt.Settings()
	v, why := s.gate.enter(sourceOf(source.Addr()), set.Limits, s.opt.Now(), func() { _ = conn.Close() })
	if why == nil && !s.begin() {
		v.leave()
		why = &limit{"gateway_ending", ""}
	}
	if why != nil {
		_ = conn.Close()
		s.limited(audit.Who{Source: source.Addr().String()}, why)
		return
	}
	go func() {
		defer s.done()
		defer v.leave()
		defer func() { _ = conn.Close() }()
		defer s.survive(source)
		s.serve(conn, source, local, v, set)
	}()
}

// survive keeps a panic in the code of one connection from the others.
func (s *Server) survive(source netip.AddrPort) {
	if p := recover(); p != nil {
		s.opt.Events.Event(s.base, slog.LevelError, audit.LoginRefused, slog.String("source", source.Addr().String()),
			slog.String("reason", "panic"), slog.Any("error", p), slog.String("stack", string(debug.Stack())))
	}
}

// limited logs that a limit kept somebody out, but not more often than anybody reads.
func (s *Server) limited(who audit.Who, why *limit) {
	who.User = clip(who.User)
	attrs := who.Attrs(slog.String("reason", why.reason))
	if why.setting != "" {
		attrs = append(attrs, slog.String("setting", why.setting))
	}
	s.rationed(s.crowd, audit.Limited, attrs)
}

// rationed logs a warning that strangers can bring about, if it is not one too many.
func (s *Server) rationed(r *ration, code audit.Code, attrs []slog.Attr) {
	quiet, ok := r.take()
	if !ok {
		if s.opt.Events.Count != nil {
			s.opt.Events.Count(code)
		}
		return
	}
	if quiet > 0 {
		attrs = append(attrs, slog.Int("unlogged", quiet))
	}
	s.opt.Events.Event(s.base, slog.LevelWarn, code, attrs...)
}

// ration is how often something is logged.
type ration struct {
	limiter *rate.Limiter
	mu      sync.Mutex
	quiet   int // not logged since the last time
}

func newRation() *ration { return &ration{limiter: rate.NewLimiter(5, 50)} }

// take says whether to log, and how often that was not done since the last time.
func (r *ration) take() (quiet int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.limiter.Allow() {
		r.quiet++
		return 0, false
	}
	quiet, r.quiet = r.quiet, 0
	return quiet, true
}

// maxLogged bounds what a stranger's word takes in a line of the log, in bytes.
const maxLogged = 255

func clip(s string) string {
	if len(s) <= maxLogged {
		return s
	}
	return strings.ToValidUTF8(s[:maxLogged], "") + "…"
}

func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending {
		return false
	}
	s.live++
	return true
}

func (s *Server) done() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.live--; s.live == 0 && s.empty != nil {
		close(s.empty)
		s.empty = nil
	}
}

// Drain lets nobody in any more and waits until all connections have ended by
// themselves. When ctx ends it ends those that are left, with setting in the log.
func (s *Server) Drain(ctx context.Context, setting string) {
	s.mu.Lock()
	s.ending = true
	var empty chan struct{}
	if s.live > 0 {
		if s.empty == nil {
			s.empty = make(chan struct{})
		}
		empty = s.empty
	}
	s.mu.Unlock()
	if empty == nil {
		return
	}
	select {
	case <-empty:
		return
	case <-ctx.Done():
	}
	for _, c := range s.connections() {
		c.End("gateway_ending", setting)
	}
	s.cancel() // handshakes
	<-empty
}

// Handshakes is how many connections are not authenticated yet.
func (s *Server) Handshakes() int {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.handshakes
}

// Each calls f for each authenticated connection over the network.
func (s *Server) Each(f func(*Conn)) {
	for _, c := range s.connections() {
		f(c)
	}
}

func (s *Server) connections() []*Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*Conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

func (s *Server) serverVersion() string { return "SSH-2.0-Sallyport_" + version.String() }

func addrPort(a net.Addr) netip.AddrPort {
	if t, ok := a.(*net.TCPAddr); ok {
		p := t.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
	}
	return netip.AddrPort{}
}
