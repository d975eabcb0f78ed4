// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/sallyport-mfa/sallyport/internal/socket"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/control"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
)

// sshSocketName is FileDescriptorName= of a socket unit for SSH, where an administrator
// wants systemd to hold the port.
const sshSocketName = "ssh"

// listeners are where the gateway answers, and what must go when it does.
type listeners struct {
	ssh     []net.Listener
	control net.Listener // nil: none
	made    string       // the control socket's path, where the gateway made it itself
}

// listen takes the sockets that systemd passes (sd_listen_fds(3), named by
// FileDescriptorName=), and makes those that it does not.
func listen(ctx context.Context, c *config.Config) (*listeners, error) {
	passed, err := activation.ListenersWithNames()
	if err != nil {
		return nil, describe("take sockets from systemd", err)
	}
	l := &listeners{}
	for name, list := range passed {
		switch {
		case name == control.SocketName && len(list) == 1:
			l.control = list[0]
		case name == sshSocketName:
			l.ssh = append(l.ssh, list...)
		default:
			return nil, fmt.Errorf("take sockets from systemd: %d of the name %q; FileDescriptorName= is %s, once, or %s", len(list), name, control.SocketName, sshSocketName)
		}
	}
	if len(l.ssh) == 0 {
		if err := l.listenSSH(ctx, c.Listen); err != nil {
			l.close()
			return nil, err
		}
	}
	if l.control == nil {
		if err := l.makeControl(ctx, c); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

func (l *listeners) listenSSH(ctx context.Context, addresses []string) error {
	for _, a := range addresses {
		one, err := server.Listen(ctx, a)
		if err != nil {
			return err
		}
		l.ssh = append(l.ssh, one)
	}
	return nil
}

// makeControl makes the control socket, for the gateway's own group. A gateway that runs
// keeps another from taking its place.
func (l *listeners) makeControl(ctx context.Context, c *config.Config) error {
	if err := socket.MakeDir(c.SocketDir); err != nil {
		return describe("socket_dir", err)
	}
	path := socketPath(c, control.SocketName)
	if conn, err := new(net.Dialer).DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return fmt.Errorf("another gateway answers at %s: stop it, or give this one a socket_dir of its own", path)
	}
	one, err := socket.Listen(path, 0o660, os.Getegid())
	if err != nil {
		return err
	}
	l.control, l.made = one, path
	return nil
}

func (l *listeners) addresses() []net.Addr {
	var out []net.Addr
	for _, one := range l.ssh {
		out = append(out, one.Addr())
	}
	return out
}

// close stops listening, and takes away what the gateway itself made.
func (l *listeners) close() {
	for _, one := range l.ssh {
		_ = one.Close()
	}
	if l.made != "" {
		_ = os.Remove(l.made)
	}
	if l.control != nil {
		_ = l.control.Close()
	}
}

// errLoopback says that metrics would be served to other machines.
var errLoopback = errors.New("it is no loopback address")
