// SPDX-License-Identifier: Apache-2.0

package match

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
)

// ParseNetwork reads a prefix or a single address; host bits must be zero.
func ParseNetwork(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.Zone() != "" {
			return netip.Prefix{}, fmt.Errorf("%q has a zone", s)
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address nor a network such as 10.0.4.0/24", s)
	}
	if p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("%q has host bits set; did you mean %s?", s, p.Masked())
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is an IPv4 network written as IPv6; write it as IPv4", s)
	}
	return p, nil
}

// ParseFingerprint reads a fingerprint as ssh-keygen -l prints it.
func ParseFingerprint(s string) (string, error) {
	b64, ok := strings.CutPrefix(s, "SHA256:")
	b64 = strings.TrimRight(b64, "=")
	sum, err := base64.RawStdEncoding.Strict().DecodeString(b64)
	// The decoder passes over line breaks, which no fingerprint of a login has.
	if !ok || err != nil || len(sum) != 32 || len(b64) != base64.RawStdEncoding.EncodedLen(len(sum)) {
		return s, fmt.Errorf("%q is not a fingerprint as ssh-keygen -l prints it, SHA256:…", s)
	}
	return "SHA256:" + b64, nil
}
