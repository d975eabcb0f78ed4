// SPDX-License-Identifier: Apache-2.0

package login

import (
	"container/list"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/clock"
)

// maxRemembered bounds a Grace; what was remembered longest ago goes first.
const maxRemembered = 16384

// Grace remembers, in memory alone, who has answered at the gateway with a factor,
// so that the same person with the same key from the same address is not asked
// again at once. It never lets anyone in: whether the person may is asked each
// time. It is safe for concurrent use.
type Grace struct {
	clock clock.Clock

	mu    sync.Mutex
	order *list.List // of *remembered, oldest first
	byKey map[graceKey]*list.Element
}

// graceKey is all that must be the same.
type graceKey struct {
	user, username string // at this host, and at the verifier
	proof          string // the first factor: methods, and fingerprints of keys
	source         netip.Addr
	scope          string
}

type remembered struct {
	graceKey
	factor, txid string
	at           clock.Stamp
}

// The scopes of a memory; that of a step-up ends with its rule.
const (
	scopeDoor   = "door"
	scopeStepUp = "step-up:"
)

// NewGrace makes an empty memory.
func NewGrace(c clock.Clock) *Grace {
	return &Grace{clock: c, order: list.New(), byKey: map[graceKey]*list.Element{}}
}

func (g *Grace) remember(k graceKey, factor, txid string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(g.byKey[k])
	for g.order.Len() >= maxRemembered {
		g.remove(g.order.Front())
	}
	g.byKey[k] = g.order.PushBack(&remembered{graceKey: k, factor: factor, txid: txid, at: g.clock.Stamp()})
}

// recall finds what is at most ttl old.
func (g *Grace) recall(k graceKey, ttl time.Duration) (remembered, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.byKey[k]
	if e == nil {
		return remembered{}, false
	}
	r := e.Value.(*remembered)
	if age, ok := g.clock.Since(r.at); !ok || age >= ttl {
		g.remove(e)
		return remembered{}, false
	}
	return *r, true
}

// forget ends all that is remembered of a person.
func (g *Grace) forget(username string) {
	g.drop(func(r *remembered) bool { return r.username == username })
}

// shrunk ends what was remembered for longer than is now permitted.
func (g *Grace) shrunk(door, stepUp bool) {
	g.drop(func(r *remembered) bool {
		if r.scope == scopeDoor {
			return door
		}
		return stepUp
	})
}

func (g *Grace) drop(which func(*remembered) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for e := g.order.Front(); e != nil; {
		next := e.Next()
		if which(e.Value.(*remembered)) {
			g.remove(e)
		}
		e = next
	}
}

func (g *Grace) remove(e *list.Element) {
	if e != nil {
		delete(g.byKey, g.order.Remove(e).(*remembered).graceKey)
	}
}

// Len is how many answers are remembered.
func (g *Grace) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.order.Len()
}

// graceOf is what this login may be remembered by, and for how long. ok is false
// where nothing is remembered: not switched on, or not known well enough.
func (l *login) graceOf() (k graceKey, ttl time.Duration, ok bool) {
	k = graceKey{user: l.who.Name, username: l.username, source: l.ssh.source, scope: scopeDoor}
	ttl = l.cfg.Gateway.Grace
	if l.claims.kind.forTarget() {
		k.scope, ttl = scopeStepUp+l.claims.rule, l.cfg.Gateway.StepUpGrace
	}
	auth := l.ssh.auth
	if l.Grace == nil || l.claims.kind == "" || ttl <= 0 || l.ssh.authErr != nil || auth.KeysUnknown || !auth.FirstFactor() || !l.ssh.source.IsValid() {
		return k, 0, false
	}
	k.proof = strings.Join(auth.Methods, ",") + " " + strings.Join(auth.Keys, ",")
	return k, ttl, true
}

// recalled answers from memory. It is asked only once the verifier has said that
// the person may log in with a factor.
func (l *login) recalled() (verdict, bool) {
	k, ttl, ok := l.graceOf()
	if !ok || l.claims.fresh {
		return verdict{}, false
	}
	r, ok := l.Grace.recall(k, ttl)
	if !ok || l.service.Factors != nil && !slices.Contains(l.service.Factors, r.factor) {
		return verdict{}, false
	}
	l.factor, l.txid = r.factor, r.txid
	return allow("gateway_remembered"), true
}

// bearInMind remembers a factor that was proved, and ends what was remembered of a
// person who was refused.
func (l *login) bearInMind(v verdict) {
	if l.Grace == nil || l.username == "" {
		return
	}
	switch v.reason {
	case "approved", "passcode":
		if k, _, ok := l.graceOf(); ok && v.outcome == outcomeAllow {
			l.Grace.remember(k, l.factor, l.txid)
		}
	case "verifier_deny", "not_enrolled", "fraud", "locked_out":
		l.Grace.forget(l.username)
	}
}

// refused ends what is remembered of a person who has just said no to a request:
// somebody else may be at their key.
func (l *login) refused() {
	if l.Grace != nil && l.username != "" {
		l.Grace.forget(l.username)
	}
}
