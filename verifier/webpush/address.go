// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"
)

// errAddress means that a connection was not made, for where it would have gone.
var errAddress = errors.New("neither a public address nor in web_push.allow_networks")

// unicast6 is where public IPv6 addresses come from (IANA IPv6 Global Unicast Address Assignments).
var unicast6 = netip.MustParsePrefix("2000::/3")

// special are the ranges, of those that look public, that are not or that lead
// elsewhere (IANA IPv4 and IPv6 Special-Purpose Address Registries, RFC 6890).
var special = prefixes(
	"0.0.0.0/8",         // this network
	"10.0.0.0/8",        // private
	"100.64.0.0/10",     // shared by carriers; a cloud has its metadata there
	"127.0.0.0/8",       // loopback
	"168.63.129.16/32",  // a cloud's service for its own machines
	"169.254.0.0/16",    // link-local; most clouds have their metadata there
	"172.16.0.0/12",     // private
	"192.0.0.0/24",      // protocol assignments
	"192.0.2.0/24",      // documentation
	"192.31.196.0/24",   // AS112
	"192.52.193.0/24",   // AMT
	"192.88.99.0/24",    // 6to4 relays
	"192.168.0.0/16",    // private
	"192.175.48.0/24",   // AS112
	"198.18.0.0/15",     // benchmarks
	"198.51.100.0/24",   // documentation
	"203.0.113.0/24",    // documentation
	"224.0.0.0/4",       // multicast
	"240.0.0.0/4",       // reserved, and broadcast
	"2001::/23",         // protocol assignments, with Teredo, ORCHID, AMT
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4: leads to an IPv4 address
	"2620:4f:8000::/48", // AS112
	"3fff::/20",         // documentation
)

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		out[i] = netip.MustParsePrefix(text)
	}
	return out
}

// address says whether a connection may go there.
func (b bounds) address(a netip.Addr) bool {
	a = a.Unmap()
	within := func(p netip.Prefix) bool { return p.Contains(a) }
	switch {
	case a.Zone() != "":
		return false
	case slices.ContainsFunc(b.networks, within):
		return true
	case !a.Is4() && !unicast6.Contains(a):
		return false
	}
	return !slices.ContainsFunc(special, within)
}

// control is a net.Dialer's: it sees the address that a name was resolved to.
func (b bounds) control(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	if !b.address(at.Addr()) {
		return fmt.Errorf("connect to %s: %w", at.Addr(), errAddress)
	}
	return nil
}
