// SPDX-License-Identifier: Apache-2.0

package login

import "strings"

// local says that whoever logs in sits at this host, or might. PAM says no more
// of that than a terminal and the other end: sshd and the gateway are remote; a
// pseudo-terminal (pts/…) counts as remote, for su and sudo in an ssh session run
// on one and know nothing else of it, although terminal windows do so too.
// Without a terminal the other end decides, if root names one. Every other
// terminal, such as tty1 or :0, and none at all, are local: limits of fail_mode
// open hang on this, so what is not known counts as local.
func (l *login) local() bool {
	if l.ssh.present || l.peer.Socket == GatewaySocket {
		return false
	}
	if l.peer.Socket == UserSocket {
		return true // a screen locker; and nothing that it says is believed
	}
	tty := strings.TrimPrefix(l.req.TTY, "/dev/")
	if tty == "" {
		return l.req.RHost == ""
	}
	return !strings.HasPrefix(tty, "pts/")
}
