// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func TestArgs(t *testing.T) {
	for _, want := range [][]string{{"sleep", "60"}, {"sleep", "60", ""}, {"sleep", "1m", "0", ""}} {
		c := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", "read x", "sh"}, want...)...)
		if _, err := c.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		got := Args(int32(c.Process.Pid))
		if len(got) != 4+len(want) || !slices.Equal(got[4:], want) {
			t.Errorf("got %q, want at the end %q", got, want)
		}
		_ = c.Process.Kill()
		_ = c.Wait()
	}
	if got := Args(-1); got != nil {
		t.Errorf("no process: %q", got)
	}
	long := exec.CommandContext(t.Context(), "/bin/sh", "-c", "read x", strings.Repeat("x", maxArgs))
	if _, err := long.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := long.Start(); err != nil {
		t.Fatal(err)
	}
	if got := Args(int32(long.Process.Pid)); got != nil {
		t.Errorf("too long: %d arguments", len(got))
	}
	_ = long.Process.Kill()
	_ = long.Wait()
	if got := Args(int32(os.Getpid())); !slices.Equal(got, os.Args) {
		t.Errorf("this process: %q", got)
	}
}
