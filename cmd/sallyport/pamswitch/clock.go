// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// BootUnit takes a pending change back when the system starts.
const BootUnit = "sallyport-pam-rollback.service"

// SystemdClock is a transient timer for the running system and BootUnit for the
// next: neither is a child of the terminal.
type SystemdClock struct {
	Program string // path of sallyport
	Run     Run
}

func timerName(id string) string { return "sallyport-pam-rollback-" + id }

// Set implements Clock.
func (c *SystemdClock) Set(ctx context.Context, id string, after time.Duration) error {
	if out, err := c.Run(ctx, "systemctl", "--quiet", "enable", BootUnit); err != nil {
		return fmt.Errorf("enable %s, which would take the change back after a restart: %w: %s", BootUnit, err, strings.TrimSpace(string(out)))
	}
	out, err := c.Run(ctx, "systemd-run", "--quiet", "--collect", "--unit="+timerName(id),
		"--description=Take back a change of PAM stacks that nobody has confirmed",
		fmt.Sprintf("--on-active=%dms", after.Milliseconds()), "--timer-property=AccuracySec=100ms",
		c.Program, "pam", "rollback", id)
	if err != nil {
		return fmt.Errorf("start the timer that would take the change back: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Clear implements Clock.
func (c *SystemdClock) Clear(ctx context.Context, id string) error {
	// The timer may have fired: then it is this very process, or gone.
	_, _ = c.Run(ctx, "systemctl", "--quiet", "stop", timerName(id)+".timer")
	if out, err := c.Run(ctx, "systemctl", "--quiet", "disable", BootUnit); err != nil {
		return fmt.Errorf("disable %s: %w: %s", BootUnit, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// ProcessClock is a process in a session of its own that waits, for a system
// without systemd. It does not outlive a restart: what starts the system has to
// run `sallyport pam rollback --pending`.
type ProcessClock struct {
	Program string
	Args    []string // before the id
	Env     []string // nil: this process's
}

// readyTimeout bounds how long the process may take until it waits; a machine that
// is busy is slow to start one.
const readyTimeout = time.Minute

// readyFD is the descriptor on which the process says that it waits.
const readyFD = 3

// Set implements Clock. It returns when the process waits and heeds signals: from then
// on the change is taken back even if the system tells all programs to end.
func (c *ProcessClock) Set(_ context.Context, id string, after time.Duration) error {
	const what = "start the process that would take the change back"
	ready, inherited, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer ready.Close()
	// Not CommandContext: the process outlives this one and its context.
	cmd := exec.Command(c.Program, append(append([]string{"pam", "rollback", "--ready", "--after", after.String()}, c.Args...), id)...) //nolint:noctx // see above
	cmd.Env = c.Env
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.ExtraFiles = []*os.File{inherited} // the first is descriptor 3
	err = cmd.Start()
	if err = errors.Join(err, inherited.Close()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if err := ready.SetReadDeadline(time.Now().Add(readyTimeout)); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", what, err), cmd.Process.Kill(), cmd.Process.Release())
	}
	if _, err := ready.Read(make([]byte, 1)); err != nil {
		return errors.Join(fmt.Errorf("%s: it does not wait: %w", what, err), cmd.Process.Kill(), cmd.Process.Release())
	}
	return cmd.Process.Release()
}

// SayReady tells the Set of a ProcessClock that this process waits.
func SayReady() error {
	f := os.NewFile(readyFD, "ready")
	_, err := f.Write([]byte{'\n'})
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("say that this process waits: %w", err)
	}
	return nil
}

// Clear implements Clock: the process sees that nothing is pending any more.
func (c *ProcessClock) Clear(context.Context, string) error { return nil }

// Wait returns after a time, or with ErrNothingPending when the change has been
// settled meanwhile. A closed terminal does not end it.
func (s Store) Wait(ctx context.Context, id string, after time.Duration) error {
	deadline := time.NewTimer(after)
	defer deadline.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		if c, err := s.Pending(); errors.Is(err, ErrNothingPending) || err == nil && c.ID != id {
			return ErrNothingPending
		}
		select {
		case <-deadline.C:
			return nil
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Program is the path of this program, for those that run it later.
func Program() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return path, nil
}
