// SPDX-License-Identifier: Apache-2.0

// Package inventory is the servers that can be reached through the gateway: their
// names, addresses, labels and groups, from TOML files. It never decides who may.
package inventory

import "net/netip"

// Target is one server. It is only read once made.
type Target struct {
	Name        string            // as people type it, canonical
	Aliases     []string          // other names for it
	Host        string            // DNS name or address to dial
	Port        uint16            // of its sshd
	Labels      map[string]string //
	Groups      []string
	Logins      []string // offered by the menu and to completion; the first is the default, none: the user's own name
	HostCAs     []string // names of [[host_ca]] in sshgw.toml; see package target
	Credential  string   // name of a [[credential]], "" for the default
	Description string
	Pattern     string // of the [[pattern]] that made it, "" for a target written out
}

// Inventory is a set of targets. It is only read once made.
type Inventory struct {
	// Fields are the owner's.
}

// Find returns the target of a name or alias: one that is written out, else the first
// pattern that matches.
func (inv *Inventory) Find(name string) (*Target, bool) { panic("not built yet") }

// At returns the target whose sshd answers at one of these addresses and this port,
// or whose Host is that name, so that a forwarding to it is seen as what it is.
func (inv *Inventory) At(host string, addrs []netip.Addr, port uint16) (*Target, bool) {
	panic("not built yet")
}

// All returns the targets that are written out, by name.
func (inv *Inventory) All() []*Target { panic("not built yet") }
