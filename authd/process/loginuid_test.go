// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestLoginUID(t *testing.T) {
	proc := t.TempDir()
	write := func(pid int, start uint64, loginuid string) ID {
		t.Helper()
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		stat := fmt.Sprintf("%d (a ) b) S 1%s %d 0\n", pid, strings.Repeat(" 0", 17), start)
		for name, text := range map[string]string{"stat": stat, "loginuid": loginuid} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return ID{PID: int32(pid), Start: start}
	}
	if uid, err := write(10, 77, "1000").loginUID(proc); uid != 1000 || err != nil {
		t.Errorf("got %d, %v", uid, err)
	}
	if _, err := write(11, 77, "4294967295").loginUID(proc); !errors.Is(err, ErrNoLoginUID) {
		t.Errorf("unset: got %v", err)
	}
	reused := write(12, 77, "1000")
	reused.Start++
	for name, id := range map[string]ID{
		"another process with the pid": reused, "no such process": {PID: 13, Start: 77}, "unknown process": {},
		"nonsense": write(14, 77, "root"), "negative": write(15, 77, "-1"), "empty": write(16, 77, ""), "too large": write(17, 77, "4294967296"),
	} {
		if uid, err := id.loginUID(proc); err == nil || errors.Is(err, ErrNoLoginUID) {
			t.Errorf("%s: got %d, %v", name, uid, err)
		}
	}
}

// The kernel's own answer for this process agrees with the file.
func TestLoginUIDOfThisProcess(t *testing.T) {
	text, err := os.ReadFile("/proc/self/loginuid")
	uid, got := Of(int32(os.Getpid())).ID.LoginUID()
	switch want := strings.TrimSpace(string(text)); {
	case err != nil: // a kernel without audit
		if got == nil {
			t.Errorf("got %d without a file to read", uid)
		}
	case want == "4294967295":
		if !errors.Is(got, ErrNoLoginUID) {
			t.Errorf("got %d, %v", uid, got)
		}
	case strconv.FormatUint(uint64(uid), 10) != want || got != nil:
		t.Errorf("got %d, %v, want %s", uid, got, want)
	}
}
