// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/keys"
	"github.com/sallyport-mfa/sallyport/sshgw/target"
)

// hopKey names a connection to a target. A target whose place or credential changes in the
// inventory is another one.
type hopKey struct {
	name, host, credential string
	port                   uint16
	login                  string
}

// hop is the connection to a target that all channels of one connection share.
type hop struct {
	conn *connection
	way  *way // of the channel that opened it; each channel has its own grant

	opening chan struct{} // holds one token: whoever has it opens

	mu       sync.Mutex
	to       *target.Conn      // nil: not open
	askers   []*sessionChannel // sessions that live and may be given what they asked for
	channels int               // open, that the target asked for

	refusals refusals // to the target
}

// maxFromTarget is how many channels a target may have open towards the client at once.
const maxFromTarget = 256

// companion is who is asked while a target is opened, and whose agent may be used.
type companion struct {
	person conversation.Person                                     // nil: nobody
	reads  bool                                                    // they read what is shown, and cannot type
	later  bool                                                    // nobody now, and somebody if it comes to a question
	agent  func(ctx context.Context) (agent.ExtendedAgent, func()) // nil: none
}

// open returns the connection to a target, which it opens if it is not open. The rule's
// own factor is asked for whether it is or not.
func (c *connection) open(ctx context.Context, w *way, with companion) (*hop, *target.Conn, error) {
	if err := c.stepUp(ctx, w, with); err != nil {
		return nil, nil, err
	}
	key := hopKey{w.target.Name, w.target.Host, w.target.Credential, w.target.Port, w.login}
	c.mu.Lock()
	h := c.hops[key]
	if h == nil {
		h = &hop{conn: c, way: w, opening: make(chan struct{}, 1)}
		c.hops[key] = h
	}
	c.mu.Unlock()

	select {
	case h.opening <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	defer func() { <-h.opening }()
	if to := h.current(); to != nil {
		return h, to, nil
	}
	addrs, err := c.admitted(ctx, w)
	if err != nil {
		return nil, nil, err
	}
	// What the rule never permits, the target need not permit either.
	permit := keys.Ordinary
	permit.AgentForwarding, permit.X11 = w.grant.Agent, w.grant.X11
	request := target.Request{Identity: c.id, Target: w.target, Login: w.login, Addrs: addrs, Person: with.person, Permit: &permit}
	if with.agent != nil {
		var done func()
		request.Agent, done = with.agent(ctx)
		defer done()
	}
	to, err := c.service.Targets.Dial(ctx, request)
	if err != nil {
		return nil, nil, c.failed(ctx, w.target.Name, w.login, err)
	}
	h.mu.Lock()
	h.to = to
	h.mu.Unlock()
	if ctx.Err() != nil { // closeHops may have been here already
		_ = to.SSH.Close()
	}
	h.serve(to)
	return h, to, nil
}

func (h *hop) current() *target.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.to
}

// closeHops ends what leads on.
func (c *connection) closeHops() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.hops {
		if to := h.current(); to != nil {
			_ = to.SSH.Close()
		}
	}
}

// serve reads what the target says that belongs to no channel of ours, to its end.
func (h *hop) serve(to *target.Conn) {
	h.conn.spawn(func() { refuse(to.Requests) })
	h.conn.spawn(func() {
		defer func() {
			h.mu.Lock()
			if h.to == to {
				h.to = nil
			}
			h.mu.Unlock()
			h.conn.forget(to)
			h.conn.told(&h.refusals, audit.Denied, slog.String("target", h.way.target.Name), slog.String("login", h.way.login))
		}()
		for ch := range to.Channels {
			h.mu.Lock()
			full := h.channels >= maxFromTarget
			if !full {
				h.channels++
			}
			h.mu.Unlock()
			if full {
				_ = ch.Reject(ssh.ResourceShortage, "too many channels")
				continue
			}
			h.conn.spawn(func() {
				defer func() {
					h.mu.Lock()
					defer h.mu.Unlock()
					h.channels--
				}()
				h.channel(ch)
			})
		}
	})
}

// channel serves one channel that the target opened: only what the client has asked for
// is passed on to it.
func (h *hop) channel(ch ssh.NewChannel) {
	ctx := h.conn.ctx
	var err error
	switch kind := ch.ChannelType(); kind {
	case "auth-agent@openssh.com", "x11":
		err = h.fromSession(ctx, ch, kind)
	case "forwarded-tcpip", "forwarded-streamlocal@openssh.com":
		err = h.forwarded(ctx, ch, kind)
	default:
		err = h.unasked(ctx, kind, "kind")
	}
	if err != nil {
		h.conn.reject(&h.refusals, h.tooMany, ch, err)
	}
}

// unasked is the answer to a target that opens what nobody asked for.
func (h *hop) unasked(ctx context.Context, kind, why string) error {
	if more, ok := h.conn.spend(&h.refusals, h.tooMany); ok {
		h.conn.event(ctx, slog.LevelWarn, audit.Denied, append([]slog.Attr{
			slog.String("reason", "unasked_"+why), slog.String("target", h.way.target.Name), slog.String("login", h.way.login),
			slog.String("kind", short(kind)),
		}, more...)...)
	}
	return &refusal{ssh.Prohibited, h.conn.contact("nobody asked for this")}
}

// join makes a session one whose wishes the target may come back to, until leave.
func (h *hop) join(s *sessionChannel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.askers = append(h.askers, s)
}

func (h *hop) leave(s *sessionChannel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.askers = slices.DeleteFunc(h.askers, func(o *sessionChannel) bool { return o == s })
}

// fromSession passes an agent or X11 channel to the client on behalf of the youngest
// session that lives and may have it, and closes it with that session.
func (h *hop) fromSession(ctx context.Context, ch ssh.NewChannel, kind string) error {
	h.mu.Lock()
	var s *sessionChannel
	for _, one := range slices.Backward(h.askers) {
		if one.wants(kind) {
			s = one
			break
		}
	}
	h.mu.Unlock()
	if s == nil {
		return h.unasked(ctx, kind, "session")
	}
	c := h.conn
	far, farRequests, err := c.openChannel(ctx, c.server.SSH, kind, ch.ExtraData(), c.config().Timeouts.Target)
	if err != nil {
		return fmt.Errorf("open %s at the client: %w", kind, err)
	}
	near, nearRequests, err := ch.Accept()
	if err != nil {
		_ = far.Close()
		go refuse(farRequests)
		return nil
	}
	if !s.bind(far, near) {
		_ = far.Close()
		_ = near.Close()
	}
	defer s.unbind(far)
	if kind == "auth-agent@openssh.com" {
		c.spawn(func() { refuse(nearRequests); _ = far.Close() })
		c.spawn(func() { refuse(farRequests); _ = near.Close() })
		c.spawn(func() { drain(near.Stderr()) })
		c.spawn(func() { drain(far.Stderr()) })
		if err := relayAgent(near, far, func(int64) { c.server.Active() }); errors.Is(err, errNoAgent) {
			_ = c.denied(ctx, s.conn.target, s.conn.login, "agent_protocol", "", slog.String("error", err.Error()))
		}
		_ = near.Close()
		_ = far.Close()
		return nil
	}
	// The client is the server here: its agent or display answers.
	join(c.spawn, end{near, nearRequests}, end{far, farRequests}, func(int64) { c.server.Active() }, func(int64) { c.server.Active() })
	return nil
}
