// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
)

// TestAttackEmptyForceCommand: a certificate whose force-command is there and empty is
// meant to run nothing, and is not one without a forced command.
func TestAttackEmptyForceCommand(t *testing.T) {
	g := newGateway(t)
	key, ca := newSigner(t), newSigner(t)
	g.userCA("ops", ca, "")
	g.start()
	s := certificate(t, ca, key, func(c *ssh.Certificate) {
		c.ValidPrincipals = []string{"alice"}
		c.CriticalOptions = map[string]string{"force-command": ""}
		c.Extensions = map[string]string{"permit-pty": "", "permit-port-forwarding": ""}
	})
	c, err := g.client("alice", code("123456"), ssh.PublicKeys(s))
	refusedAs(t, c, err, "a certificate with an empty force-command")
}

// Who has no account here is known as such afterwards: groups are asked for by name alone.
func TestPersonWithoutAnAccountIsAbsent(t *testing.T) {
	g := newGateway(t)
	key := newSigner(t)
	g.authorize("carol", "", key.PublicKey())
	g.policy.Accounts = auth.AccountsAny
	absent := make(chan bool, 1)
	g.handler = func(ctx context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		absent <- c.Identity.Account.Absent
		echo(ctx, c, channels, requests)
	}
	g.start()
	c, err := g.client("carol", code("123456"), ssh.PublicKeys(key))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if !<-absent {
		t.Error("the account passes for one of this machine")
	}
}
