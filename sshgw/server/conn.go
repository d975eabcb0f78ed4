// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

// Conn is an authenticated connection.
type Conn struct {
	Identity *identity.Identity
	SSH      ssh.Conn
	Log      *slog.Logger // with what Who has
	// Outer is the connection in which this one runs, nil for one over the network.
	Outer *Conn

	server *Server
	entry  *roster.Entry
	set    Settings
	wire   *wire     // nil for an inner connection
	closer io.Closer // what is below SSH
	ctx    context.Context
	cancel context.CancelFunc
	start  time.Time

	active   atomic.Int64 // when something last happened, since start
	open     atomic.Int64 // channels that the library holds
	rejected atomic.Int64 // channels over the limit
	final    atomic.Bool  // the client wants no more sessions
	proofs   int          // answered requests for proofs of host keys

	watch watch

	mu              sync.Mutex
	reason, setting string
	ended           bool
}

// Handler has an authenticated connection to itself until it returns. It must read both
// channels to their end, and returns when the connection has ended. ctx ends with the
// connection, by whatever end; roster.From has the connection's entry. Goroutines that
// the handler starts are started by Conn.Go, so that a panic ends that connection alone.
// It handles requests one after the other, and leaves to Conn.Answer what that takes.
type Handler func(ctx context.Context, c *Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request)

func (s *Server) newConn(id *identity.Identity, sc ssh.Conn, w *wire, set Settings) *Conn {
	c := &Conn{
		Identity: id, SSH: sc, server: s, set: set, wire: w, closer: w, start: time.Now(),
	}
	if s.opt.Roster != nil {
		c.entry = s.opt.Roster.Add(id, func(reason string) { c.End(reason, "") })
	}
	c.Log = c.who(s.opt.Log)
	c.ctx, c.cancel = context.WithCancel(s.base)
	return c
}

// Who is what joins the connection's lines.
func (c *Conn) Who() audit.Who {
	w := whoOf(c.Identity)
	if c.entry != nil {
		w.Connection = c.entry.ID()
	}
	return w
}

// whoOf is Who of a connection that is on no roster.
func whoOf(id *identity.Identity) audit.Who {
	return audit.Who{
		Connection: roster.Short(id.SessionID), Session: id.SessionID, Inner: id.Inner,
		User: id.Account.Name, Source: id.Source.Addr().String(),
	}
}

// who makes a log whose lines have what Who has.
func (c *Conn) who(log *slog.Logger) *slog.Logger {
	return slog.New(log.Handler().WithAttrs(c.Who().Attrs()))
}

// run serves an authenticated connection over the network to its end.
func (s *Server) run(c *Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	defer func() {
		c.entry.Remove()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.report()
	}()
	go c.announce()
	c.keep()
	defer c.watch.stop()
	c.serve(roster.With(c.ctx, c.entry), s.opt.Handler, channels, requests)
}

// serve runs the handler behind the filter of channels and requests.
func (c *Conn) serve(ctx context.Context, h Handler, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	toChannels, toRequests := make(chan ssh.NewChannel), make(chan *ssh.Request)
	handled := make(chan struct{})
	filtered := make(chan struct{})
	go func() {
		defer close(filtered)
		defer c.recover()
		c.filter(channels, requests, toChannels, toRequests, handled)
	}()
	func() {
		defer close(handled)
		defer c.recover()
		h(ctx, c, toChannels, toRequests)
	}()
	c.End("", "")
	<-filtered
}

// Active says that something happened, for the idle limit.
func (c *Conn) Active() {
	for ; c != nil; c = c.Outer {
		c.active.Store(int64(time.Since(c.start)))
	}
}

// Go runs f in a goroutine of its own. A panic in it ends the connection, and no other.
func (c *Conn) Go(f func()) {
	go func() {
		defer c.recover()
		f()
	}()
}

func (c *Conn) recover() {
	if p := recover(); p != nil {
		c.Log.LogAttrs(c.ctx, slog.LevelError, "panic in the code of a connection", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		c.End("panic", "")
	}
}

// End closes the connection; reason is for the log, setting names what fired, "" for nothing.
// The first call says why.
func (c *Conn) End(reason, setting string) {
	c.mu.Lock()
	first := !c.ended
	if first {
		c.ended, c.reason, c.setting = true, reason, setting
	}
	c.mu.Unlock()
	if first {
		c.cancel()
		_ = c.closer.Close()
		_ = c.SSH.Close()
	}
}

// report says in the log that the connection ended, and why.
func (c *Conn) report() {
	c.mu.Lock()
	reason, setting := c.reason, c.setting
	c.mu.Unlock()
	if reason == "" {
		reason = "client_left"
	}
	attrs := c.Who().Attrs(slog.String("reason", reason), slog.Float64("seconds", time.Since(c.start).Seconds()))
	if setting != "" {
		attrs = append(attrs, slog.String("setting", setting))
	}
	if n := c.rejected.Load(); n > 0 {
		attrs = append(attrs, slog.Int64("channels_over_limit", n))
	}
	c.server.opt.Events.Event(context.WithoutCancel(c.ctx), slog.LevelInfo, audit.Disconnected, attrs...)
}
