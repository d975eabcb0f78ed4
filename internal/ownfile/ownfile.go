// SPDX-License-Identifier: Apache-2.0

// Package ownfile says whether a file is ours alone to change. It reads none.
package ownfile

import (
	"fmt"
	"os"
	"syscall"
)

// Check refuses a file that others than root and this process's account can change.
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	mode := info.Mode().Perm()
	switch {
	case !ok:
		return fmt.Errorf("read configuration: the owner of %s cannot be seen", path)
	case owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to uid %d, who could let anybody in with it: chown it to root", path, owner.Uid)
	case mode&0o002 != 0 || mode&0o020 != 0 && owner.Gid != 0:
		return fmt.Errorf("%s can be changed by others (mode %04o, gid %d), who could let anybody in with it: chmod go-w it", path, mode, owner.Gid)
	}
	return nil
}
