// SPDX-License-Identifier: Apache-2.0

package verifiertest

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
)

// NewInMemory is New without a network: the server is reached by Dial alone. Under
// testing/synctest it, its clients and their time are one bubble, so that tests of
// waits wait for nothing.
func NewInMemory(t testing.TB) *Server {
	t.Helper()
	l := &pipes{accept: make(chan net.Conn), closed: make(chan struct{})}
	s := start(t, l)
	s.Dial = l.dial
	return s
}

// pipes is a listener whose connections are net.Pipes.
type pipes struct {
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

// pipeAddr is one of the names in httptest's certificate.
type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "127.0.0.1:8443" }

func (l *pipes) Addr() net.Addr { return pipeAddr{} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipes) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// dial fails as a port does that nobody listens at once the listener is closed.
func (l *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case l.accept <- theirs:
		return ours, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "pipe", Addr: l.Addr(), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	case <-ctx.Done():
		return nil, &net.OpError{Op: "dial", Net: "pipe", Addr: l.Addr(), Err: ctx.Err()}
	}
}
