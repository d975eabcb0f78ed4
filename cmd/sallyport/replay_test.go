// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"
)

// sealCommand seals a file to a new key of age.
func sealCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, !neg && len(args) == 3, "seal KEYFILE FILE OUT")
	key, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(key.String()+"\n"), 0o600))
	var out bytes.Buffer
	w, err := age.Encrypt(&out, key.Recipient())
	ts.Check(err)
	_, err = w.Write([]byte(ts.ReadFile(args[1])))
	ts.Check(errors.Join(err, w.Close()))
	ts.Check(os.WriteFile(ts.MkAbs(args[2]), out.Bytes(), 0o600))
}

// castOf writes a recording of output events, a minute apart.
func castOf(t *testing.T, output ...string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(`{"version":2,"width":80,"height":24,"sallyport":{"channel":"s","user":"alice","target":"db1","login":"root","terminal":true,"input":false}}`)
	for i, text := range output {
		data, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "\n[%d.0, \"o\", %s]", 60*(i+1), data)
	}
	fmt.Fprintf(&b, "\n[%d.0, \"end\", \"\"]\n", 60*(len(output)+1))
	path := filepath.Join(t.TempDir(), "x.cast")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (t *terminal) press(keys string) {
	t.Helper()
	if _, err := t.file.WriteString(keys); err != nil {
		t.Fatal(err)
	}
}

func startReplay(t *testing.T, args ...string) *terminal {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, append([]string{"replay"}, args...)...)
	cmd.Env = append(os.Environ(), runAsSallyport+"=1")
	return onTerminal(t, cmd)
}

func TestReplayOnATerminal(t *testing.T) {
	path := castOf(t, "first\r\n", "second\r\n", "a needle here\r\n", "fourth\r\n", "another needle\r\n")
	r := startReplay(t, path)
	r.expect("playing · 00:00 · 1x · alice → root@db1")
	r.press("+")
	r.expect("2x")
	r.press(" ")
	r.expect("paused · 00:")
	r.press(".")
	r.expect("first")
	r.expect("paused · 01:00")
	r.press("/needle\r")
	r.expect("a needle here")
	r.expect("paused · 03:00")
	r.press("n")
	r.expect("another needle")
	r.expect("paused · 05:00")
	r.press("n")
	r.expect(`no further "needle"`)
	r.press("g")
	r.expect("00:00")
	r.press("\x1b[A")
	r.expect("first")
	r.expect("paused · 01:00")
	r.press("\x1b[C")
	r.expect("paused · 01:05")
	r.press("\x1b[D\x1b[D")
	r.expect("paused · 00:55")
	r.press("G")
	r.expect("another needle")
	r.expect(" end · ")
	r.press("?")
	r.expect("space pause")
	r.press("q")
	if err := r.cmd.Wait(); err != nil {
		t.Errorf("replay ended with %v; the screen is %q", err, r.screen())
	}
}

func TestReplayBeginsWhereItIsTold(t *testing.T) {
	path := castOf(t, "first\r\n", "second\r\n", "a needle here\r\n", "fourth\r\n")
	r := startReplay(t, "--search", "needle", path)
	r.expect("a needle here")
	r.expect("paused · 03:00")
	r.press("q")
	if err := r.cmd.Wait(); err != nil {
		t.Error(err)
	}
	r = startReplay(t, "--from", "2m", "--idle-limit", "1ms", path)
	r.expect("second")
	r.expect("fourth")
	r.expect(" end · ")
	r.press("\x03")
	if err := r.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// The terminal of whoever looks must be told nothing that acts beyond the screen.
func TestReplayKeepsARecordingAwayFromTheTerminal(t *testing.T) {
	path := castOf(t, "\x1b]52;c;ZXZpbA==\x07\x1b]0;pwned\x07\x1b[6n\x1bP$qm\x1b\\\x1b[?1000h\x1b[21t", "split \x1b]52;c;", "ZXZpbA==\x07 end")
	r := startReplay(t, "--idle-limit", "1ms", path)
	screen := r.expect(" end · ")
	for _, bad := range []string{"ZXZpbA", "pwned", "\x1b[6n", "\x1bP", "1000h", "21t", "\x1b]"} {
		if strings.Contains(screen, bad) {
			t.Errorf("the terminal was told %q", bad)
		}
	}
	r.press("q")
	r.expect("\x1b[?25h") // the terminal is not left as it is
	if err := r.cmd.Wait(); err != nil {
		t.Error(err)
	}
}
