// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"slices"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/sshgw/target"
)

// listening is a place at a target where it listens for the client (ssh -R).
type listening struct {
	hop  *hop
	to   *target.Conn
	kind string // of the channels that come of it
	host string // as the client wrote it, and as the target gives it back
	port uint32 // that the target listens at; 0 for a Unix socket
	path string
}

// maxListens is how many places one connection may listen at.
const maxListens = 64

// listen handles the requests that begin and end a listening, and returns the reply.
func (c *connection) listen(ctx context.Context, r *ssh.Request) (bool, []byte) {
	l, ok := listenOf(r)
	if !ok {
		return false, nil
	}
	if r.Type == "cancel-tcpip-forward" || r.Type == "cancel-streamlocal-forward@openssh.com" {
		return c.unlisten(r, l), nil
	}
	w, err := c.decide(ctx, c.target, c.login)
	if err != nil {
		return false, nil
	}
	if reason := c.mayNotListen(w, l); reason != "" {
		_ = c.denied(ctx, w.target.Name, w.login, reason, "", slog.String("rule", w.grant.Rule), slog.String("destination", short(l.where())))
		return false, nil
	}
	c.listenMu.Lock()
	full := len(c.listens) >= maxListens
	c.listenMu.Unlock()
	if full {
		c.refused(ctx, slog.LevelWarn, audit.Limited, slog.String("reason", "listenings"))
		return false, nil
	}
	h, to, err := c.open(ctx, w, companion{})
	if err != nil {
		return false, nil // its event is written
	}
	// Held until it is noted what was asked for: a channel may come before the reply is read.
	c.listenMu.Lock()
	defer c.listenMu.Unlock()
	ok, reply, err := c.askGlobal(to, r.Type, r.Payload)
	if err != nil || !ok {
		return false, nil
	}
	l.hop, l.to = h, to
	if l.kind == "forwarded-tcpip" && l.port == 0 {
		bound, ok := parse[boundPort](reply)
		if !ok || bound.Port == 0 || bound.Port > math.MaxUint16 {
			return false, nil
		}
		l.port = bound.Port
	} else {
		reply = nil
	}
	c.listens = append(c.listens, l)
	c.event(ctx, slog.LevelInfo, audit.Forwarded, w.attrs(l.where(), l.kind, slog.String("result", "listening"))...)
	return true, reply
}

func listenOf(r *ssh.Request) (*listening, bool) {
	switch r.Type {
	case "tcpip-forward", "cancel-tcpip-forward":
		m, ok := parse[tcpForward](r.Payload)
		return &listening{kind: "forwarded-tcpip", host: m.Host, port: m.Port}, ok && m.Port <= math.MaxUint16
	default:
		m, ok := parse[unixForward](r.Payload)
		return &listening{kind: "forwarded-streamlocal@openssh.com", path: m.Path}, ok
	}
}

func (l *listening) where() string {
	if l.path != "" {
		return l.path
	}
	return net.JoinHostPort(l.host, strconv.FormatUint(uint64(l.port), 10))
}

func (l *listening) same(o *listening) bool {
	return l.kind == o.kind && l.host == o.host && l.port == o.port && l.path == o.path
}

// mayNotListen says why a listening is refused, "" for nothing.
func (c *connection) mayNotListen(w *way, l *listening) string {
	if l.path != "" {
		switch {
		case c.id.Limits.NoForwarding || c.id.Limits.PermitListen != nil:
			return "key_options"
		case !w.grant.MayListenUnix(l.path):
			return "listen"
		case unseen(&w.grant):
			return "forward_recorded"
		}
		return ""
	}
	switch {
	case !mayListen(c.id.Limits, l.host, uint16(l.port)):
		return "key_options"
	case !w.grant.MayListen(l.host, uint16(l.port)):
		return "listen"
	case unseen(&w.grant):
		return "forward_recorded"
	}
	return ""
}

// unlisten ends a listening that this connection has begun.
func (c *connection) unlisten(r *ssh.Request, l *listening) bool {
	c.listenMu.Lock()
	defer c.listenMu.Unlock()
	i := slices.IndexFunc(c.listens, l.same)
	if i < 0 {
		return false
	}
	l = c.listens[i]
	c.listens = slices.Delete(c.listens, i, i+1)
	ok, _, err := c.askGlobal(l.to, r.Type, r.Payload)
	return ok && err == nil
}

// askGlobal sends a global request to a target, which loses its connection if it does not
// answer.
func (c *connection) askGlobal(to *target.Conn, kind string, payload []byte) (bool, []byte, error) {
	timer := time.AfterFunc(c.config().Timeouts.Target, func() {
		c.log.Warn("a target does not answer", "request", kind, "setting", "timeouts.target")
		_ = to.SSH.Close()
	})
	defer timer.Stop()
	return to.SSH.SendRequest(kind, true, payload)
}

// forwarded passes a connection on that came to a place where the client listens.
func (h *hop) forwarded(ctx context.Context, ch ssh.NewChannel, kind string) error {
	c := h.conn
	asked := &listening{kind: kind}
	var ok bool
	if kind == "forwarded-tcpip" {
		var m tcpOpen
		m, ok = parse[tcpOpen](ch.ExtraData())
		asked.host, asked.port = m.Host, m.Port
	} else {
		var m unixForwarded
		m, ok = parse[unixForwarded](ch.ExtraData())
		asked.path = m.Path
	}
	if !ok {
		return h.unasked(ctx, kind, "listen")
	}
	c.listenMu.Lock()
	known := slices.ContainsFunc(c.listens, func(l *listening) bool { return l.hop == h && l.same(asked) })
	c.listenMu.Unlock()
	if !known {
		return h.unasked(ctx, kind, "listen")
	}
	w, err := c.decide(ctx, c.target, c.login)
	if err != nil {
		return err
	}
	if reason := c.mayNotListen(w, asked); reason != "" {
		return c.denied(ctx, w.target.Name, w.login, reason, "the rule does not permit this any more", slog.String("rule", w.grant.Rule),
			slog.String("destination", short(asked.where())))
	}
	far, farRequests, err := c.openChannel(ctx, c.server.SSH, kind, ch.ExtraData(), c.config().Timeouts.Target)
	if err != nil {
		return fmt.Errorf("open %s at the client: %w", kind, err)
	}
	near, nearRequests, ok := accept(ch)
	if !ok {
		_ = far.Close()
		c.spawn(func() { refuse(farRequests) })
		return nil
	}
	c.copied(ctx, roster.Opening{Kind: "listen", Way: roster.Terminated, Target: w.target.Name, Login: w.login, Detail: clip(asked.where()), Rule: w.grant.Rule},
		end{far, farRequests}, end{near, nearRequests}, w.attrs(asked.where(), kind))
	return nil
}

// forget drops what a target listened at, which is gone with its connection.
func (c *connection) forget(to *target.Conn) {
	c.listenMu.Lock()
	defer c.listenMu.Unlock()
	c.listens = slices.DeleteFunc(c.listens, func(l *listening) bool { return l.to == to })
}
