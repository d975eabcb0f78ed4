// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
)

// connection is one connection, from its handshake to its end.
type connection struct {
	service *Service
	server  *server.Conn
	outer   *connection // of a jump, nil over the network
	id      *identity.Identity
	// target and login are what the connection is for; no target: the gateway itself.
	target, login string
	log           *slog.Logger
	entry         *roster.Entry
	ctx           context.Context // of the connection, for what outlives a channel

	// answering is held by whoever asks for a rule's own factor; answered is what
	// was answered. Those of the connection over the network hold.
	answering chan struct{}
	answered  map[stepKey]answer

	standing *standing // that of the connection over the network holds

	mu   sync.Mutex
	hops map[hopKey]*hop

	// Of the connection over the network: what was refused to the client.
	refusals, refusedFiles refusals

	listenMu sync.Mutex // held while a target is asked to listen
	listens  []*listening
}

func (c *connection) run(ctx context.Context, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	c.ctx = ctx
	var all sync.WaitGroup
	defer func() {
		cancel()
		c.closeHops()
		all.Wait()
		c.told(&c.refusals, audit.Denied)
		c.told(&c.refusedFiles, audit.File)
	}()
	all.Add(1)
	c.spawn(func() {
		defer all.Done()
		if !inOrder(c.spawn, requests, func(*ssh.Request) bool { return false }, c.global) {
			c.server.End("too_many_requests", "")
			for range requests { // to the end
			}
		}
	})
	for ch := range channels {
		all.Add(1)
		c.spawn(func() {
			defer all.Done()
			c.channel(ctx, ch)
		})
	}
}

// spawn starts a goroutine whose panic ends this connection alone.
func (c *connection) spawn(f func()) { c.server.Go(f) }

// channel serves one channel that the client opened.
func (c *connection) channel(ctx context.Context, ch ssh.NewChannel) {
	if err := c.stands(ctx); err != nil {
		c.reject(&c.root().refusals, c.root().tooMany, ch, err)
		return
	}
	var err error
	switch kind := ch.ChannelType(); {
	case kind == "session" && c.target != "":
		err = c.session(ctx, ch)
	case kind == "session":
		err = c.gatewaySession(ctx, ch)
	case kind == "direct-tcpip" && c.target != "":
		err = c.forwardTCP(ctx, ch)
	case kind == "direct-tcpip":
		err = c.jump(ctx, ch)
	case kind == "direct-streamlocal@openssh.com" && c.target != "":
		err = c.forwardUnix(ctx, ch)
	default:
		err = c.denied(ctx, "", "", "channel_type", "the gateway does not carry channels of this kind", slog.String("kind", short(kind)))
	}
	if err != nil {
		c.reject(&c.root().refusals, c.root().tooMany, ch, err)
	}
}

// global answers one request of the client that belongs to no channel.
func (c *connection) global(r *ssh.Request) {
	if c.server.Answer(r) {
		return
	}
	switch r.Type {
	case "tcpip-forward", "streamlocal-forward@openssh.com":
		if c.stands(c.ctx) != nil {
			break
		}
		fallthrough
	case "cancel-tcpip-forward", "cancel-streamlocal-forward@openssh.com":
		if c.target != "" {
			ok, reply := c.listen(c.ctx, r)
			_ = r.Reply(ok, reply)
			return
		}
		_ = c.denied(c.ctx, "", "", "no_target", "", slog.String("request", r.Type))
	}
	_ = r.Reply(false, nil)
}

// root is the connection over the network.
func (c *connection) root() *connection {
	for c.outer != nil {
		c = c.outer
	}
	return c
}

func (c *connection) config() *config.Config { return c.service.Config() }

// in and out note what went through a channel.
func (c *connection) in(ch *roster.Channel) func(int64) {
	return func(n int64) { c.server.Active(); ch.In(n) }
}

func (c *connection) out(ch *roster.Channel) func(int64) {
	return func(n int64) { c.server.Active(); ch.Out(n) }
}

// event writes an event of this connection.
func (c *connection) event(ctx context.Context, level slog.Level, code audit.Code, attrs ...slog.Attr) {
	c.service.Audit.Event(context.WithoutCancel(ctx), level, code, c.server.Who().Attrs(attrs...)...)
}

// name makes the name of a session.
func (s *Service) name() (string, error) {
	var b [10]byte
	if _, err := io.ReadFull(s.Random, b[:]); err != nil {
		return "", fmt.Errorf("name a session: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// openChannel opens a channel at a peer that may never answer.
func (c *connection) openChannel(ctx context.Context, peer ssh.Conn, kind string, payload []byte, wait time.Duration) (ssh.Channel, <-chan *ssh.Request, error) {
	type opened struct {
		ch       ssh.Channel
		requests <-chan *ssh.Request
		err      error
	}
	answer := make(chan opened, 1)
	var once sync.Mutex
	late := false
	c.spawn(func() {
		var o opened
		o.ch, o.requests, o.err = peer.OpenChannel(kind, payload)
		once.Lock()
		defer once.Unlock()
		if !late {
			answer <- o
		} else if o.err == nil {
			_ = o.ch.Close()
			go drain(o.ch)
			go drain(o.ch.Stderr())
			refuse(o.requests)
		}
	})
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errSilent)
	defer cancel()
	select {
	case o := <-answer:
		return o.ch, o.requests, o.err
	case <-ctx.Done():
		once.Lock()
		defer once.Unlock()
		select {
		case o := <-answer:
			return o.ch, o.requests, o.err
		default:
		}
		late = true
		return nil, nil, context.Cause(ctx)
	}
}
