// SPDX-License-Identifier: Apache-2.0

// Package process owns what the kernel says of the process at the other end of a
// Unix socket: its credentials, and a name for it that no other process of this
// boot has. It never decides what such a process may do.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Process names a process of this boot, and its parent.
type Process struct {
	ID     ID
	Parent ID
}

// ID names a process for good: pids come round again, start times do not. The
// zero value is no process and equals none.
type ID struct {
	PID   int32
	Start uint64 // clock ticks since boot, field 22 of /proc/PID/stat
}

// Credentials asks the kernel who connected (SO_PEERCRED, unix(7)): the
// effective uid and the pid at the time of connect.
func Credentials(conn *net.UnixConn) (*unix.Ucred, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("read peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) {
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err = errors.Join(err, optErr); err != nil {
		return nil, fmt.Errorf("read peer credentials: %w", err)
	}
	return cred, nil
}

// Of names the process of a pid and its parent. What cannot be found out
// stays zero, and is then no process at all to those who compare: a hidden /proc
// costs grants, never safety.
func Of(pid int32) Process {
	var p Process
	if pid <= 0 {
		return p
	}
	// The pidfd holds on to the process: if it is still alive after stat was
	// read, then what was read is its, and not that of a process which got the
	// pid meanwhile.
	fd, err := unix.PidfdOpen(int(pid), 0)
	if errors.Is(err, unix.ESRCH) {
		return p // gone: the pid may be another's by the time it is looked up
	}
	if err == nil {
		defer unix.Close(fd)
	}
	self, parent, statErr := readStat(pid)
	if statErr != nil || err == nil && !alive(fd) {
		return p
	}
	p.ID = ID{PID: pid, Start: self}
	if start, _, err := readStat(parent); err == nil {
		p.Parent = ID{PID: parent, Start: start}
	}
	return p
}

// alive polls a pidfd, which becomes readable when its process ends.
func alive(fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n == 0
}

func readStat(pid int32) (start uint64, parent int32, err error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/stat")
	if err != nil {
		return 0, 0, fmt.Errorf("read process: %w", err)
	}
	return ParseStat(text)
}

// ParseStat reads fields 4 (parent) and 22 (start time) of /proc/PID/stat,
// proc(5). The name in field 2 may hold anything, a ")" too.
func ParseStat(text []byte) (start uint64, parent int32, err error) {
	i := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[i+1:]))
	if i < 0 || len(fields) < 20 {
		return 0, 0, errors.New("read process: unexpected form of stat")
	}
	ppid, err1 := strconv.ParseInt(fields[1], 10, 32)
	start, err2 := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, fmt.Errorf("read process: %w", err)
	}
	return start, int32(ppid), nil
}
