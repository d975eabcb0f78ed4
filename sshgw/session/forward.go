// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

// defaultPort is sshd's.
const defaultPort = 22

// forwardTCP carries ssh -L, -D and -W through the target.
func (c *connection) forwardTCP(ctx context.Context, nc ssh.NewChannel) error {
	m, ok := parse[tcpOpen](nc.ExtraData())
	if !ok || m.Port == 0 || m.Port > math.MaxUint16 {
		return &refusal{ssh.ConnectionFailed, "this is no destination"}
	}
	port := uint16(m.Port)
	w, err := c.decide(ctx, c.target, c.login)
	if err != nil {
		return err
	}
	destination := net.JoinHostPort(m.Host, strconv.Itoa(int(port)))
	deny := func(reason, text string) error {
		return c.denied(ctx, w.target.Name, w.login, reason, text, slog.String("rule", w.grant.Rule), slog.String("destination", short(destination)))
	}
	if !mayOpen(c.id.Limits, m.Host, port) {
		return deny("key_options", fmt.Sprintf("the options of your key do not permit a forwarding to %s", clip(destination)))
	}
	switch reason := c.mayNotForward(w, m.Host, port, false); reason {
	case "":
	case "forward_recorded":
		return deny(reason, fmt.Sprintf("sessions at %s are recorded: a rule must name %s exactly", w.target.Name, clip(destination)))
	default:
		return deny(reason, fmt.Sprintf("the rule %q does not permit a forwarding to %s", w.grant.Rule, clip(destination)))
	}
	payload := nc.ExtraData()
	if _, exact := w.grant.MayForward(m.Host, port); !exact {
		at, around := c.leadsAround(ctx, w, m.Host, port)
		if around {
			return deny("forward_target", fmt.Sprintf("%s is reached through the gateway alone: use ssh -J", clip(destination)))
		}
		if at.IsValid() {
			m.Host = at.String()
			payload = ssh.Marshal(m)
		}
	}
	return c.through(ctx, nc, w, destination, payload)
}

// mayNotForward says why the rule does not permit a connection to host:port, "" for
// nothing. What goes past a recording must be named exactly; from the gateway itself, so
// must what goes past any look inside that the rule or the key wants.
func (c *connection) mayNotForward(w *way, host string, port uint16, fromGateway bool) string {
	g := &w.grant
	may, exact := g.MayForward(host, port)
	switch {
	case !g.Allowed || !may:
		return "forward"
	case exact:
		return ""
	case g.Record == policy.RecordRequired:
		return "forward_recorded"
	case fromGateway && (g.Record != policy.RecordOff || g.Everything() && !g.Raw || c.id.Limits.Command != ""):
		return "forward_recorded"
	}
	return ""
}

// forwardUnix carries ssh -L to a Unix socket at the target.
func (c *connection) forwardUnix(ctx context.Context, nc ssh.NewChannel) error {
	m, ok := parse[unixOpen](nc.ExtraData())
	if !ok {
		return &refusal{ssh.ConnectionFailed, "this is no destination"}
	}
	w, err := c.decide(ctx, c.target, c.login)
	if err != nil {
		return err
	}
	may, exact := w.grant.MayForwardUnix(m.Path)
	reason := ""
	switch {
	case c.id.Limits.NoForwarding || c.id.Limits.PermitOpen != nil:
		reason = "key_options"
	case !may:
		reason = "forward"
	case !exact && w.grant.Record == policy.RecordRequired:
		reason = "forward_recorded"
	case !exact && (!w.grant.Raw || w.grant.StepUp) && maybeSSHD(m.Path):
		reason = "forward_target"
	}
	if reason != "" {
		return c.denied(ctx, w.target.Name, w.login, reason, fmt.Sprintf("the rule %q does not permit a forwarding to %s", w.grant.Rule, clip(m.Path)),
			slog.String("rule", w.grant.Rule), slog.String("destination", short(m.Path)))
	}
	return c.through(ctx, nc, w, m.Path, nc.ExtraData())
}

// maybeSSHD says whether a path may be a socket at which the target's own sshd listens, as
// systemd has it do. What is relative, abstract or leads elsewhere may be anything.
func maybeSSHD(name string) bool {
	if !strings.HasPrefix(name, "/") || path.Clean(name) != name {
		return true
	}
	for _, at := range []string{"/run/ssh", "/var/run/ssh", "/proc/", "/dev/fd/"} {
		if strings.HasPrefix(name, at) {
			return true
		}
	}
	return false
}

// leadsAround says whether a destination, seen from a target, is the sshd of one that has
// a rule which wants more than to let pass. Of what is not known it may be any. If it is
// not, at is the address that was judged, and is to be gone to instead of the name, which
// may mean something else at the target; none where nobody's sshd is known to listen.
func (c *connection) leadsAround(ctx context.Context, w *way, host string, port uint16) (at netip.Addr, around bool) {
	cfg := c.config()
	inv := cfg.Inventory()
	written, patterned := inv.Listening(port)
	if port != defaultPort && port != w.target.Port && !written && !patterned {
		return netip.Addr{}, false
	}
	wants := func(t *inventory.Target) bool {
		g := c.grant(ctx, cfg, t, "")
		return !g.Allowed || !g.Raw || g.StepUp
	}
	host = strings.TrimSuffix(host, ".")
	if t, ok := inv.At(host, nil, port); ok && wants(t) {
		return netip.Addr{}, true
	}
	named, ok := inv.Find(host)
	if ok = ok && (port == named.Port || port == defaultPort); ok {
		if wants(named) {
			return netip.Addr{}, true
		}
		host = named.Host
	}
	addrs, err := c.resolve(ctx, host)
	if err != nil || len(addrs) == 0 {
		return netip.Addr{}, true
	}
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		t, known := inv.At("", []netip.Addr{a}, port)
		if known && wants(t) {
			return netip.Addr{}, true
		}
		if a.IsLoopback() || a.IsUnspecified() {
			// The target itself, and whatever else listens at its host.
			if (port == w.target.Port || port == defaultPort) && (!w.grant.Raw || w.grant.StepUp) {
				return netip.Addr{}, true
			}
			own, err := c.resolve(ctx, w.target.Host)
			if err != nil {
				return netip.Addr{}, true
			}
			if t, ok := inv.At(w.target.Host, own, port); ok && wants(t) {
				return netip.Addr{}, true
			}
			continue
		}
		if !known && !ok && (patterned || slices.ContainsFunc(inv.Unresolved(port), wants)) {
			return netip.Addr{}, true
		}
	}
	return addrs[0].Unmap(), false
}

// resolve looks up a host, or reads an address.
func (c *connection) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.config().Timeouts.Dial, errors.New("no answer in time (timeouts.dial)"))
	defer cancel()
	return c.service.Targets.Resolve(ctx, host)
}

// through opens the same channel at the target and copies.
func (c *connection) through(ctx context.Context, nc ssh.NewChannel, w *way, destination string, payload []byte) error {
	_, to, err := c.open(ctx, w, companion{})
	if err != nil {
		return err
	}
	wait := c.config().Timeouts
	far, farRequests, err := c.openChannel(ctx, to.SSH, nc.ChannelType(), payload, wait.Dial+wait.Target)
	if err != nil {
		var no *ssh.OpenChannelError
		if errors.As(err, &no) {
			c.refused(ctx, slog.LevelInfo, audit.Forwarded, w.attrs(destination, nc.ChannelType(), slog.String("result", "refused"), slog.String("error", short(no.Message)))...)
			return &refusal{no.Reason, no.Message}
		}
		return c.failed(ctx, w.target.Name, w.login, err)
	}
	near, nearRequests, ok := accept(nc)
	if !ok {
		_ = far.Close()
		c.spawn(func() { refuse(farRequests) })
		return nil
	}
	c.copied(ctx, roster.Opening{Kind: "forward", Way: roster.Terminated, Target: w.target.Name, Login: w.login, Detail: clip(destination), Rule: w.grant.Rule},
		end{near, nearRequests}, end{far, farRequests}, w.attrs(destination, nc.ChannelType()))
	return nil
}

// attrs say what is forwarded where.
func (w *way) attrs(destination, kind string, more ...slog.Attr) []slog.Attr {
	return append([]slog.Attr{
		slog.String("target", w.target.Name), slog.String("login", w.login), slog.String("rule", w.grant.Rule),
		slog.String("kind", kind), slog.String("destination", short(destination)),
	}, more...)
}

// copied copies between the client and a far end, and says afterwards what went through.
func (c *connection) copied(ctx context.Context, what roster.Opening, client, server end, attrs []slog.Attr) {
	began := c.service.Now()
	ch := c.entry.Open(what)
	defer ch.Close()
	var in, out int64
	noteIn, noteOut := c.in(ch), c.out(ch)
	join(c.spawn, client, server, func(n int64) { in += n; noteIn(n) }, func(n int64) { out += n; noteOut(n) })
	attrs = append(attrs, slog.String("result", "ok"), slog.Int64("bytes_in", in), slog.Int64("bytes_out", out),
		slog.Float64("seconds", c.service.Now().Sub(began).Seconds()))
	c.event(ctx, slog.LevelInfo, audit.Forwarded, attrs...)
}
