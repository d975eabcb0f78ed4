// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer is who connected, as the kernel says.
type peer struct {
	uid, gid uint32
	pid      int32
	groups   []uint32
}

// may says whether the peer is root, the gateway itself, or one of its group.
func (p peer) may(self, group uint32) bool {
	return p.uid == 0 || p.uid == self || p.gid == group || slices.Contains(p.groups, group)
}

// listener takes connections together with who made them.
type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err //nolint:wrapcheck // net/http looks at it
	}
	p, err := peerOf(c)
	return known{Conn: c, address: address{peer: p, err: err}}, nil
}

// known is a connection whose remote address is who made it.
type known struct {
	net.Conn
	address address
}

func (k known) RemoteAddr() net.Addr { return k.address }

type address struct {
	peer peer
	err  error
}

func (address) Network() string  { return "unix" }
func (a address) String() string { return fmt.Sprintf("pid %d of uid %d", a.peer.pid, a.peer.uid) }

func peerOf(c net.Conn) (peer, error) {
	conn, ok := c.(*net.UnixConn)
	if !ok {
		return peer{}, errNotUnix
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return peer{}, fmt.Errorf("look at the peer: %w", err)
	}
	var p peer
	var failed error
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if err != nil {
			failed = fmt.Errorf("SO_PEERCRED: %w", err)
			return
		}
		p = peer{uid: cred.Uid, gid: cred.Gid, pid: cred.Pid}
		p.groups, failed = peerGroups(int(fd))
	})
	return p, errors.Join(err, failed)
}

// errNotUnix says that a peer came over something that names no peer.
var errNotUnix = errors.New("no Unix socket")

// peerGroups are the supplementary groups of a peer, see unix(7); the library has no
// call for this option. maxGroups is what the kernel permits a process at most.
func peerGroups(fd int) ([]uint32, error) {
	const maxGroups = 65536
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case errno == unix.ERANGE && len(groups) < maxGroups:
			groups = make([]uint32, maxGroups)
		case errno != 0:
			return nil, fmt.Errorf("SO_PEERGROUPS: %w", errno)
		default:
			return groups[:size/4], nil
		}
	}
}
