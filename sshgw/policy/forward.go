// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/match"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// destinations are values of the form host:port.
type destinations []destination

// destination is one of them: a host is a name, a pattern of names, an address, a network or
// *, which is any; a port is a number, a range or *.
type destination struct {
	any      bool
	name     string // or a pattern
	pattern  bool
	network  netip.Prefix
	from, to uint16
}

// newDestinations compiles values; bare is the host of a value without one, "" where each
// must have one.
func newDestinations(written []string, bare string) (destinations, error) {
	var out destinations
	var errs []error
	for _, w := range written {
		d, err := newDestination(w, bare)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, d)
	}
	return out, errors.Join(errs...)
}

func newDestination(w, bare string) (d destination, err error) {
	if strings.HasPrefix(w, "!") {
		return d, fmt.Errorf("%q: what is not named is not permitted, so nothing is negated here", w)
	}
	host, port := bare, w
	if i := strings.LastIndexByte(w, ':'); i >= 0 {
		host, port = w[:i], w[i+1:]
	}
	if host == "" {
		return d, fmt.Errorf("%q is not of the form host:port", w)
	}
	if d.from, d.to, err = newPorts(port); err != nil {
		return d, fmt.Errorf("%q: %w", w, err)
	}
	// An IPv6 address or network stands in brackets, so that its port is told from it.
	inside, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		if inside, bracketed = strings.CutSuffix(inside, "]"); !bracketed {
			return d, fmt.Errorf("%q: a bracket is not closed", w)
		}
		host = inside
	} else if strings.Contains(host, ":") {
		return d, fmt.Errorf("%q: an IPv6 address stands in brackets, [2001:db8::1]:443", w)
	}
	switch {
	case host == "*":
		d.any = true
	case strings.Contains(host, "/") || bracketed:
		if d.network, err = match.ParseNetwork(host); err != nil {
			return d, fmt.Errorf("%q: %w", w, err)
		}
	case match.IsPattern(host):
		// 10.* is a pattern of names, and there is a name 10.example.
		sample := strings.NewReplacer("*", "0", "?", "0").Replace(host)
		if _, addr, ok := inventory.Host(sample); !ok || addr.IsValid() || strings.Trim(host, "0123456789.*?") == "" {
			return d, fmt.Errorf("%q: %q is no pattern of names; networks are written 10.0.0.0/8", w, host)
		}
		d.name, d.pattern = strings.ToLower(strings.TrimSuffix(host, ".")), true
	default:
		name, addr, ok := inventory.Host(host)
		if !ok {
			return d, fmt.Errorf("%q: %q is neither a name, nor an address, nor a network", w, host)
		}
		if d.name = name; addr.IsValid() {
			d.network = netip.PrefixFrom(addr, addr.BitLen())
		}
	}
	return d, nil
}

func newPorts(s string) (from, to uint16, err error) {
	if s == "*" {
		return 0, 65535, nil
	}
	a, b, isRange := strings.Cut(s, "-")
	if !isRange {
		b = a
	}
	x, errX := strconv.ParseUint(a, 10, 16)
	y, errY := strconv.ParseUint(b, 10, 16)
	if errX != nil || errY != nil || x > y || strings.HasPrefix(s, "+") || isRange && x == 0 {
		return 0, 0, fmt.Errorf("%q is neither a port, nor a range such as 8000-8099, nor *", s)
	}
	return uint16(x), uint16(y), nil
}

// wildcard says that the value holds for more than one destination.
func (d *destination) wildcard() bool {
	return d.any || d.pattern || d.from != d.to || d.network.IsValid() && !d.network.IsSingleIP()
}

func (d *destination) holds(name string, addr netip.Addr) bool {
	switch {
	case d.any:
		return true
	case d.network.IsValid():
		return addr.IsValid() && d.network.Contains(addr)
	case d.pattern:
		return name != "" && match.Glob(d.name, name)
	}
	return name != "" && d.name == name
}

// match says whether a destination is among them, and whether by its very name. Port 0 is
// none, and a host is compared as it is canonical: what cannot be read fits nothing.
func (list destinations) match(host string, port uint16) (may, exact bool) {
	name, addr, ok := inventory.Host(host)
	if !ok || port == 0 {
		return false, false
	}
	for i := range list {
		d := &list[i]
		if port < d.from || port > d.to || !d.holds(name, addr) {
			continue
		}
		may = true
		if !d.wildcard() {
			return true, true
		}
	}
	return may, false
}

// everywhere is what a client may ask a target to listen at for all addresses; see RFC 4254,
// section 7.1.
func everywhere(host string) bool {
	return host == "" || host == "*" || host == "0.0.0.0" || host == "::"
}

// loopback is the name that stands for the loopback addresses in listen.
const loopback = "localhost"

// listen says whether the target may listen at host:port. Port 0 lets the target choose: only
// a value that leaves the port open, or says 0, holds for it.
func (list destinations) listen(host string, port uint16) bool {
	all := everywhere(host)
	var name string
	var addr netip.Addr
	if !all {
		var ok bool
		if name, addr, ok = inventory.Host(host); !ok {
			return false
		}
		if addr.IsLoopback() {
			name = loopback // for values that say so
		}
	}
	for i := range list {
		d := &list[i]
		ports := port >= d.from && port <= d.to
		if port == 0 {
			ports = d.from == 0
		}
		if ports && (d.any || !all && d.holds(name, addr)) {
			return true
		}
	}
	return false
}
