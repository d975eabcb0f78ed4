// SPDX-License-Identifier: Apache-2.0

package throttle

import (
	"net/netip"
	"strconv"
)

// Source groups an address with its neighbours, as whoever has one of them has
// them all: an IPv4 address by /24, an IPv6 address by /64.
func Source(a netip.Addr) string {
	if !a.IsValid() {
		return Unknown
	}
	a = a.Unmap().WithZone("")
	bits := 24
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return Unknown
	}
	return p.String()
}

// LocalSource is the source of programs that this uid has started.
func LocalSource(uid uint32) string { return "uid " + strconv.FormatUint(uint64(uid), 10) }

// Unknown is the source of logins from nobody knows where.
const Unknown = "unknown"
