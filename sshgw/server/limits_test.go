// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

func TestSourceOf(t *testing.T) {
	for addr, want := range map[string]string{
		"192.0.2.7": "192.0.2.7/32", "::ffff:192.0.2.7": "192.0.2.7/32", "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := sourceOf(netip.MustParseAddr(addr))[0].String(); got != want {
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
		if _, why := g.enter(sourceOf(netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", i+1))), l, now, nothing); why == nil {
			in++
		}
	}
	if in != 3 {
		t.Errorf("%d handshakes of one network", in)
	}
	if _, why := g.enter(sourceOf(netip.MustParseAddr("2001:db8:0:1::1")), l, now, nothing); why != nil {
		t.Errorf("another network: %v", why)
	}
	g.failed(netip.MustParseAddr("2001:db8:0:2::1"), l, now)
	if _, why := g.enter(sourceOf(netip.MustParseAddr("2001:db8:0:2::2")), l, now, nothing); why == nil {
		t.Error("a neighbour of one that failed does not wait")
	}
}

// nothing ends a connection that is not there.
func nothing() {}

// penalties are those of the defaults, with room for everybody.
func penalties() config.Limits {
	return config.Limits{
		Connections: 1000, Unauthenticated: 1000, UnauthenticatedFrom: 1000, ConnectionsFrom: 1000, ConnectionsUser: 1000,
		Penalty: 5 * time.Second, PenaltyMin: 15 * time.Second, PenaltyMax: time.Minute,
	}
}

// comes says whether a connection is let in to the handshake.
func comes(g *gate, addr netip.Addr, l config.Limits, now time.Time) bool {
	v, why := g.enter(sourceOf(addr), l, now, nothing)
	if why == nil {
		v.leave()
	}
	return why == nil
}

func TestPenaltyGrowsAndEnds(t *testing.T) {
	g, l := newGate(), penalties()
	addr := netip.MustParseAddr("192.0.2.7")
	begin := time.Date(2026, 7, 15, 12, 0, 0, 0, time.UTC)
	now := begin
	for i := range 3 {
		if !comes(g, addr, l, now) {
			t.Fatalf("shut out after %d failures", i)
		}
		g.failed(addr, l, now)
	}
	for after, want := range map[time.Duration]bool{0: false, 14 * time.Second: false, 15 * time.Second: true} {
		if comes(g, addr, l, begin.Add(after)) != want {
			t.Errorf("%s after the third failure: not %v", after, want)
		}
	}
	now = now.Add(15 * time.Second)
	if g.failed(addr, l, now); !comes(g, addr, l, now) {
		t.Error("what has run off counts")
	}
	for range 100 {
		g.failed(addr, l, now)
	}
	if comes(g, addr, l, now.Add(l.PenaltyMax-time.Second)) || !comes(g, addr, l, now.Add(l.PenaltyMax)) {
		t.Error("a hundred failures do not cost the longest penalty")
	}
	for i := range maxPenalties + 100 { // bounded against everybody
		g.failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), l, now)
	}
	if g.penalties.Len() > maxPenalties {
		t.Errorf("%d sources are remembered", g.penalties.Len())
	}
}

// TestAttackOneFailsForAllBehindAnAddress: a job with an old key, behind the address of a
// whole site, fails again and again; its colleagues come in all the same.
func TestAttackOneFailsForAllBehindAnAddress(t *testing.T) {
	for _, every := range []time.Duration{10 * time.Second, time.Minute, 5 * time.Minute} {
		g, l := newGate(), penalties()
		addr := netip.MustParseAddr("192.0.2.1")
		now := time.Unix(1e9, 0)
		for s := range 24 * 3600 {
			now = now.Add(time.Second)
			if time.Duration(s)*time.Second%every == 0 {
				g.failed(addr, l, now)
			}
			if !comes(g, addr, l, now) {
				t.Fatalf("a job that fails every %s shut its colleagues out after %d s", every, s)
			}
		}
	}
}

// A site where some fail and others succeed is not one that guesses.
func TestSuccessHalvesAPenalty(t *testing.T) {
	g, l := newGate(), penalties()
	addr, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1e9, 0)
	for range 100 {
		g.failed(addr, l, now)
		g.succeeded(addr, l, now)
		if !comes(g, addr, l, now) {
			t.Fatal("shut out, though every second connection is a login")
		}
	}
	for range 3 {
		g.failed(addr, l, now)
	}
	if comes(g, addr, l, now) {
		t.Fatal("not shut out by three failures in a row")
	}
	// A login that was on its way opens the source again.
	if g.succeeded(addr, l, now); !comes(g, addr, l, now) {
		t.Error("a login changes nothing")
	}
}

// TestAttackManyNetworksOfOneSite: who has 48 bits of IPv6 has 65536 networks of 64, which
// have four shares together, of places and of penalties.
func TestAttackManyNetworksOfOneSite(t *testing.T) {
	g, l := newGate(), penalties()
	l.UnauthenticatedFrom = 3
	now := time.Unix(1e9, 0)
	address := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8:7:%x::1", i)) }
	in := 0
	for i := range 100 {
		if _, why := g.enter(sourceOf(address(i)), l, now, nothing); why == nil {
			in++
		}
	}
	if want := wideShares * l.UnauthenticatedFrom; in != want {
		t.Errorf("%d handshakes of one /48, want %d", in, want)
	}
	g, l = newGate(), penalties()
	failures := 0
	for comes(g, address(1000), l, now) && failures < 1000 {
		g.failed(address(failures), l, now)
		failures++
	}
	if failures != 3*wideShares {
		t.Errorf("a /48 is shut out after %d failures, want %d", failures, 3*wideShares)
	}
}

// TestAttackPlacesAreSatOn: connections that prove nothing fill all places, and the oldest
// of them makes room for who comes. Those that have shown a first factor stay.
func TestAttackPlacesAreSatOn(t *testing.T) {
	g, l := newGate(), penalties()
	l.Unauthenticated = 3
	now := time.Unix(1e9, 0)
	var ended []int
	var visitors []*visitor
	enter := func(i int) *limit {
		v, why := g.enter(sourceOf(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})), l, now, func() { ended = append(ended, i) })
		visitors = append(visitors, v)
		return why
	}
	for i := range 3 {
		if why := enter(i); why != nil {
			t.Fatal(why)
		}
	}
	visitors[0].proven()
	if why := enter(3); why != nil || !slices.Equal(ended, []int{1}) || !visitors[1].madeRoom() || visitors[2].madeRoom() {
		t.Fatalf("a newcomer: %v, ended %v", why, ended)
	}
	visitors[1].leave()
	visitors[2].proven()
	visitors[3].proven()
	if why := enter(4); why == nil || why.setting != "limits.unauthenticated" || len(ended) != 1 {
		t.Errorf("where all have proven something: %v, ended %v", why, ended)
	}
	for _, v := range visitors {
		if v != nil {
			v.leave()
		}
	}
	if g.handshakes != 0 || g.unproven.Len() != 0 || len(g.handshakesFrom) != 0 {
		t.Errorf("left behind: %+v", g)
	}
}

// What a visitor holds is given up once, however it leaves.
func TestGateCounts(t *testing.T) {
	g := newGate()
	l := config.Limits{Connections: 2, Unauthenticated: 2, UnauthenticatedFrom: 2, ConnectionsFrom: 2, ConnectionsUser: 1}
	source := sourceOf(netip.MustParseAddr("192.0.2.7"))
	v, why := g.enter(source, l, time.Now(), nothing)
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
	w, _ := g.enter(source, l, time.Now(), nothing)
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
