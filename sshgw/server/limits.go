// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

// maxPenalties bounds how many sources are remembered for having failed; the one that
// was heard of the longest time ago goes first.
const maxPenalties = 1 << 14

// refusal is a limit that kept somebody out; its setting is for the log.
type refusal struct{ reason, setting string }

func (r *refusal) Error() string { return fmt.Sprintf("%s (%s)", r.reason, r.setting) }

// gate counts who is in and who is on the way in.
type gate struct {
	mu              sync.Mutex
	handshakes      int
	open            int
	handshakesFrom  map[netip.Prefix]int
	connectionsFrom map[netip.Prefix]int
	connectionsUser map[string]int
	penalties       *simplelru.LRU[netip.Prefix, penalty]
}

// penalty is how long a source stays out.
type penalty struct {
	until time.Time
	last  time.Duration
}

func newGate() *gate {
	penalties, err := simplelru.NewLRU[netip.Prefix, penalty](maxPenalties, nil)
	if err != nil {
		panic(err) // the size is a constant above zero
	}
	return &gate{
		handshakesFrom: map[netip.Prefix]int{}, connectionsFrom: map[netip.Prefix]int{}, connectionsUser: map[string]int{},
		penalties: penalties,
	}
}

// sourceOf is what counts as one source: an IPv4 address, or an IPv6 network of 64 bits,
// since whoever has one address there has them all.
func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all of these are one source
	}
	return p
}

// visitor is one connection's place in the gate.
type visitor struct {
	gate        *gate
	source      netip.Prefix
	handshaking bool
	user        string // counted as this user's
	counted     bool
}

// enter admits a connection to the handshake.
func (g *gate) enter(source netip.Prefix, l config.Limits, now time.Time) (*visitor, *refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, ok := g.penalties.Get(source); ok && now.Before(p.until) {
		return nil, &refusal{"this source failed before and has to wait", "limits.penalty"}
	}
	switch {
	case g.handshakesFrom[source] >= l.UnauthenticatedFrom:
		return nil, &refusal{"too many handshakes from one source", "limits.unauthenticated_from"}
	case g.handshakes >= l.Unauthenticated:
		return nil, &refusal{"too many handshakes at once", "limits.unauthenticated"}
	case g.open >= l.Connections:
		return nil, &refusal{"too many connections", "limits.connections"}
	}
	g.handshakes++
	g.handshakesFrom[source]++
	return &visitor{gate: g, source: source, handshaking: true}, nil
}

// admit counts the visitor among a user's connections. Called again for another user,
// it gives up the first.
func (v *visitor) admit(user string, l config.Limits) *refusal {
	g := v.gate
	g.mu.Lock()
	defer g.mu.Unlock()
	v.uncount()
	switch {
	case g.open >= l.Connections:
		return &refusal{"too many connections", "limits.connections"}
	case g.connectionsFrom[v.source] >= l.ConnectionsFrom:
		return &refusal{"too many connections from one source", "limits.connections_from"}
	case g.connectionsUser[user] >= l.ConnectionsUser:
		return &refusal{"too many connections of one user", "limits.connections_user"}
	}
	g.open++
	g.connectionsFrom[v.source]++
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
	drop(g.connectionsFrom, v.source)
	drop(g.connectionsUser, v.user)
	v.counted = false
}

// authenticated gives up the visitor's place among the handshakes.
func (v *visitor) authenticated() {
	v.gate.mu.Lock()
	defer v.gate.mu.Unlock()
	v.shaken()
}

func (v *visitor) shaken() {
	if v.handshaking {
		v.gate.handshakes--
		drop(v.gate.handshakesFrom, v.source)
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

// failed makes the source wait, longer each time until it has been quiet for as long as
// the longest wait.
func (g *gate) failed(addr netip.Addr, l config.Limits, now time.Time) {
	if l.Penalty <= 0 || exempt(addr, l.PenaltyExempt) {
		return
	}
	source := sourceOf(addr)
	g.mu.Lock()
	defer g.mu.Unlock()
	wait := l.Penalty
	if p, ok := g.penalties.Get(source); ok && now.Before(p.until.Add(l.PenaltyMax)) {
		wait = max(wait, min(2*p.last, l.PenaltyMax))
	}
	g.penalties.Add(source, penalty{now.Add(wait), wait})
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
