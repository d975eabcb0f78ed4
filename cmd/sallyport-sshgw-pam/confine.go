// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// kept is the one capability that stays: libpam answers with an error to everything if
// root may not write to the audit log. Reading /etc/shadow takes none, since root owns it.
const kept = unix.CAP_AUDIT_WRITE

// confined marks a process that has been through confine already.
const confined = "SALLYPORT_CONFINED"

// environment is what PAM modules find.
var environment = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}

// confine gives up what nothing here needs: new privileges, core files, descriptors, and
// all capabilities but one. Capabilities belong to threads, of which the runtime has
// several by now; so they are taken from this one, which then becomes the whole process
// by execve(2).
func confine() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("give up new privileges: %w", err)
	}
	for what, most := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NOFILE: 256} {
		// EPERM: the unit's filter of system calls has it that nobody changes limits.
		if err := unix.Setrlimit(what, &unix.Rlimit{Cur: most, Max: most}); err != nil && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("set limit %d: %w", what, err)
		}
	}
	if os.Getenv(confined) != "" {
		// What stood in the environment was for this moment alone.
		os.Clearenv()
		for _, v := range environment {
			name, value, _ := strings.Cut(v, "=")
			if err := os.Setenv(name, value); err != nil {
				return err
			}
		}
		return unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	runtime.LockOSThread()
	for c := uintptr(0); c <= unix.CAP_LAST_CAP; c++ {
		if c == kept {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0)
		if errors.Is(err, unix.EPERM) {
			has, readErr := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
			if readErr == nil && has == 0 || errors.Is(readErr, unix.EINVAL) || os.Geteuid() != 0 {
				continue // systemd has taken it, the kernel has none of it, or there is nothing to take
			}
		}
		if err != nil && !errors.Is(err, unix.EINVAL) { // one that this kernel does not know
			return fmt.Errorf("give up capability %d: %w", c, err)
		}
	}
	again := append([]string{confined + "=1"}, environment...)
	if j := os.Getenv("JOURNAL_STREAM"); j != "" {
		again = append(again, "JOURNAL_STREAM="+j)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	//nolint:gosec // it is this very program, with the arguments that it was given
	return fmt.Errorf("start over without privileges: %w", syscall.Exec("/proc/self/exe", os.Args, again))
}

// uidOf is the uid of the account that may ask.
func uidOf(account string) (uint32, error) {
	u, err := user.Lookup(account)
	if err != nil {
		return 0, fmt.Errorf("look up the gateway's account: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("uid of %s: %w", account, err)
	}
	return uint32(uid), nil
}
