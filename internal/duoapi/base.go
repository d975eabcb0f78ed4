// SPDX-License-Identifier: Apache-2.0

package duoapi

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// ParseBase reads the address of a server, https://HOST or https://HOST:PORT, into
// the one form that signatures and key proofs name it by: host in lower case, no
// default port, no path. Errors say what is wrong with it.
func ParseBase(s string) (*url.URL, error) {
	if s == "" {
		return nil, errors.New("missing: the address of the verifier, https://HOST:PORT")
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL", s)
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	switch {
	case u.Scheme != "https" || host == "":
		return nil, fmt.Errorf("%q is not of the form https://HOST:PORT", s)
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		return nil, fmt.Errorf("%q has more than https://HOST:PORT: the paths of the API are fixed", s)
	case strings.Contains(host, "%"):
		return nil, fmt.Errorf("%q: an address with a zone means something on one machine only", s)
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" || port == "443" {
		return &url.URL{Scheme: "https", Host: host}, nil
	}
	if p, err := netip.ParseAddrPort("127.0.0.1:" + port); err != nil || p.Port() == 0 {
		return nil, fmt.Errorf("%q: %q is not a port", s, port)
	}
	return &url.URL{Scheme: "https", Host: host + ":" + port}, nil
}
