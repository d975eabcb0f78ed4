// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/sshgw/route"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
)

// jump carries ssh -J and -W on a connection to the gateway itself.
func (c *connection) jump(ctx context.Context, nc ssh.NewChannel) error {
	m, ok := parse[tcpOpen](nc.ExtraData())
	if !ok || m.Port == 0 || m.Port > math.MaxUint16 {
		return &refusal{ssh.ConnectionFailed, "this is no destination"}
	}
	host, port := strings.TrimSuffix(m.Host, "."), uint16(m.Port)
	destination := net.JoinHostPort(host, strconv.Itoa(int(port)))
	if !mayOpen(c.id.Limits, host, port) {
		return c.denied(ctx, "", "", "key_options", fmt.Sprintf("the options of your key do not permit a jump to %s", clip(destination)),
			slog.String("destination", short(destination)))
	}
	resolve := c.once()
	t, sshd := c.find(ctx, resolve, host, port)
	if t == nil {
		return c.denied(ctx, "", "", "no_such_target", fmt.Sprintf("no target is called %s", clip(destination)),
			slog.String("destination", short(destination)))
	}
	cfg := c.config()
	w := &way{target: t, grant: c.grant(ctx, cfg, t, "")}
	switch {
	case !sshd:
		if reason := c.mayNotForward(w, host, port, true); reason != "" {
			text := fmt.Sprintf("no rule lets %s connect to %s", c.id.Account.Name, clip(destination))
			if reason == "forward_recorded" {
				text = fmt.Sprintf("what is done at %s is looked at: a rule must name %s exactly", t.Name, clip(destination))
			}
			return c.denied(ctx, t.Name, "", reason, text,
				slog.String("rule", w.grant.Rule), slog.String("destination", short(destination)))
		}
	case !w.grant.Allowed || w.grant.Unsettled || !w.grant.Raw:
		return c.nested(ctx, nc, w, host)
	default:
		port = t.Port
	}
	addrs, err := c.judged(ctx, resolve, w, port, sshd)
	if err != nil {
		return err
	}
	if err := c.stepUp(ctx, w, companion{}); err != nil {
		return err
	}
	return c.raw(ctx, nc, w, addrs, port, destination)
}

// once looks up each host once: a name service that answers differently the second time
// would lead elsewhere than the rules were asked about.
func (c *connection) once() route.Resolver {
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	known := map[string]answer{}
	return func(ctx context.Context, host string) ([]netip.Addr, error) {
		a, ok := known[host]
		if !ok {
			a.addrs, a.err = c.resolve(ctx, host)
			known[host] = a
		}
		return a.addrs, a.err
	}
}

// judged are the addresses of a target, none of which is the sshd of one that has a rule
// which wants more than to let pass. They alone are to be dialled.
func (c *connection) judged(ctx context.Context, resolve route.Resolver, w *way, port uint16, sshd bool) ([]netip.Addr, error) {
	addrs, err := resolve(ctx, w.target.Host)
	if err != nil {
		return nil, c.failed(ctx, w.target.Name, "", err)
	}
	cfg := c.config()
	for _, a := range addrs {
		t, ok := cfg.Inventory().At("", []netip.Addr{a}, port)
		if !ok || sshd && t.Name == w.target.Name {
			continue
		}
		if g := c.grant(ctx, cfg, t, ""); !g.Allowed || !g.Raw || g.StepUp {
			return nil, c.denied(ctx, w.target.Name, "", "forward_target",
				fmt.Sprintf("%s leads to %s: use ssh -J to that", w.target.Name, t.Name),
				slog.String("rule", w.grant.Rule), slog.String("destination", short(netip.AddrPortFrom(a, port).String())))
		}
	}
	return addrs, nil
}

// admitted are the addresses of a target that is to be opened, none of which is the sshd of
// another target about which another rule decides: a name must not lead to a server under a
// rule that is not its own. They alone are to be dialled.
func (c *connection) admitted(ctx context.Context, w *way) ([]netip.Addr, error) {
	addrs, err := c.resolve(ctx, w.target.Host)
	if err != nil {
		return nil, c.failed(ctx, w.target.Name, w.login, err)
	}
	cfg := c.config()
	for _, a := range addrs {
		t, ok := cfg.Inventory().At("", []netip.Addr{a}, w.target.Port)
		if !ok || t.Name == w.target.Name {
			continue
		}
		if g := c.grant(ctx, cfg, t, w.login); !g.Allowed || g.Rule != w.grant.Rule {
			return nil, c.denied(ctx, w.target.Name, w.login, "forward_target",
				fmt.Sprintf("%s leads to %s, which has a rule of its own: name that", w.target.Name, t.Name),
				slog.String("rule", w.grant.Rule), slog.String("destination", short(netip.AddrPortFrom(a, w.target.Port).String())))
		}
	}
	return addrs, nil
}

// find says whose host a destination is, and whether it is the sshd there.
func (c *connection) find(ctx context.Context, resolve route.Resolver, host string, port uint16) (t *inventory.Target, sshd bool) {
	inv := c.config().Inventory()
	if t, err := route.To(ctx, inv, resolve, host, port); err == nil {
		return t, true
	}
	addrs, err := resolve(ctx, host)
	if err != nil {
		addrs = nil
	}
	t, _ = inv.OnHost(host, addrs)
	return t, false
}

// raw carries the stream as it is.
func (c *connection) raw(ctx context.Context, nc ssh.NewChannel, w *way, addrs []netip.Addr, port uint16, destination string) error {
	far, err := c.service.Targets.DialAddrs(ctx, addrs, port)
	if err != nil {
		return c.failed(ctx, w.target.Name, "", err)
	}
	half, ok := far.(closeWriter)
	if !ok {
		_ = far.Close()
		return fmt.Errorf("a connection of type %T cannot be half closed", far)
	}
	near, requests, ok := accept(nc)
	if !ok {
		_ = far.Close()
		return nil
	}
	kind := "jump"
	if port != w.target.Port {
		kind = "forward"
	}
	c.copied(ctx, roster.Opening{Kind: kind, Way: roster.Raw, Target: w.target.Name, Detail: clip(destination), Rule: w.grant.Rule},
		end{near, requests}, end{half, nil}, w.attrs(destination, "direct-tcpip", slog.Bool("raw", true)))
	return nil
}

// nested serves an SSH connection inside the jump, so that the rule can be kept: the
// person's client believes the gateway's host CA. Who logs in is said in there.
func (c *connection) nested(ctx context.Context, nc ssh.NewChannel, w *way, host string) error {
	if !w.grant.Allowed {
		return c.denied(ctx, w.target.Name, "", w.grant.Reason, fmt.Sprintf("no rule lets %s reach %s", c.id.Account.Name, w.target.Name),
			slog.String("rule", w.grant.Rule))
	}
	key, err := c.service.Host(host)
	if err != nil {
		return fmt.Errorf("make a host key for a jump: %w", err)
	}
	ch, requests, ok := accept(nc)
	if !ok {
		return nil
	}
	c.spawn(func() { refuse(requests) })
	c.spawn(func() { drain(ch.Stderr()) })
	name := w.target.Name
	err = c.service.Inner(ctx, ch, server.Inner{
		Outer: c.server, Host: key, Target: name, Handler: c.service.Serve,
		Admit: func(ctx context.Context, user string, person conversation.Person) error {
			w, err := c.decide(ctx, name, user)
			if err != nil {
				return err
			}
			return c.stepUp(ctx, w, companion{person: person, later: person == nil})
		},
	})
	if err != nil {
		c.log.Info("a jump ended", "target", name, "error", short(err.Error()))
	}
	return nil
}
