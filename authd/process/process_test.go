// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os"
	"testing"
)

func TestParseStat(t *testing.T) {
	rest := " S 41 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 10 20"
	for _, name := range []string{"(sshd)", "(a) S 1 (b)", "(new\nline)", "()"} {
		start, parent, err := ParseStat([]byte("43 " + name + rest))
		if start != 987654 || parent != 41 || err != nil {
			t.Errorf("%q: %d, %d, %v", name, start, parent, err)
		}
	}
	for _, bad := range []string{"", "43 (sshd) S 41", "43 sshd" + rest, "43 (sshd) S x 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654"} {
		if _, _, err := ParseStat([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestOf(t *testing.T) {
	me := Of(int32(os.Getpid()))
	if me.ID.Start == 0 || me.Parent.PID != int32(os.Getppid()) || me.Parent.Start == 0 {
		t.Errorf("got %+v", me)
	}
	for _, pid := range []int32{0, -1, 1<<22 + 1} {
		if p := Of(pid); p != (Process{}) {
			t.Errorf("pid %d: %+v", pid, p)
		}
	}
}
