// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/server"
)

// What is known of a connection says until when its first factor counts: the sooner of
// what the certificate and the line of its key or CA say.
func TestExpiryOfTheFirstFactor(t *testing.T) {
	g := newGateway(t)
	now := time.Now().UTC().Truncate(time.Second)
	soon, later := now.Add(time.Hour), now.Add(2*time.Hour)
	line := func(at time.Time) string { return `expiry-time="` + at.Format("20060102150405Z") + `"` }
	key, plain, ca, ownCA, key2 := newSigner(t), newSigner(t), newSigner(t), newSigner(t), newSigner(t)
	g.userCA("ops", ca, "")
	g.authorize("alice", line(soon), key.PublicKey())
	g.authorize("alice", "", plain.PublicKey())
	g.authorize("alice", "cert-authority,"+line(soon), ownCA.PublicKey())
	seen := make(chan time.Time, 1)
	g.handler = func(_ context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		seen <- c.Identity.Expires
		go ssh.DiscardRequests(requests)
		for range channels {
		}
	}
	g.start()
	valid := func(authority ssh.Signer, until uint64) ssh.Signer {
		return certificate(t, authority, key2, func(c *ssh.Certificate) { c.ValidPrincipals, c.ValidBefore = []string{"alice"}, until })
	}
	for name, x := range map[string]struct {
		by   ssh.Signer
		want time.Time
	}{
		"a key":                              {plain, time.Time{}},
		"a key that expires":                 {key, soon},
		"a certificate":                      {valid(ca, uint64(later.Unix())), later},
		"a certificate for ever":             {valid(ca, ssh.CertTimeInfinity), time.Time{}},
		"the line of its CA expires sooner":  {valid(ownCA, uint64(later.Unix())), soon},
		"for ever, but not the line":         {valid(ownCA, ssh.CertTimeInfinity), soon},
		"the certificate expires sooner yet": {valid(ownCA, uint64(soon.Add(-time.Minute).Unix())), soon.Add(-time.Minute)},
	} {
		c, err := g.client("alice", code("123456"), ssh.PublicKeys(x.by))
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, g.log)
			continue
		}
		if got := <-seen; !got.Equal(x.want) {
			t.Errorf("%s: until %s, want %s", name, got, x.want)
		}
		_ = c.Close()
	}
}
