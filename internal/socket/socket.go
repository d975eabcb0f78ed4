// SPDX-License-Identifier: Apache-2.0

// Package socket makes the Unix sockets of the host's daemons where systemd does
// not: in a folder in which nobody else can put one, and never with another mode
// than the one it is to have. It serves none and decides nothing about peers.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// MakeDir makes the folder of sockets if need be, and refuses one that is not
// root's (or the caller's own), or in which others could put a socket of theirs.
func MakeDir(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder of sockets: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("look at %s: %w", dir, err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFDIR:
		return fmt.Errorf("%s is no folder", dir)
	case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
		return fmt.Errorf("%s belongs to uid %d; it must be root's", dir, st.Uid)
	case st.Mode&0o022 != 0:
		return fmt.Errorf("%s can be written by others (mode %04o); make it 0755", dir, st.Mode&0o7777)
	}
	return nil
}

// Listen binds under a name that nobody knows, sets mode and group (-1: as it
// is), and only then renames: the socket is never there with the wrong mode. One
// that is there is replaced, without following a link. Closing the listener
// leaves the socket in its folder. It changes the umask for a moment, so nothing
// else may make files meanwhile.
func Listen(path string, mode fs.FileMode, gid int) (*net.UnixListener, error) {
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	_ = os.Remove(tmp)
	old := unix.Umask(0o177)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	unix.Umask(old)
	if err != nil {
		return nil, fmt.Errorf("make socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	// The group comes first: nobody of the group before may use it meanwhile.
	if gid >= 0 {
		err = os.Chown(tmp, -1, gid)
	}
	if err == nil {
		err = os.Chmod(tmp, mode)
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = l.Close()
		_ = os.Remove(tmp)
		return nil, fmt.Errorf("make socket %s: %w", path, err)
	}
	return l, nil
}
