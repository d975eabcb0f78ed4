// SPDX-License-Identifier: Apache-2.0

// Package session is a connection once it is authenticated: which target it is for,
// what its channels ask for, what the rules say, and the copying between the two. It
// never authenticates anybody and never opens a file.
package session

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/record"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
	"github.com/sallyport-mfa/sallyport/sshgw/sftp"
	"github.com/sallyport-mfa/sallyport/sshgw/target"
)

// Targets opens targets; *target.Dialer does.
type Targets interface {
	Dial(ctx context.Context, r target.Request) (*target.Conn, error)
	Resolve(ctx context.Context, host string) ([]netip.Addr, error)
	DialAddrs(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error)
}

// Factor asks for a second factor; *secondfactor.Asker does.
type Factor interface {
	Ask(ctx context.Context, q secondfactor.Question, p conversation.Person) error
}

// Recording is one session's; *record.Recording is one.
type Recording interface {
	Name() string
	Output(p []byte) error
	Typed(p []byte) error
	Resize(width, height int) error
	Failed() <-chan struct{}
	Err() error
	Close() error
}

// Service serves authenticated connections: its Serve is a server.Handler.
type Service struct {
	Config func() *config.Config // the one in force, asked anew for each decision
	People directory.Directory
	// Targets, Factor and Record are how a target is opened, a step-up asked for and a
	// recording begun.
	Targets Targets
	Factor  Factor
	Record  func(record.Meta) (Recording, error)
	// Host makes the host key for an SSH connection inside a jump, and Inner serves one.
	Host  func(names ...string) (ssh.Signer, error)
	Inner func(ctx context.Context, ch ssh.Channel, in server.Inner) error
	Audit *audit.Log
	Now   func() time.Time
	// Random names sessions.
	Random io.Reader

	turns sftp.Turns // of sftp sessions at the same place

	mu    sync.Mutex
	conns map[*server.Conn]*connection
}

// Serve serves a connection until it has ended. It is a server.Handler.
func (s *Service) Serve(ctx context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	conn := &connection{
		service: s, server: c, id: c.Identity, target: c.Identity.Target, login: c.Identity.Login,
		log: c.Log, entry: roster.From(ctx), hops: map[hopKey]*hop{}, answered: map[stepKey]answer{}, answering: make(chan struct{}, 1),
		standing: newStanding(s.Now()),
	}
	if conn.log == nil {
		conn.log = slog.New(slog.DiscardHandler)
	}
	s.mu.Lock()
	if s.conns == nil {
		s.conns = map[*server.Conn]*connection{}
	}
	s.conns[c] = conn
	conn.outer = s.conns[c.Outer]
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	defer conn.endsAtExpiry()()
	conn.run(ctx, channels, requests)
}
