// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"

	"github.com/coreos/go-systemd/v22/activation"

	"github.com/sallyport-mfa/sallyport/internal/socket"
)

// Passed is the socket that systemd passes (sd_listen_fds(3)), or nil.
func Passed() (*net.UnixListener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take the socket from systemd: %w", err)
	}
	if len(passed) == 0 {
		return nil, nil
	}
	l, ok := passed[0].(*net.UnixListener)
	if !ok || len(passed) != 1 {
		return nil, errors.New("take the socket from systemd: exactly one Unix stream socket is served")
	}
	l.SetUnlinkOnClose(false) // it is systemd's
	return l, nil
}

// Listen makes the socket at path for root and the group gid (-1: root alone). It
// is there with its mode from the first moment; one that is there is replaced.
func Listen(path string, gid int) (*net.UnixListener, error) {
	if err := socket.MakeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if gid < 0 {
		return socket.Listen(path, 0o600, -1)
	}
	return socket.Listen(path, 0o660, gid)
}
