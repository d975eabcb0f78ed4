// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

func TestGatewaysOwnCommands(t *testing.T) {
	r := newRig(t, rule("few", `targets = ["db1"]`+"\nrecord = \"required\"")+rule("web", `targets = ["web1"]`+"\nstep_up = true"))
	c := r.client("")
	out, _, status := run(t, c, "list --json", "")
	var list []struct {
		Name     string
		Logins   []string
		StepUp   bool `json:"step_up"`
		Recorded bool
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil || status != 0 {
		t.Fatalf("%v, status %d: %s", err, status, out)
	}
	if fmt.Sprint(list) != "[{db1 [root] false true} {web1 [alice] true false}]" {
		t.Errorf("the list is %v", list)
	}
	for _, try := range []struct {
		command, want string
		status        int
	}{
		{"list", "web1", 0}, {"help", "ssh -J", 0}, {"rm -rf /", "no command", 2}, {"mfa", "", 1}, {"mfa db1", "No second factor", 0},
		{"mfa nothere", "no target is called nothere", 1}, {"list \x1b[31m", "no command", 2},
	} {
		out, errs, status := run(t, c, try.command, "")
		if status != try.status || !strings.Contains(out+errs, try.want) {
			t.Errorf("%s: status %d, %q %q", try.command, status, out, errs)
		}
		if strings.Contains(out+errs, "\x1b") {
			t.Errorf("%s: an escape came back: %q", try.command, out+errs)
		}
	}
	r.rules(rule("none", `targets = ["nothere"]`))
	if out, _, _ := run(t, c, "list --json", ""); strings.TrimSpace(out) != "[]" {
		t.Errorf("without a rule the list is %s", out)
	}
}

// typing opens a shell with a terminal.
func typing(t *testing.T, c *ssh.Client, term string) (io.Writer, *expect, *ssh.Session) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	out, _ := s.StdoutPipe()
	errs, _ := s.StderrPipe()
	if err := s.RequestPty(term, 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	return in, &expect{t: t, r: out, errs: errs}, s
}

// expect reads until something comes.
type expect struct {
	t    *testing.T
	r    io.Reader
	errs io.Reader
	seen bytes.Buffer
}

func (e *expect) until(want string) {
	e.t.Helper()
	b := make([]byte, 1024)
	for !strings.Contains(e.seen.String(), want) {
		n, err := e.r.Read(b)
		e.seen.Write(b[:n])
		if err != nil {
			e.t.Fatalf("waiting for %q: %v; there was %q", want, err, e.seen.String())
		}
	}
	e.seen.Reset()
}

func TestMenuLeadsToATarget(t *testing.T) {
	for _, term := range []string{"xterm", "dumb"} {
		r := newRig(t, everything)
		in, out, s := typing(t, r.client(""), term)
		out.until("web1")
		for range 300 { // a window that is dragged
			_ = s.WindowChange(50, 100)
		}
		fmt.Fprint(in, "db1\rtyped ahead")
		out.until("typed ahead") // the target's echo
		_ = s.Close()
		r.event(audit.SessionOpened, map[string]any{"target": "db1", "login": "root", "kind": "shell"})
	}
}

func TestMenuShowsOnlyWhatARuleReaches(t *testing.T) {
	r := newRig(t, rule("web", `targets = ["web1"]`))
	in, out, s := typing(t, r.client(""), "dumb")
	out.until("web1")
	fmt.Fprint(in, "db1\r")
	out.until("Nothing fits")
	fmt.Fprint(in, "q\r")
	if err := s.Wait(); err != nil {
		t.Errorf("leaving the menu: %v", err)
	}
}

// asks is an authd that asks for a passcode.
func asks(_ context.Context, q secondfactor.Question, p conversation.Person) error {
	switch q.Kind {
	case secondfactor.StepUpHold:
		return p.Show(frames.StyleInfo, "digits 123456")
	case secondfactor.StepUpRemembered:
		return secondfactor.ErrRefused
	}
	answer, err := p.Ask(context.Background(), "Code for "+q.Target+": ", true)
	if err != nil {
		return err
	}
	if answer.Reveal() != "777" {
		return fmt.Errorf("wrong: %w", secondfactor.ErrRefused)
	}
	return nil
}

func TestStepUpAtATerminal(t *testing.T) {
	r := newRig(t, rule("up", "step_up = true"))
	r.answer = asks
	c := r.client("db1")
	in, out, s := typing(t, c, "xterm")
	out.until("Code for db1: ")
	fmt.Fprint(in, "777\rand on")
	out.until("and on")
	_ = s.Close()
	// Remembered for the connection.
	if _, _, status := run(t, c, "exit 0", ""); status != 0 {
		t.Errorf("the second session: status %d", status)
	}
	r.event(audit.StepUp, map[string]any{"result": "allowed", "rule": "up", "target": "db1"})
	if len(r.asked) != 1 || r.asked[0].Kind != secondfactor.StepUp || r.asked[0].Rule != "up" || r.asked[0].Login != "root" {
		t.Errorf("asked: %+v", r.asked)
	}
	// Another connection is asked again, and a wrong answer is no.
	in, out, s = typing(t, r.client("db1"), "xterm")
	out.until("Code for db1: ")
	fmt.Fprint(in, "778\r")
	out.r = out.errs
	out.until("db1 needs a second factor of its own")
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 255 {
		t.Errorf("the end is %v", err)
	}
}

func TestStepUpWithoutATerminalHolds(t *testing.T) {
	r := newRig(t, rule("up", "step_up = true"))
	r.answer = asks
	_, errs, status := run(t, r.client("db1"), "exit 3", "")
	if status != 3 || !strings.Contains(errs, "digits 123456") {
		t.Errorf("status %d, %q", status, errs)
	}
	if len(r.asked) != 1 || r.asked[0].Kind != secondfactor.StepUpHold || r.asked[0].Fresh || r.asked[0].Rule != "up" {
		t.Errorf("asked: %+v", r.asked)
	}
}

func TestStepUpBeforeAForwarding(t *testing.T) {
	r := newRig(t, rule("up", "step_up = true"))
	r.answer = asks
	_, err := r.client("db1").Dial("tcp", "127.0.0.1:1")
	if err == nil || !strings.Contains(err.Error(), "ssh gw.example.org mfa db1") {
		t.Errorf("the answer is %v, want what to do", err)
	}
	if r.target.has("channel direct-tcpip") {
		t.Error("the target was asked without a second factor")
	}
	// Nobody is there to expect a push.
	if len(r.asked) != 1 || r.asked[0].Kind != secondfactor.StepUpRemembered {
		t.Errorf("asked: %+v", r.asked)
	}
}
