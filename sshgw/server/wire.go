// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"
)

// wire is the connection below SSH: it notices what comes in, and that nothing comes
// any more while a callback of the authentication keeps the library busy.
type wire struct {
	net.Conn
	received atomic.Uint64
	trusted  atomic.Bool // authenticated
	gone     func(error)
}

// maxUntrusted bounds what a connection may send before it is authenticated, in bytes. While
// a callback runs the library reads ahead, sixteen packets of up to 256 KiB; no client's
// keys and answers come near that.
const maxUntrusted = 512 << 10

var errFlood = errors.New("more was sent than any login takes")

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 && w.received.Add(uint64(n)) > maxUntrusted && !w.trusted.Load() {
		n, err = 0, errFlood
		_ = w.Conn.Close()
	}
	if err != nil {
		w.gone(err)
	}
	return n, err
}

// inside is a channel of an outer connection, as the network of an inner one. Its
// deadlines are kept by who made it.
type inside struct {
	ssh.Channel
	local, remote net.Addr
}

func (s *inside) LocalAddr() net.Addr              { return s.local }
func (s *inside) RemoteAddr() net.Addr             { return s.remote }
func (s *inside) SetDeadline(time.Time) error      { return nil }
func (s *inside) SetReadDeadline(time.Time) error  { return nil }
func (s *inside) SetWriteDeadline(time.Time) error { return nil }
