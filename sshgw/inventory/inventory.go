// SPDX-License-Identifier: Apache-2.0

// Package inventory is the servers that can be reached through the gateway: their
// names, addresses, labels and groups, from TOML files. It never decides who may.
package inventory

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// Target is one server. It is only read once made.
type Target struct {
	Name        string            // as people type it, canonical
	Aliases     []string          // other names for it, canonical
	Host        string            // DNS name or address to dial, canonical
	Port        uint16            // of its sshd
	Labels      map[string]string //
	Groups      []string
	Logins      []string // offered by the menu and to completion; the first is the default, none: the user's own name
	HostCAs     []string // names of [[host_ca]] in sshgw.toml; see package target
	Credential  string   // name of a [[credential]], several with commas between; "" for the default
	Description string
	Pattern     string // of the [[pattern]] that made it, "" for a target written out
}

// Inventory is a set of targets. It is safe for concurrent use.
type Inventory struct {
	targets  []*Target // by name
	byName   map[string]*Target
	byHost   map[hostPort]*Target
	byAddr   map[netip.AddrPort]*Target
	patterns []*pattern
	// resolved is byAddr for targets whose Host is a name; see Book.Watch.
	resolved atomic.Pointer[addresses]
	hosts    map[string]*Target // by Host, the first of each by name
}

// addresses are what hosts that are names resolve to.
type addresses struct {
	sshd  map[netip.AddrPort]*Target
	hosts map[netip.Addr]*Target
	// unknown are the targets of whose hosts nothing was found.
	unknown []*Target
}

type hostPort struct {
	host string
	port uint16
}

// Find returns the target of a name or alias: one that is written out, else the first
// pattern that matches. A name that a pattern leads to the sshd of another target is that
// target: rules about a server hold by whatever name it is called.
func (inv *Inventory) Find(name string) (*Target, bool) {
	name, ok := Canonical(name)
	if !ok {
		return nil, false
	}
	if t, ok := inv.byName[name]; ok {
		return t, true
	}
	t, ok := inv.byPattern(name)
	if !ok {
		return nil, false
	}
	if same, ok := inv.At(t.Host, nil, t.Port); ok {
		return same, true
	}
	return t, true
}

// byPattern is the target that the first pattern makes of a name.
func (inv *Inventory) byPattern(name string) (*Target, bool) {
	for _, p := range inv.patterns {
		if t, ok := p.target(name); ok {
			return t, true
		}
	}
	return nil, false
}

// At returns the target whose sshd answers at one of these addresses and this port,
// or whose name or Host is that name, so that a forwarding to it is seen as what it is.
func (inv *Inventory) At(host string, addrs []netip.Addr, port uint16) (*Target, bool) {
	name, addr, ok := Host(host)
	switch {
	case !ok:
	case addr.IsValid():
		if t, ok := inv.atAddr(addr, port); ok {
			return t, true
		}
		name = addr.String()
		fallthrough
	default:
		if t, ok := inv.byHost[hostPort{name, port}]; ok {
			return t, true
		}
		if t, ok := inv.byName[name]; ok && t.Port == port {
			return t, true
		}
		if t, ok := inv.patternAt(name, port); ok {
			return t, true
		}
	}
	for _, a := range addrs {
		if t, ok := inv.atAddr(a.Unmap().WithZone(""), port); ok {
			return t, true
		}
	}
	return nil, false
}

func (inv *Inventory) atAddr(addr netip.Addr, port uint16) (*Target, bool) {
	at := netip.AddrPortFrom(addr, port)
	if t, ok := inv.byAddr[at]; ok {
		return t, true
	}
	if resolved := inv.resolved.Load(); resolved != nil {
		t, ok := resolved.sshd[at]
		return t, ok
	}
	return nil, false
}

// OnHost returns a target on a host, whatever the port: the one of that name, else the first
// by name at the host or at one of its addresses.
func (inv *Inventory) OnHost(host string, addrs []netip.Addr) (*Target, bool) {
	if t, ok := inv.Find(host); ok {
		return t, true
	}
	name, addr, ok := Host(host)
	if ok && addr.IsValid() {
		name, addrs = addr.String(), append([]netip.Addr{addr}, addrs...)
	}
	if t, found := inv.hosts[name]; ok && found {
		return t, true
	}
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if t, found := inv.hosts[a.String()]; found {
			return t, true
		}
		if resolved := inv.resolved.Load(); resolved != nil {
			if t, found := resolved.hosts[a]; found {
				return t, true
			}
		}
	}
	if ok {
		for _, p := range inv.patterns {
			if t, found := inv.patternAt(name, p.port); found {
				return t, true
			}
		}
	}
	return nil, false
}

// patternAt finds the target that a pattern makes with this host, or of this name.
func (inv *Inventory) patternAt(name string, port uint16) (*Target, bool) {
	for _, p := range inv.patterns {
		if p.port != port {
			continue
		}
		called, ok := p.nameOf(name)
		if !ok {
			continue
		}
		if _, written := inv.byName[called]; written {
			continue
		}
		// An earlier pattern may take that name elsewhere.
		if t, ok := inv.byPattern(called); ok && t.Host == name && t.Port == port {
			return t, true
		}
	}
	if t, ok := inv.byPattern(name); ok && t.Port == port {
		return t, true
	}
	return nil, false
}

// All returns the targets that are written out, by name.
func (inv *Inventory) All() []*Target { return slices.Clone(inv.targets) }

// Patterns are the names of the [[pattern]] tables, in their order.
func (inv *Inventory) Patterns() []string {
	out := make([]string, 0, len(inv.patterns))
	for _, p := range inv.patterns {
		out = append(out, p.written)
	}
	return out
}

// Samples are targets as the patterns would make them: for a look at what rules would say of
// such a target, not for anybody to reach.
func (inv *Inventory) Samples() []*Target {
	var out []*Target
	for _, p := range inv.patterns {
		if t, ok := p.target(strings.ReplaceAll(p.written, "*", "1")); ok {
			out = append(out, t)
		}
	}
	return out
}
