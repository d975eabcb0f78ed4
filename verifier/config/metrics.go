// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// Metrics says where Prometheus reads, beside the socket in the data directory.
type Metrics struct {
	// Listen is ADDRESS:PORT of the loopback, or unix:/PATH; empty: nowhere.
	Listen string `toml:"listen"`
}

func (m Metrics) check() []error {
	if path, ok := m.Socket(); ok {
		if !filepath.IsAbs(path) {
			return []error{fmt.Errorf("metrics.listen: %q is not unix: and an absolute path", m.Listen)}
		}
		return nil
	}
	if m.Listen == "" {
		return nil
	}
	at, err := netip.ParseAddrPort(m.Listen)
	if err != nil {
		return []error{fmt.Errorf("metrics.listen: %q is neither ADDRESS:PORT nor unix:/PATH", m.Listen)}
	}
	if !at.Addr().IsLoopback() {
		return []error{fmt.Errorf("metrics.listen: %q is no loopback address; metrics are for this machine", m.Listen)}
	}
	return nil
}

// Socket is the path, if Listen names a Unix socket.
func (m Metrics) Socket() (string, bool) { return strings.CutPrefix(m.Listen, "unix:") }
