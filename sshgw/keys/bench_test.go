// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"net/netip"
	"path/filepath"
	"testing"
)

// What the gateway's keys cost a connection.
func BenchmarkCertificates(b *testing.B) {
	r, err := Open(filepath.Join(b.TempDir(), "keys"))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("user", func(b *testing.B) {
		p := Person{KeyID: "user=alice", Principal: "root", Permit: Ordinary, Source: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}
		for b.Loop() {
			if _, err := r.UserFor(p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("host kept", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.HostFor("db1"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
