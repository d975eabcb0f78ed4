// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ErrNoLoginUID says that the kernel has no loginuid for a process: nobody has
// logged in there.
var ErrNoLoginUID = errors.New("no loginuid is set")

// unsetUID is what the kernel shows for a loginuid that nobody has set.
const unsetUID = 1<<32 - 1

// LoginUID is the audit loginuid of a process (pam_loginuid(8), audit(7)): who
// logged in, whatever they have become since. It is that of this very process,
// or an error: a pid that another process has got meanwhile is found out.
func (id ID) LoginUID() (uint32, error) { return id.loginUID("/proc") }

func (id ID) loginUID(proc string) (uint32, error) {
	if id == (ID{}) {
		return 0, errors.New("read loginuid: the process is not known")
	}
	// What is opened below this folder is of the process that the folder stands
	// for, or nothing once that has ended.
	dir, err := unix.Open(filepath.Join(proc, strconv.Itoa(int(id.PID))), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("read loginuid: %w", err)
	}
	defer unix.Close(dir)
	stat, err := readAt(dir, "stat")
	if err != nil {
		return 0, err
	}
	start, _, err := ParseStat([]byte(stat))
	if err != nil {
		return 0, err
	}
	if start != id.Start {
		return 0, errors.New("read loginuid: the process has ended")
	}
	text, err := readAt(dir, "loginuid")
	if err != nil {
		return 0, err
	}
	uid, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("read loginuid: %w", err)
	}
	if uid == unsetUID {
		return 0, ErrNoLoginUID
	}
	return uint32(uid), nil
}

// maxProcFile bounds what is read of a file of /proc, in bytes.
const maxProcFile = 4096

func readAt(dir int, name string) (string, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("read %s of a process: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxProcFile))
	if err != nil {
		return "", fmt.Errorf("read %s of a process: %w", name, err)
	}
	return string(text), nil
}
