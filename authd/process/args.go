// SPDX-License-Identifier: Apache-2.0

package process

import (
	"io"
	"os"
	"strconv"
	"strings"
)

// maxArgs bounds the arguments that are read, in bytes.
const maxArgs = 1 << 16

// Args are the arguments of a process as it was started, its name first; nil if
// they cannot be read, are too long, or the process has changed them beyond
// recognition. Whoever started the process chose them.
func Args(pid int32) []string {
	f, err := os.Open("/proc/" + strconv.Itoa(int(pid)) + "/cmdline")
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxArgs+1))
	args, ended := strings.CutSuffix(string(text), "\x00")
	if err != nil || len(text) > maxArgs || !ended {
		return nil
	}
	return strings.Split(args, "\x00")
}
