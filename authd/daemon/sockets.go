// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/status"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/socket"
)

// listeners holds the sockets by name, and what must go when authd does.
type listeners struct {
	byName map[string]*net.UnixListener
	status *net.UnixListener // once taken out of byName
	paths  []string          // made by authd itself
	lock   *os.File
}

// listen takes the sockets that systemd passes (sd_listen_fds(3), named by
// FileDescriptorName=), else makes them.
func listen(c *config.Config, gateway *directory.Account, log *slog.Logger) (*listeners, error) {
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return nil, fmt.Errorf("take sockets from systemd: %w", err)
	}
	if len(passed) > 0 {
		return takePassed(passed)
	}
	if os.Geteuid() != 0 {
		log.Warn("not root and no sockets from systemd: the PAM module refuses sockets that root did not make")
	}
	return makeSockets(c, gateway)
}

func takePassed(passed map[string][]net.Listener) (*listeners, error) {
	l := &listeners{byName: map[string]*net.UnixListener{}}
	for name, list := range passed {
		if _, known := socketKinds[name]; !known && name != status.SocketName || len(list) != 1 {
			return nil, fmt.Errorf("take sockets from systemd: %d of the name %q; FileDescriptorName= is authd.sock, user.sock, sshgw.sock or status.sock, one each", len(list), name)
		}
		unixListener, ok := list[0].(*net.UnixListener)
		if !ok {
			return nil, fmt.Errorf("take sockets from systemd: %s is no Unix stream socket", name)
		}
		l.byName[name] = unixListener
	}
	if l.byName[RootSocketName] == nil {
		return nil, errors.New("take sockets from systemd: no authd.sock among them")
	}
	return l, nil
}

// makeSockets makes them under socket_dir. A second authd is kept out by a lock;
// what an earlier one left behind is replaced by rename, which follows no link.
func makeSockets(c *config.Config, gateway *directory.Account) (*listeners, error) {
	if err := socket.MakeDir(c.SocketDir); err != nil {
		return nil, fmt.Errorf("socket_dir: %w", err)
	}
	l := &listeners{byName: map[string]*net.UnixListener{}}
	lock, err := takeLock(filepath.Join(c.SocketDir, "authd.lock"))
	if err != nil {
		return nil, err
	}
	l.lock = lock
	for _, name := range wantedSockets(c) {
		mode, gid := fs.FileMode(0o600), -1
		switch name {
		case UserSocketName:
			mode = 0o666
		case status.SocketName:
			mode = 0o660
		case GatewaySocketName:
			mode = 0o660
			if gateway == nil {
				l.close()
				return nil, errors.New("make sshgw.sock: the account of gateway.user is not known")
			}
			gid = int(gateway.GID)
		}
		if err := l.make(filepath.Join(c.SocketDir, name), mode, gid); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another authd uses this socket_dir: lock %s: %w", path, err)
	}
	return f, nil
}

func (l *listeners) make(path string, mode fs.FileMode, gid int) error {
	listener, err := socket.Listen(path, mode, gid)
	if err != nil {
		return err
	}
	l.byName[filepath.Base(path)] = listener
	l.paths = append(l.paths, path)
	return nil
}

// observers takes status.sock out of the sockets of logins; nil: there is none.
func (l *listeners) observers() net.Listener {
	listener, ok := l.byName[status.SocketName]
	if !ok {
		return nil
	}
	delete(l.byName, status.SocketName)
	l.status = listener
	return listener
}

// close stops listening and takes away what authd itself made, so that the
// module finds no socket rather than a dead one.
func (l *listeners) close() {
	for _, p := range l.paths {
		_ = os.Remove(p)
	}
	for _, u := range l.byName {
		_ = u.Close()
	}
	if l.status != nil {
		_ = l.status.Close()
	}
	if l.lock != nil {
		_ = l.lock.Close()
	}
}
