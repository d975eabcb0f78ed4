// SPDX-License-Identifier: Apache-2.0

package target

import (
	"fmt"
	"testing"

	"golang.org/x/crypto/ssh"
	xknownhosts "golang.org/x/crypto/ssh/knownhosts"

	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// What opening a target costs, the target's own work included.
func BenchmarkDial(b *testing.B) {
	g := newGateway(b)
	host := newKey(b)
	target := listen(b, serveSSH(g.server(host), nil))
	g.hosts(knows(target, host.PublicKey()))
	for b.Loop() {
		c, err := g.Dial(b.Context(), Request{Identity: alice(), Target: target, Login: "root"})
		if err != nil {
			b.Fatal(err)
		}
		go ssh.DiscardRequests(c.Requests)
		c.SSH.Close()
	}
}

// What looking a target up costs where known_hosts is long.
func BenchmarkKnownHosts(b *testing.B) {
	for _, hashed := range []bool{false, true} {
		b.Run(fmt.Sprintf("hashed=%v", hashed), func(b *testing.B) {
			g := newGateway(b)
			key := newKey(b).PublicKey()
			var lines []string
			for i := range 10000 {
				name := fmt.Sprintf("host%d.example.org", i)
				if hashed {
					name = xknownhosts.HashHostname(name)
				}
				lines = append(lines, name+" "+authorized(newKey(b)))
			}
			g.hosts(append(lines, xknownhosts.Line([]string{"db1"}, key))...)
			a := &attempt{settings: g.inForce.Load(), dialer: g.Dialer}
			for b.Loop() {
				if h := a.knownOf(&inventory.Target{Name: "db1", Host: "192.0.2.1"}); len(h.plain) != 1 {
					b.Fatal("not found")
				}
			}
		})
	}
}
