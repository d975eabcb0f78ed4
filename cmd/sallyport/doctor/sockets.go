// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

const startAuthd = "systemctl enable --now sallyport-authd.socket sallyport-authd-user.socket sallyport-authd.service, and see: journalctl -u sallyport-authd"

func (h *Host) examineSockets(c *config.Config) []Finding {
	r := &report{area: "sockets"}
	if c == nil {
		r.warn("authd", "not looked at: there is no valid configuration", "correct authd.toml first")
		return r.findings
	}
	dir := h.path(c.SocketDir)
	info, err := os.Stat(dir)
	if err != nil {
		r.fail(c.SocketDir, "the folder of the sockets cannot be seen, so every login is denied: "+err.Error(), startAuthd)
		return r.findings
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != h.UID || info.Mode().Perm()&0o022 != 0 {
		r.fail(c.SocketDir, fmt.Sprintf("the folder belongs to uid %d with mode %04o: others can put their own socket there", owner, info.Mode().Perm()), "chown root and chmod 0755 it")
	}
	h.examineSocket(r, c.SocketDir, "authd.sock", 0o600, true)
	h.examineSocket(r, c.SocketDir, "user.sock", 0o666, false)
	h.examineSocket(r, c.SocketDir, "sshgw.sock", 0o660, false)
	if err := h.Probe(dir); err != nil {
		r.fail("authd", "authd does not answer, so every login is denied: "+err.Error(), startAuthd)
	} else {
		r.ok("authd", "it answers")
	}
	return r.findings
}

func (h *Host) examineSocket(r *report, dir, name string, widest fs.FileMode, needed bool) {
	path := dir + "/" + name
	info, err := os.Lstat(h.path(path))
	switch {
	case errors.Is(err, fs.ErrNotExist) && !needed:
		return // it serves programs that this host may not have
	case err != nil:
		r.fail(path, "the socket cannot be seen: "+err.Error(), startAuthd)
		return
	case info.Mode().Type() != fs.ModeSocket:
		r.fail(path, "it is no socket", "remove it and start authd's socket again")
		return
	}
	owner, mode := info.Sys().(*syscall.Stat_t).Uid, info.Mode().Perm()
	if owner != h.UID {
		r.fail(path, fmt.Sprintf("it belongs to uid %d: the module refuses to talk to it", owner), "start authd by its systemd socket")
		return
	}
	if mode&^widest != 0 {
		r.fail(path, fmt.Sprintf("its mode is %04o, wider than %04o: others can pose as a login program", mode, widest), "start authd by its systemd socket, without changing SocketMode")
		return
	}
	r.ok(path, fmt.Sprintf("owner and mode %04o are right", mode))
}
