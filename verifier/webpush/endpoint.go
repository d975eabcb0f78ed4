// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// maxEndpoint bounds an endpoint, in bytes. Those of known services have some hundred.
const maxEndpoint = 2048

// bounds are the limits of where messages go.
type bounds struct {
	hosts    []string // names, *.NAME; none: any
	ports    []int    // beside 443
	networks []netip.Prefix
}

// endpoint checks an address that a phone hands us, as far as that can be done
// without a look-up. The error is for the phone to read.
func (b bounds) endpoint(text string) (*url.URL, error) {
	if len(text) > maxEndpoint {
		return nil, fmt.Errorf("longer than %d bytes", maxEndpoint)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("not a URL")
	}
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Hostname() == "" {
		return nil, errors.New("not a URL")
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	number, err := strconv.Atoi(port)
	host := strings.ToLower(u.Hostname())
	switch {
	case u.Scheme != "https":
		return nil, errors.New("not https")
	case u.User != nil:
		return nil, errors.New("a user name in it")
	case u.Fragment != "":
		return nil, errors.New("a fragment in it")
	case err != nil || number != 443 && !slices.Contains(b.ports, number):
		return nil, errors.New("not a port that is allowed")
	case !b.host(host):
		return nil, errors.New("not a push service that is allowed")
	}
	a, err := netip.ParseAddr(host)
	switch {
	case err == nil && !b.address(a):
		return nil, errors.New("not a public address")
	case err != nil && !public(host) && !slices.Contains(b.hosts, host):
		return nil, errors.New("not a name of the internet")
	}
	return u, nil
}

// public says whether a name can be one of the internet: it has a dot, and does not
// end in a number, since programs that look such names up, as a proxy may, take 127.1
// and 2130706433 for addresses (WHATWG URL, "ends in a number").
func public(name string) bool {
	name = strings.TrimSuffix(name, ".")
	dot := strings.LastIndexByte(name, '.')
	last := name[dot+1:]
	digits := strings.Trim(last, "0123456789") == ""
	hex, ok := strings.CutPrefix(last, "0x")
	return dot > 0 && !digits && !(ok && strings.Trim(hex, "0123456789abcdef") == "")
}

func (b bounds) host(name string) bool {
	return len(b.hosts) == 0 || slices.ContainsFunc(b.hosts, func(allowed string) bool {
		if below, ok := strings.CutPrefix(allowed, "*"); ok {
			return len(name) > len(below) && strings.HasSuffix(name, below)
		}
		return name == allowed
	})
}

// origin is scheme, host and port as RFC 6454 (section 6.1) writes them: without a default port.
func origin(u *url.URL) string {
	host := strings.ToLower(u.Hostname())
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port := u.Port(); port != "" && port != "443" {
		host += ":" + port
	}
	return "https://" + host
}

// mark stands for an endpoint where its address, which is a secret, must not stand.
func mark(endpoint string) string {
	sum := sha256.Sum256([]byte(endpoint))
	return hex.EncodeToString(sum[:4])
}
