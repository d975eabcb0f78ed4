// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// gcPercent lets garbage grow to twice what is in use. x/crypto/ssh allocates 32 KiB for
// each packet it reads: with Go's own 100 a transfer collects every few milliseconds. With
// more, the garbage of handshakes that are over weighs more than the connections that stay,
// and a transfer gains no more.
const gcPercent = 200

// Tune has the program collect more seldom, and harder once it holds half of the memory that
// it may have. GOGC and GOMEMLIMIT, where they are set, are the administrator's word.
func Tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		if half := availableMemory() / 2; half > 0 {
			debug.SetMemoryLimit(half)
		}
	}
}

// availableMemory is what the machine has, or the control group of the program may have if
// that is less; 0 if neither is known.
func availableMemory() int64 {
	var has int64
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		has = int64(info.Totalram) * int64(info.Unit)
	}
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return has
	}
	for line := range strings.Lines(string(groups)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", group, "memory.max"))
		if err != nil {
			continue
		}
		if limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && (has == 0 || limit < has) {
			has = limit
		}
	}
	return has
}
