// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/creack/pty"
)

// hangTimeout is how long a terminal may show nothing of what is waited for.
// It only tells a hang from a slow machine: no test rests on its length.
const hangTimeout = 45 * time.Second

// Terminal is a program in a container that runs on a terminal, with a test at
// the keyboard. It is for one goroutine.
type Terminal struct {
	what string
	pty  *os.File
	cmd  *exec.Cmd

	mu     sync.Mutex
	text   strings.Builder
	ended  bool
	change chan struct{}
	done   chan struct{} // closed when all output has been read
	read   int           // how much of text earlier Expects have consumed
}

// Terminal starts a program on a terminal of 120 columns.
func (c *Container) Terminal(command Command) (*Terminal, error) {
	cmd := exec.Command("docker", c.execArgs(command, "--interactive", "--tty")...)
	f, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 40, Cols: 120})
	if err != nil {
		return nil, fmt.Errorf("start %s on %s: %w", command.Args[0], c.Name, err)
	}
	t := &Terminal{what: command.Args[0], pty: f, cmd: cmd, change: make(chan struct{}, 1), done: make(chan struct{})}
	go t.collect()
	return t, nil
}

func (t *Terminal) collect() {
	defer close(t.done)
	buf := make([]byte, 4096)
	for {
		n, err := t.pty.Read(buf)
		t.mu.Lock()
		t.text.Write(buf[:n])
		t.ended = err != nil
		t.mu.Unlock()
		select {
		case t.change <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// ErrEnded says that the program ended before it showed what was waited for.
var ErrEnded = errors.New("the program ended")

// Expect waits until the terminal shows what matches the pattern, after what
// earlier calls have matched, and returns the match and its groups.
func (t *Terminal) Expect(pattern string) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, err
	}
	deadline := time.NewTimer(hangTimeout)
	defer deadline.Stop()
	for {
		t.mu.Lock()
		text, ended := t.text.String()[t.read:], t.ended
		loc := re.FindStringSubmatchIndex(text)
		if loc != nil {
			t.read += loc[1]
		}
		t.mu.Unlock()
		switch {
		case loc != nil:
			return re.FindStringSubmatch(text), nil
		case ended:
			return nil, fmt.Errorf("%s: waiting for %q: %w; terminal:\n%s", t.what, pattern, ErrEnded, t.Screen())
		}
		select {
		case <-t.change:
		case <-deadline.C:
			return nil, fmt.Errorf("%s: waiting for %q: nothing for %v; terminal:\n%s", t.what, pattern, hangTimeout, t.Screen())
		}
	}
}

// Type types a line and Enter.
func (t *Terminal) Type(line string) error {
	_, err := io.WriteString(t.pty, line+"\r")
	return err
}

// Press types without Enter, for instance "\x03" for Ctrl-C.
func (t *Terminal) Press(keys string) error {
	_, err := io.WriteString(t.pty, keys)
	return err
}

// Screen is all that the terminal has shown, with plain line ends.
func (t *Terminal) Screen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(t.text.String(), "\r\n", "\n")
}

// Wait waits for the program's end and returns its exit status.
func (t *Terminal) Wait(ctx context.Context) (int, error) {
	done := make(chan error, 1)
	go func() { done <- t.cmd.Wait() }()
	select {
	case err := <-done:
		<-t.done
		_ = t.pty.Close()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return -1, fmt.Errorf("%s: %w", t.what, err)
		}
		return t.cmd.ProcessState.ExitCode(), nil
	case <-time.After(hangTimeout):
		t.Kill()
		return -1, fmt.Errorf("%s hangs; terminal:\n%s", t.what, t.Screen())
	case <-ctx.Done():
		t.Kill()
		return -1, fmt.Errorf("%s: %w; terminal:\n%s", t.what, ctx.Err(), t.Screen())
	}
}

// Kill ends the connection to the terminal, as closing its window would.
func (t *Terminal) Kill() {
	_ = t.cmd.Process.Kill()
	_ = t.pty.Close()
}
