// SPDX-License-Identifier: Apache-2.0

package sshgw

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// clockTick is USER_HZ, which Linux fixes at 100 on every machine that Go knows.
const clockTick = 10 * time.Millisecond

// tree is the process pid and all below it.
func tree(pid int) []int {
	pids := []int{pid}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		text, err := os.ReadFile(task)
		if err != nil {
			continue // it ended
		}
		for _, word := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(word); err == nil {
				pids = append(pids, tree(child)...)
			}
		}
	}
	return pids
}

// cpuTime is what the process, all below it, and those of them that have ended have used.
func cpuTime(pid int) time.Duration {
	var ticks int64
	for _, p := range tree(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p))
		if err != nil {
			continue
		}
		// The name may hold anything; the fields behind it are counted from its end.
		_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
		fields := strings.Fields(rest)
		for i := 11; i < 15; i++ { // utime, stime, cutime, cstime
			n, _ := strconv.ParseInt(fields[i], 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * clockTick
}

// settledCPU is cpuTime once nothing is at work: a process that ended counts only when
// its parent has been told.
func settledCPU(pid int) time.Duration {
	last := cpuTime(pid)
	for still := 0; still < 4; {
		time.Sleep(25 * time.Millisecond)
		now := cpuTime(pid)
		if now == last {
			still++
		} else {
			still = 0
		}
		last = now
	}
	return last
}

// proportionalSize is the memory of the process and all below it: what is shared counts by its share.
func proportionalSize(pid int) int64 {
	var sum int64
	for _, p := range tree(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			var kib int64
			if n, _ := fmt.Sscanf(line, "Pss: %d kB", &kib); n == 1 {
				sum += kib << 10
			}
		}
	}
	return sum
}

func median[T int64 | float64 | time.Duration](list []T) T {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}
