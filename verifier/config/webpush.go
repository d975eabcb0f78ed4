// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// WebPush says how the verifier notifies authenticators by Web Push. Each of them
// names a push service of its choice; the settings bound that choice.
type WebPush struct {
	Enabled bool `toml:"enabled"`
	// Subject is how operators of push services reach this verifier's, a mailto: or
	// https: URL (RFC 8292, section 2.1); empty: the verifier's own URL.
	Subject string `toml:"subject"`
	CAFile  string `toml:"ca_file"` // roots for push services; empty: the system's
	// AllowHosts are the push services that may be used: a name, or *.NAME for the
	// names below one; empty: all that are public.
	AllowHosts []string `toml:"allow_hosts"`
	// AllowPorts are ports beside 443.
	AllowPorts []int `toml:"allow_ports"`
	// AllowNetworks are networks that push services may be in though they are not
	// public, such as 10.1.2.0/24.
	AllowNetworks []string `toml:"allow_networks"`
	// ProxyURL is an HTTP proxy on the way to push services; empty: none, whatever
	// the environment says. It needs AllowHosts: the proxy looks names up, so that the
	// verifier cannot check to which address they lead.
	ProxyURL string `toml:"proxy_url"`
}

var pushHost = regexp.MustCompile(`^(\*\.)?([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

// check gives errors that name the key.
func (w WebPush) check() (errs []error) {
	bad := func(key, format string, args ...any) {
		errs = append(errs, fmt.Errorf("web_push."+key+": "+format, args...))
	}
	if err := checkSubject(w.Subject); err != nil {
		bad("subject", "%w", err)
	}
	for _, host := range w.AllowHosts {
		if !pushHost.MatchString(host) {
			bad("allow_hosts", "%q is neither a host name in lower case nor *.NAME", host)
		}
	}
	for _, port := range w.AllowPorts {
		if port < 1 || port > 65535 {
			bad("allow_ports", "%d is not a port", port)
		}
	}
	for _, text := range w.AllowNetworks {
		if _, err := parseNetwork(text); err != nil {
			bad("allow_networks", "%w", err)
		}
	}
	if _, err := w.Proxy(); err != nil {
		bad("proxy_url", "%w", err)
	}
	if w.ProxyURL != "" && len(w.AllowHosts) == 0 {
		bad("proxy_url", "needs web_push.allow_hosts: phones choose the push service, and the verifier cannot see to which address a proxy connects")
	}
	return errs
}

func checkSubject(text string) error {
	if text == "" {
		return nil
	}
	if address, ok := strings.CutPrefix(text, "mailto:"); ok {
		if a, err := mail.ParseAddress(address); err != nil || a.Address != address {
			return fmt.Errorf("%q is not mailto: and an address", text)
		}
		return nil
	}
	if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%q is neither a mailto: nor an https: URL", text)
	}
	return nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() {
		return p, fmt.Errorf("%q is not a network such as 10.1.2.0/24", text)
	}
	return p, nil
}

// Networks is AllowNetworks.
func (w WebPush) Networks() []netip.Prefix {
	out := make([]netip.Prefix, 0, len(w.AllowNetworks))
	for _, text := range w.AllowNetworks {
		if p, err := parseNetwork(text); err == nil { // Load has checked it
			out = append(out, p)
		}
	}
	return out
}

// Proxy is ProxyURL; nil: none.
func (w WebPush) Proxy() (*url.URL, error) {
	if w.ProxyURL == "" {
		return nil, nil //nolint:nilnil // no proxy is no error
	}
	u, err := url.Parse(w.ProxyURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" {
		return nil, errors.New("not http://HOST:PORT or https://HOST:PORT")
	}
	if u.User != nil {
		return nil, errors.New("a password in it would stand in a file that others read; let the proxy know the verifier by its address")
	}
	return u, nil
}
