// SPDX-License-Identifier: Apache-2.0

// Package clock owns the question how long ago something was on a host whose
// clock may be set: it compares wall time with the time since boot, which nobody
// sets and which counts while the host sleeps. It never waits.
package clock

import (
	"crypto/rand"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Clock reads both clocks. It is safe for concurrent use if its functions are.
type Clock struct {
	Now  func() time.Time
	Boot func() (id string, up time.Duration)
}

// System is the clock of this host.
func System() Clock { return Clock{Now: time.Now, Boot: sinceBoot} }

// Stamp is a moment on both clocks. The zero value is no moment. It survives a
// restart of the program, and of the host.
type Stamp struct {
	Wall time.Time     `json:"wall"`
	Boot string        `json:"boot"`
	Up   time.Duration `json:"up"`
}

// Stamp is the present moment.
func (c Clock) Stamp() Stamp {
	id, up := c.Boot()
	return Stamp{Wall: c.Now().Round(0).UTC(), Boot: id, Up: up} // Round drops Go's own monotonic time
}

// Since is how long ago s was: the longer of what the two clocks say, so that no
// setting of a clock makes it shorter. Since an earlier boot at least the time
// since this one has passed. ok is false where it cannot be known: s is no
// moment, or it lies in the future of a clock that was set back across a boot.
func (c Clock) Since(s Stamp) (d time.Duration, ok bool) {
	if s.Wall.IsZero() {
		return 0, false
	}
	now := c.Stamp()
	wall := now.Wall.Sub(s.Wall)
	if now.Boot == s.Boot {
		up := now.Up - s.Up
		return max(up, wall), up >= 0
	}
	return max(now.Up, wall), wall >= 0
}

// BootVar is the variable in which a service manager hands on the id of this
// boot where /proc/sys is hidden from the program.
const BootVar = "SALLYPORT_BOOT_ID"

// bootID is the id of this boot. Where it cannot be found out, no two processes
// count as of one boot, which is the careful side.
var bootID = sync.OnceValue(func() string {
	if text, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		return plain(string(text))
	}
	if id := plain(os.Getenv(BootVar)); id != "" {
		return id
	}
	return "process-" + rand.Text()
})

// plain is an id without the hyphens that only some show.
func plain(id string) string { return strings.ReplaceAll(strings.TrimSpace(id), "-", "") }

func sinceBoot() (string, time.Duration) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return "process-" + rand.Text(), 0 // no kernel since 2.6.39 does that
	}
	return bootID(), time.Duration(ts.Nano())
}
