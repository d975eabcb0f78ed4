// SPDX-License-Identifier: Apache-2.0

// Package target is the gateway's way to a server: it dials, verifies the host key,
// proves who asks, and hands over the bare connection. It never decides who may.
package target

import (
	"context"
	"net"
	"net/netip"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// Request is whom to open what for.
type Request struct {
	Identity *identity.Identity
	Target   *inventory.Target
	Login    string
	// Agent is the user's own, forwarded for as long as the session that asked for it; nil: none.
	Agent agent.ExtendedAgent
	// Person is asked what the target asks by keyboard-interactive; nil: nobody can be.
	Person conversation.Person
}

// Conn is an authenticated connection to a target. Whoever holds it must read both
// channels to their end.
type Conn struct {
	SSH      ssh.Conn
	Channels <-chan ssh.NewChannel
	Requests <-chan *ssh.Request
}

// Dialer opens targets. It is safe for concurrent use.
type Dialer struct {
	// Fields are the owner's.
}

// Dial opens the target. Its errors say for people what to do next, through cli.Hint.
func (d *Dialer) Dial(ctx context.Context, r Request) (*Conn, error) { panic("not built yet") }

// Resolve looks up the addresses of a host, for inventory.At.
func (d *Dialer) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	panic("not built yet")
}

// DialTCP connects to host:port from the gateway, for a raw way through.
func (d *Dialer) DialTCP(ctx context.Context, host string, port uint16) (net.Conn, error) {
	panic("not built yet")
}
