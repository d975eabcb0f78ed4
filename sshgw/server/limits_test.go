// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

func TestSourceOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := sourceOf(netip.MustParseAddr(addr)).String(); got != want {
			t.Errorf("%s counts as %s, want %s", addr, got, want)
		}
	}
}

// TestAttackOneNetworkOfAddresses: who has one IPv6 address has 2^64, which are one source.
func TestAttackOneNetworkOfAddresses(t *testing.T) {
	g := newGate()
	l := config.Limits{Connections: 100, Unauthenticated: 100, UnauthenticatedFrom: 3, Penalty: time.Second, PenaltyMax: time.Minute}
	now := time.Now()
	in := 0
	for i := range 100 {
		if _, why := g.enter(sourceOf(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))), l, now); why == nil {
			in++
		}
	}
	if in != 3 {
		t.Errorf("%d handshakes of one network", in)
	}
	if _, why := g.enter(sourceOf(netip.MustParseAddr("2001:db8:0:1::1")), l, now); why != nil {
		t.Errorf("another network: %v", why)
	}
	g.failed(netip.MustParseAddr("2001:db8:0:2::1"), l, now)
	if _, why := g.enter(sourceOf(netip.MustParseAddr("2001:db8:0:2::2")), l, now); why == nil {
		t.Error("a neighbour of one that failed does not wait")
	}
}

func TestPenaltyGrowsAndEnds(t *testing.T) {
	g := newGate()
	l := config.Limits{Connections: 9, Unauthenticated: 9, UnauthenticatedFrom: 9, Penalty: time.Second, PenaltyMax: 5 * time.Second}
	addr := netip.MustParseAddr("192.0.2.7")
	now := time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)
	waits := func() (d time.Duration) {
		for ; d < time.Minute; d += 500 * time.Millisecond {
			v, why := g.enter(sourceOf(addr), l, now.Add(d))
			if why == nil {
				v.leave()
				return d
			}
		}
		return d
	}
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		g.failed(addr, l, now)
		if got := waits(); got != want {
			t.Errorf("after failure %d: %s, want %s", i+1, got, want)
		}
		now = now.Add(want)
	}
	now = now.Add(l.PenaltyMax)
	g.failed(addr, l, now)
	if got := waits(); got != time.Second {
		t.Errorf("after a quiet time: %s", got)
	}
	for i := range maxPenalties + 100 { // bounded against everybody
		g.failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), l, now)
	}
	if g.penalties.Len() > maxPenalties {
		t.Errorf("%d sources are remembered", g.penalties.Len())
	}
}

// What a visitor holds is given up once, however it leaves.
func TestGateCounts(t *testing.T) {
	g := newGate()
	l := config.Limits{Connections: 2, Unauthenticated: 2, UnauthenticatedFrom: 2, ConnectionsFrom: 2, ConnectionsUser: 1}
	source := sourceOf(netip.MustParseAddr("192.0.2.7"))
	v, why := g.enter(source, l, time.Now())
	if why != nil {
		t.Fatal(why)
	}
	for _, user := range []string{"alice", "bob", "alice"} { // a name that changes on the way
		if why := v.admit(user, l); why != nil {
			t.Fatal(why)
		}
	}
	if g.open != 1 || g.connectionsUser["alice"] != 1 || g.connectionsUser["bob"] != 0 {
		t.Errorf("counted %d, %v", g.open, g.connectionsUser)
	}
	w, _ := g.enter(source, l, time.Now())
	if why := w.admit("alice", l); why == nil || why.setting != "limits.connections_user" {
		t.Errorf("a second connection of alice: %v", why)
	}
	v.authenticated()
	v.leave()
	v.leave()
	w.leave()
	if g.handshakes != 0 || g.open != 0 || len(g.handshakesFrom)+len(g.connectionsFrom)+len(g.connectionsUser) != 0 {
		t.Errorf("left behind: %+v", g)
	}
}
