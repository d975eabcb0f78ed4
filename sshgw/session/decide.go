// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
	"github.com/sallyport-mfa/sallyport/sshgw/route"
)

// way is a target, a login there, and what a rule in force grants.
type way struct {
	target *inventory.Target
	login  string
	grant  policy.Grant
}

// decide finds the target and asks the rules in force. Its error is a refusal.
func (c *connection) decide(ctx context.Context, name, login string) (*way, error) {
	if err := c.stands(ctx); err != nil {
		return nil, err
	}
	cfg := c.config()
	t, err := route.Named(cfg.Inventory(), name)
	if err != nil {
		return nil, c.denied(ctx, short(name), short(login), "no_such_target", fmt.Sprintf("no target is called %s", clip(name)))
	}
	if login == "" {
		login = route.LoginAt(t, c.id.Account.Name)
	}
	// It is data of the peer's wherever it comes from: "root:x" is root for some sshd, and
	// fits no rule about root.
	if !inventory.Login(login) {
		return nil, c.denied(ctx, t.Name, short(login), "login", fmt.Sprintf("%s is no name of an account", clip(login)))
	}
	w := &way{target: t, login: login}
	w.grant = c.grant(ctx, cfg, t, w.login)
	if !w.grant.Allowed {
		return nil, c.denied(ctx, t.Name, short(w.login), w.grant.Reason,
			fmt.Sprintf("no rule lets %s reach %s as %s", c.id.Account.Name, t.Name, clip(w.login)), slog.String("rule", w.grant.Rule))
	}
	return w, nil
}

// grant is what the rules in force grant, the batch rules before all.
func (c *connection) grant(ctx context.Context, cfg *config.Config, t *inventory.Target, login string) policy.Grant {
	if c.id.Factor == identity.Batched {
		b := cfg.Batch(config.DoorQuery{
			User: c.id.Account.Name, InGroup: c.inGroup, Key: c.id.Key, Source: c.id.Source.Addr().String(),
		})
		if b == nil || b.Name != c.id.DoorRule || !b.Reaches(t) {
			return policy.Grant{Rule: c.id.DoorRule, Reason: "batch_target"}
		}
	}
	g := cfg.Rules().Decide(ctx, policy.Query{
		Account: c.id.Account, InGroup: c.inGroup, Key: c.id.Key, Source: c.id.Source.Addr(),
		Time: c.service.Now(), Target: t, Login: login,
	})
	// What the key or certificate takes away is gone, whatever a rule permits; and what
	// it says cannot be seen to in a jump that passes through unseen.
	limits := c.id.Limits
	// X11 shows what no recording has, and an agent's answers are in none: a rule that
	// requires one must name them.
	g.Agent = g.Agent && !limits.NoAgent && !unseen(&g)
	g.X11 = g.X11 && !limits.NoX11 && !unseen(&g)
	g.Raw = g.Raw && !limits.NoPTY && !limits.NoAgent && !limits.NoX11 && limits.Command == "" &&
		limits.PermitOpen == nil && limits.PermitListen == nil
	return g
}

// unseen says that the rule requires a recording, and has not named what goes past one.
func unseen(g *policy.Grant) bool { return g.Record == policy.RecordRequired && g.Everything() }

func (c *connection) inGroup(ctx context.Context, group string) (bool, error) {
	return c.service.People.InGroup(ctx, c.id.Account, group)
}

// mayOpen says whether the options of the key permit a forwarding to host:port, as
// sshd(8) has it for permitopen.
func mayOpen(l identity.Limits, host string, port uint16) bool {
	return !l.NoForwarding && (l.PermitOpen == nil || permitted(l.PermitOpen, host, port))
}

// mayListen is mayOpen for permitlisten, whose host may be left out.
func mayListen(l identity.Limits, host string, port uint16) bool {
	return !l.NoForwarding && (l.PermitListen == nil || permitted(l.PermitListen, host, port))
}

func permitted(list []string, host string, port uint16) bool {
	for _, entry := range list {
		h, p, err := net.SplitHostPort(entry)
		if err != nil {
			h, p = "*", entry
		}
		if p != "*" && p != strconv.Itoa(int(port)) {
			continue
		}
		if h == "*" || strings.EqualFold(h, host) {
			return true
		}
	}
	return false
}
