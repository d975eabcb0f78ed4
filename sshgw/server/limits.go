// SPDX-License-Identifier: Apache-2.0

package server

import (
	"container/list"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

// maxPenalties bounds how many sources are remembered for having failed; the one that
// was heard of the longest time ago goes first.
const maxPenalties = 1 << 14

// limit is one that kept somebody out: a word for the log, and its setting.
type limit struct{ reason, setting string }

func (l *limit) Error() string { return fmt.Sprintf("%s (%s)", l.reason, l.setting) }

// gate counts who is in and who is on the way in.
type gate struct {
	mu              sync.Mutex
	handshakes      int
	open            int
	unproven        *list.List // visitors without a first factor, the oldest first
	handshakesFrom  map[netip.Prefix]int
	connectionsFrom map[netip.Prefix]int
	connectionsUser map[string]int
	penalties       *simplelru.LRU[netip.Prefix, penalty]
}

// penalty is what a network has to its account; it runs off with time.
type penalty struct {
	until time.Time
	shut  bool // nobody comes in until it has run off
}

func newGate() *gate {
	penalties, err := simplelru.NewLRU[netip.Prefix, penalty](maxPenalties, nil)
	if err != nil {
		panic(err) // the size is a constant above zero
	}
	return &gate{
		unproven: list.New(), handshakesFrom: map[netip.Prefix]int{}, connectionsFrom: map[netip.Prefix]int{}, connectionsUser: map[string]int{},
		penalties: penalties,
	}
}

// network is one that counts as a source, with how many shares it has.
type network struct {
	netip.Prefix
	shares int
}

// Who has one IPv6 address has all of its network of 64 bits, and often one of 48, which
// may also be that of a site with many people.
const (
	wide       = 48
	wideShares = 4
)

// sourceOf is what counts as one source: an IPv4 address, or an IPv6 network, a narrow one
// and a wide one.
func sourceOf(a netip.Addr) []network {
	a = a.Unmap().WithZone("")
	one := network{auth.Source(a), 1}
	if !a.Is6() {
		return []network{one}
	}
	return []network{one, {netip.PrefixFrom(a, wide).Masked(), wideShares}}
}

// visitor is one connection's place in the gate.
type visitor struct {
	gate        *gate
	source      []network
	handshaking bool
	waiting     *list.Element // among the unproven, nil when it is not
	end         func()        // closes the connection
	dropped     bool          // to make room
	user        string        // counted as this user's
	counted     bool
}

// enter admits a connection to the handshake, if need be in place of the oldest one that
// has proven nothing: places are for those who come to log in, and not for those who sit
// on them. end closes the connection.
func (g *gate) enter(source []network, l config.Limits, now time.Time, end func()) (*visitor, *limit) {
	v, instead, why := g.place(source, l, now, end)
	if instead != nil {
		instead()
	}
	return v, why
}

// place finds a place for a handshake. instead, if there is one, ends the connection that
// had it before.
func (g *gate) place(source []network, l config.Limits, now time.Time, end func()) (v *visitor, instead func(), why *limit) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range source {
		if p, ok := g.penalties.Get(n.Prefix); ok && p.shut && now.Before(p.until) {
			return nil, nil, &limit{"penalty", "limits.penalty"}
		}
		if g.handshakesFrom[n.Prefix] >= n.shares*l.UnauthenticatedFrom {
			return nil, nil, &limit{"handshakes_from", "limits.unauthenticated_from"}
		}
	}
	if g.open >= l.Connections {
		return nil, nil, &limit{"connections", "limits.connections"}
	}
	if g.handshakes >= l.Unauthenticated {
		oldest := g.unproven.Front()
		if oldest == nil {
			return nil, nil, errCrowd
		}
		v := oldest.Value.(*visitor)
		v.dropped = true
		v.shaken()
		instead = v.end
	}
	g.handshakes++
	for _, n := range source {
		g.handshakesFrom[n.Prefix]++
	}
	v = &visitor{gate: g, source: source, handshaking: true, end: end}
	v.waiting = g.unproven.PushBack(v)
	return v, instead, nil
}

// errCrowd is the limit for who found no place, or lost it.
var errCrowd = &limit{"handshakes", "limits.unauthenticated"}

// admit counts the visitor among a user's connections. Called again for another user,
// it gives up the first.
func (v *visitor) admit(user string, l config.Limits) *limit {
	g := v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	v.uncount()
	switch {
	case g.open >= l.Connections:
		return &limit{"connections", "limits.connections"}
	case slices.ContainsFunc(v.source, func(n network) bool { return g.connectionsFrom[n.Prefix] >= n.shares*l.ConnectionsFrom }):
		return &limit{"connections_from", "limits.connections_from"}
	case g.connectionsUser[user] >= l.ConnectionsUser:
		return &limit{"connections_user", "limits.connections_user"}
	}
	g.open++
	for _, n := range v.source {
		g.connectionsFrom[n.Prefix]++
	}
	g.connectionsUser[user]++
	v.user, v.counted = user, true
	return nil
}

func (v *visitor) uncount() {
	if !v.counted {
		return
	}
	g := v.gate
	g.open--
	for _, n := range v.source {
		drop(g.connectionsFrom, n.Prefix)
	}
	drop(g.connectionsUser, v.user)
	v.counted = false
}

// proven says that the visitor has shown a first factor, and is not one to make room.
func (v *visitor) proven() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.stay()
}

func (v *visitor) stay() {
	if v.waiting != nil {
		v.gate.unproven.Remove(v.waiting)
		v.waiting = nil
	}
}

// madeRoom says whether the visitor lost its place to another.
func (v *visitor) madeRoom() bool {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	return v.dropped
}

// authenticated gives up the visitor's place among the handshakes.
func (v *visitor) authenticated() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.shaken()
}

func (v *visitor) shaken() {
	v.stay()
	if v.handshaking {
		v.gate.handshakes--
		for _, n := range v.source {
			drop(v.gate.handshakesFrom, n.Prefix)
		}
		v.handshaking = false
	}
}

// leave gives up all that the visitor holds.
func (v *visitor) leave() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.shaken()
	v.uncount()
}

// failed adds to the penalty of a source. One that fails now and then, as a job with an
// old key does, is not shut out, nor are those who share its address; who guesses is.
func (g *gate) failed(addr netip.Addr, l config.Limits, now time.Time) {
	if l.Penalty <= 0 || exempt(addr, l.PenaltyExempt) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range sourceOf(addr) {
		p, left := g.owed(n, now)
		left = min(left+l.Penalty/time.Duration(n.shares), l.PenaltyMax)
		g.penalties.Add(n.Prefix, penalty{now.Add(left), p.shut || left >= l.PenaltyMin})
	}
}

// succeeded halves the penalty of a source from which somebody came in.
func (g *gate) succeeded(addr netip.Addr, l config.Limits, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range sourceOf(addr) {
		if p, left := g.owed(n, now); left > 0 {
			left /= 2
			g.penalties.Add(n.Prefix, penalty{now.Add(left), p.shut && left >= l.PenaltyMin})
		}
	}
}

// owed is what is left of a network's penalty.
func (g *gate) owed(n network, now time.Time) (penalty, time.Duration) {
	p, ok := g.penalties.Get(n.Prefix)
	if !ok || !now.Before(p.until) {
		return penalty{}, 0
	}
	return p, p.until.Sub(now)
}

func exempt(addr netip.Addr, networks []string) bool {
	addr = addr.Unmap().WithZone("")
	for _, s := range networks {
		if p, err := netip.ParsePrefix(s); err == nil && p.Contains(addr) {
			return true
		}
		if a, err := netip.ParseAddr(s); err == nil && a.Unmap() == addr {
			return true
		}
	}
	return false
}

func drop[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}
