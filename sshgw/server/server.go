// SPDX-License-Identifier: Apache-2.0

// Package server owns connections: it accepts them, bounds them, leads the handshake,
// keeps them alive and ends them. It never looks into a channel.
package server

import (
	"context"
	"log/slog"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
)

// Conn is an authenticated connection.
type Conn struct {
	Identity *identity.Identity
	SSH      ssh.Conn
	Log      *slog.Logger // with the connection's id and user
	// Outer is the connection in which this one runs, nil for one over the network.
	Outer *Conn
	// Fields below are the owner's: activity, channels, why it ends.
}

// Handler has an authenticated connection to itself until it returns. It must read both
// channels to their end, and returns when the connection has ended. ctx ends with the
// connection, by whatever end.
type Handler func(ctx context.Context, c *Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request)

// Active says that something happened, for the idle limit.
func (c *Conn) Active() { panic("not built yet") }

// End closes the connection; reason is for the log, setting names what fired, "" for nothing.
func (c *Conn) End(reason, setting string) { panic("not built yet") }

// Inner says how to serve an SSH connection that runs inside a channel of another.
type Inner struct {
	Outer *Conn
	Host  ssh.Signer // the host key to show, a certificate for the target's name
	// Admit is asked once the client has named its user; person asks by keyboard-interactive.
	// The outer connection is the first factor. An error refuses.
	Admit   func(ctx context.Context, user string, person conversation.Person) error
	Handler Handler
}
