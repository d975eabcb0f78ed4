// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"net/netip"
	"strings"
)

// maxName is what DNS permits.
const maxName = 253

// Canonical is the one way to write a name of a target or of a host: lower case, without
// the dot at the end. ok is false for what is no such name: names are made of letters of
// ASCII, digits, dots, hyphens and underscores, so that none can look like another.
func Canonical(s string) (name string, ok bool) {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxName || !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]) {
		return "", false
	}
	upper := false
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'A' && c <= 'Z':
			upper = true
		case alphanumeric(c) || c == '-' || c == '_':
		case c == '.' && s[i-1] != '.':
		default:
			return "", false
		}
	}
	if upper {
		s = strings.ToLower(s)
	}
	if numeric(s) {
		// Resolvers take "127.1" and "0x7f000001" for addresses; we take the usual form alone.
		if _, err := netip.ParseAddr(s); err != nil {
			return "", false
		}
	}
	return s, true
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// numeric says whether the last label of a name is a number as inet_aton(3) reads it: such a
// name is an address, or is none.
func numeric(s string) bool {
	last := s[strings.LastIndexByte(s, '.')+1:]
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// Host reads what a peer gives as a host: a name, which is returned canonical, or an
// address, in brackets or not, of which IPv4 in IPv6 is taken out. An address has no name,
// a name no address. ok is false for anything else, addresses with a zone among it.
func Host(s string) (name string, addr netip.Addr, ok bool) {
	if inside, bracketed := strings.CutPrefix(s, "["); bracketed {
		if s, bracketed = strings.CutSuffix(inside, "]"); !bracketed || !strings.Contains(s, ":") {
			return "", netip.Addr{}, false
		}
	}
	if strings.Contains(s, ":") {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return "", netip.Addr{}, false
		}
		return "", a.Unmap(), true
	}
	name, ok = Canonical(s)
	if !ok {
		return "", netip.Addr{}, false
	}
	if a, err := netip.ParseAddr(name); err == nil {
		return "", a, true
	}
	return name, netip.Addr{}, true
}
