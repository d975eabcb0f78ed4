// SPDX-License-Identifier: Apache-2.0

package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// NoProxy is a list of hosts that are reached directly. The zero value is empty.
type NoProxy struct {
	names    map[string]bool
	domains  []string // with their leading dot
	networks []netip.Prefix
}

// ParseNoProxy reads a list of host names (that host), domains with a leading dot
// (every host below), addresses and networks (IPv4, IPv6). Each error names its
// entry.
func ParseNoProxy(entries []string) (NoProxy, error) {
	n := NoProxy{names: map[string]bool{}}
	var errs []error
	for _, entry := range entries {
		if err := n.add(entry); err != nil {
			errs = append(errs, fmt.Errorf("%q: %w", entry, err))
		}
	}
	return n, errors.Join(errs...)
}

func (n *NoProxy) add(entry string) error {
	if strings.Contains(entry, "/") {
		network, err := netip.ParsePrefix(entry)
		switch {
		case err != nil:
			return errors.New("is not a network")
		case network != network.Masked():
			return fmt.Errorf("is an address within %s: which of the two is meant?", network.Masked())
		case network.Addr().Is4In6():
			return errors.New("is IPv4 in the form of IPv6; write the IPv4 network")
		}
		n.networks = append(n.networks, network)
		return nil
	}
	if addr, err := netip.ParseAddr(unbracket(entry)); err == nil {
		if addr.Zone() != "" {
			return errors.New("an address with a zone means something on one machine only")
		}
		addr = addr.Unmap()
		n.networks = append(n.networks, netip.PrefixFrom(addr, addr.BitLen()))
		return nil
	}
	name := canonical(entry)
	if !isName(strings.TrimPrefix(name, ".")) {
		return errors.New("is no host name, domain with a leading dot, address or network; ports have no place here")
	}
	if strings.HasPrefix(name, ".") {
		n.domains = append(n.domains, name)
	} else {
		n.names[name] = true
	}
	return nil
}

// Holds says whether host, a name or an address with or without brackets, is
// reached directly. Names are not looked up: a network holds no name.
func (n NoProxy) Holds(host string) bool {
	if addr, err := netip.ParseAddr(unbracket(host)); err == nil {
		addr = addr.Unmap().WithZone("")
		for _, network := range n.networks {
			if network.Contains(addr) {
				return true
			}
		}
		return false
	}
	name := canonical(host)
	if n.names[name] {
		return true
	}
	for _, domain := range n.domains {
		if len(name) > len(domain) && strings.HasSuffix(name, domain) {
			return true
		}
	}
	return false
}

// canonical is a name as DNS compares it.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func unbracket(host string) string {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if inner, ok := strings.CutSuffix(inner, "]"); ok {
			return inner
		}
	}
	return host
}

// isName holds for names of letters, digits, hyphens and underscores between
// dots. A name of digits and dots alone is an address that was mistyped.
func isName(s string) bool {
	if s == "" || len(s) > 253 || strings.Trim(s, "0123456789.") == "" {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}
