// SPDX-License-Identifier: Apache-2.0

package target

import (
	"slices"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestDial(t *testing.T) {
	g := newGateway(t)
	host := newKey(t)
	seen := make(chan ssh.Conn, 1)
	c := g.server(host)
	certs := make(chan *ssh.Certificate, 8)
	inner := c.PublicKeyCallback
	c.PublicKeyCallback = func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if cert, ok := k.(*ssh.Certificate); ok {
			certs <- cert
		}
		return inner(m, k)
	}
	target := listen(t, serveSSH(c, func(conn ssh.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		seen <- conn
		go discardChannels(channels)
		ssh.DiscardRequests(requests)
	}))
	g.hosts(knows(target, host.PublicKey()))
	conn, err := g.dial(Request{Target: target})
	if err != nil {
		t.Fatal(err)
	}
	if conn.KnownBy != byKnownHosts || conn.HostKey != ssh.FingerprintSHA256(host.PublicKey()) || conn.Credential != "certificate" {
		t.Errorf("known by %s %s, let in by %s", conn.KnownBy, conn.HostKey, conn.Credential)
	}
	there := <-seen
	if there.User() != "root" || string(there.ClientVersion()) != clientVersion {
		t.Errorf("the target saw %s by %s", there.User(), there.ClientVersion())
	}
	cert := <-certs
	want := "user=alice gateway=gw1 session=" + alice().SessionID
	if cert.KeyId != want || !slices.Equal(cert.ValidPrincipals, []string{"root"}) || cert.CriticalOptions["source-address"] != "127.0.0.1/32" {
		t.Errorf("the certificate says %q, %q, %v", cert.KeyId, cert.ValidPrincipals, cert.CriticalOptions)
	}
}
