// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net/netip"
)

// Metrics says where Prometheus may read, beside the Unix socket status.sock.
type Metrics struct {
	Listen string `toml:"listen"` // ADDRESS:PORT of the loopback; empty: nowhere
}

func (m *Metrics) check() []error {
	if m.Listen == "" {
		return nil
	}
	at, err := netip.ParseAddrPort(m.Listen)
	if err != nil || at.Port() == 0 {
		return []error{fmt.Errorf("metrics.listen %q is no ADDRESS:PORT", m.Listen)}
	}
	if !at.Addr().IsLoopback() {
		return []error{fmt.Errorf("metrics.listen %q is no loopback address; metrics are for this host: use 127.0.0.1, or the Unix socket status.sock", m.Listen)}
	}
	return nil
}
