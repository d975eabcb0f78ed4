// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
)

func TestAllExitCodes(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	var all sync.WaitGroup
	for i := range 256 {
		all.Add(1)
		go func() {
			defer all.Done()
			out, _, status := run(t, c, fmt.Sprint("exit ", i), "")
			if out != "out" || status != i {
				t.Errorf("exit %d: status %d, output %q", i, status, out)
			}
		}()
		if i%16 == 15 {
			all.Wait()
		}
	}
	r.event(audit.Exec, map[string]any{"command": "exit 255", "exit_status": 255, "target": "db1", "login": "root", "bytes_out": 3})
	if r.dials != 1 {
		t.Errorf("the target was dialled %d times, want once for the connection", r.dials)
	}
}

func TestBigTransfersBothWays(t *testing.T) {
	const size = 24 << 20
	r := newRig(t, everything)
	c := r.client("db1")
	want := pattern(size)
	out, _, _ := run(t, c, fmt.Sprint("gen ", size), "")
	if sum([]byte(out)) != sum(want) {
		t.Errorf("download: %d bytes came, and not what was sent", len(out))
	}
	out, _, _ = run(t, c, "sum", string(want))
	if out != fmt.Sprint(sum(want), " ", size) {
		t.Errorf("upload: the target has %q", out)
	}
	out, _, _ = run(t, c, "cat", string(want))
	if sum([]byte(out)) != sum(want) {
		t.Errorf("both at once: %d bytes came back, and not what was sent", len(out))
	}
	r.event(audit.SessionClosed, map[string]any{"command": "cat", "bytes_in": size, "bytes_out": size})
}

func TestHalfCloseBothDirections(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	if out, _, _ := run(t, c, "sum", "hello"); out != sum([]byte("hello"))+" 5" {
		t.Errorf("after the end of input the answer is %q", out)
	}
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	outs, _ := s.StdoutPipe()
	if err := s.Start("closeout"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(outs); string(b) != "bye" || err != nil {
		t.Fatalf("until the end of output: %q, %v", b, err)
	}
	// The output has ended, and the input goes on.
	if _, err := in.Write(pattern(100_000)); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	if err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	if !r.target.has("read 100000") {
		t.Error("the target has not read what was sent after the end of its output")
	}
}

// OpenSSH closes a channel as soon as both directions have ended, and nothing that comes
// after that reaches it.
func TestExitStatusReachesAClientThatClosesAtTheEndOfTheOutput(t *testing.T) {
	r := newRig(t, everything)
	ch, requests, err := r.client("db1").OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ Command string }{"lateexit 9"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	_ = ch.CloseWrite()
	if _, err := io.ReadAll(ch); err != nil {
		t.Fatal(err)
	}
	_ = ch.Close()
	for q := range requests {
		if q.Type == "exit-status" && string(q.Payload) == "\x00\x00\x00\x09" {
			return
		}
	}
	t.Error("there was no exit status")
}

func TestBinaryOnBothOutputs(t *testing.T) {
	r := newRig(t, everything)
	out, errs, status := run(t, r.client("db1"), "binary", "")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	if out != string(all) || errs != string(all) || status != 3 {
		t.Errorf("status %d, output %q, errors %q", status, out, errs)
	}
}

func TestTerminalIsPassedByteForByte(t *testing.T) {
	r := newRig(t, everything)
	s, err := r.client("db1").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	request := ssh.Marshal(struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}{"xterm-256color\x00\xff", 132, 43, 1056, 688, "\x35\x00\x00\x00\x00\x80\x00\x00\x96\x00\x00"})
	if ok, err := s.SendRequest("pty-req", true, request); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := s.Setenv("LANG", "C.UTF-8"); err != nil {
		t.Fatal(err)
	}
	out, err := s.Output("wishes")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "pty-req "+hex.EncodeToString(request)) {
		t.Errorf("the target was asked for %s", out)
	}
	if !strings.Contains(string(out), "env "+hex.EncodeToString(ssh.Marshal(struct{ N, V string }{"LANG", "C.UTF-8"}))) {
		t.Errorf("the variable is not there: %s", out)
	}
}

func TestSignalsAndWindowChanges(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	for _, signal := range []bool{true, false} {
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		outs, _ := s.StdoutPipe()
		if err := s.Start("signal"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(outs, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		want := "signal " + hex.EncodeToString(ssh.Marshal(struct{ S string }{"INT"}))
		if signal {
			err = s.Signal(ssh.SIGINT)
		} else {
			want = "window-change " + hex.EncodeToString(ssh.Marshal(struct{ C, R, W, H uint32 }{100, 50, 800, 400}))
			err = s.WindowChange(50, 100)
		}
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(outs)
		if string(got) != want {
			t.Errorf("the target got %q, want %q", got, want)
		}
		var exit *ssh.ExitError
		if err := s.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
			t.Errorf("the end is %v, want a signal", err)
		}
	}
}

// A program in the background keeps the outputs open; the status is known before they end.
func TestExitStatusOfWhatLeavesSomethingInTheBackground(t *testing.T) {
	r := newRig(t, everything)
	ch, requests, err := r.client("db1").OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"background"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	q := <-requests
	if q.Type != "exit-status" || !bytes.Equal(q.Payload, []byte{0, 0, 0, 7}) {
		t.Errorf("got %s %x", q.Type, q.Payload)
	}
	_ = ch.CloseWrite()
	_ = ch.Close()
	r.event(audit.SessionClosed, map[string]any{"command": "background", "exit_status": 7})
}

func TestOneProgramPerSession(t *testing.T) {
	r := newRig(t, everything)
	ch, requests, err := r.client("db1").OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	for i, want := range []bool{true, false, false} {
		name := []string{"exec", "exec", "shell"}[i]
		payload := ssh.Marshal(struct{ C string }{"cat"})
		if name == "shell" {
			payload = nil
		}
		if ok, _ := ch.SendRequest(name, true, payload); ok != want {
			t.Errorf("request %d (%s): %v, want %v", i, name, ok, want)
		}
	}
	if ok, _ := ch.SendRequest("pty-req", true, nil); ok {
		t.Error("a terminal was granted to a program that runs")
	}
}

func TestSecondChannelIsJudgedAnew(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	if _, _, status := run(t, c, "exit 0", ""); status != 0 {
		t.Fatal(status)
	}
	r.rules(rule("some", `exec = ["cat"]`))
	_, errs, status := run(t, c, "exit 0", "")
	if status != 255 || !strings.Contains(errs, `the rule "some" does not permit this command at db1; ask the help desk`) {
		t.Errorf("status %d, %q", status, errs)
	}
	r.rules(rule("other", `targets = ["web1"]`))
	_, err := c.NewSession()
	var no *ssh.OpenChannelError
	if !errors.As(err, &no) || no.Reason != ssh.Prohibited || !strings.Contains(no.Message, "no rule lets alice reach db1 as root") {
		t.Errorf("the channel was answered with %v", err)
	}
	r.event(audit.Denied, map[string]any{"reason": "no_rule", "target": "db1", "login": "root", "user": "alice"})
}

func TestWhatARuleDoesNotNameIsRefused(t *testing.T) {
	r := newRig(t, rule("few", "exec = [\"cat\"]\nenv = [\"LANG\"]"))
	c := r.client("db1")
	for _, try := range []struct{ kind, payload string }{
		{"shell", ""}, {"subsystem", "sftp"}, {"subsystem", "netconf"}, {"exec", "exit 1"}, {"exec", "cat /etc/shadow"},
	} {
		ch, requests, err := c.OpenChannel("session", nil)
		if err != nil {
			t.Fatal(err)
		}
		payload := ssh.Marshal(struct{ C string }{try.payload})
		if try.kind == "shell" {
			payload = nil
		}
		_, _ = ch.SendRequest(try.kind, true, payload)
		got := <-requests
		if got == nil || got.Type != "exit-status" || !bytes.Equal(got.Payload, []byte{0, 0, 0, 255}) {
			t.Errorf("%s %s: answered with %+v", try.kind, try.payload, got)
		}
		go ssh.DiscardRequests(requests)
	}
	for _, never := range []string{"shell", "subsystem", "exec"} {
		if r.target.has(never) {
			t.Errorf("the target was asked for %s", never)
		}
	}
	s, _ := c.NewSession()
	_ = s.Setenv("LD_PRELOAD", "x")
	_ = s.Setenv("LANG", "C")
	if _, err := s.Output("cat"); err != nil {
		t.Error(err)
	}
	r.target.mu.Lock()
	defer r.target.mu.Unlock()
	n := 0
	for _, s := range r.target.seen {
		if s == "env" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d variables were passed on, want one", n)
	}
}

func TestForcedCommandOfTheKey(t *testing.T) {
	r := newRig(t, everything, `command="wishes forced"`, "no-pty")
	c := r.client("db1")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err == nil {
		t.Error("a terminal was granted to a key without")
	}
	if _, err := s.Output("exit 9"); err != nil {
		t.Errorf("the forced command: %v", err)
	}
	r.event(audit.Exec, map[string]any{"command": "wishes forced", "asked": "exec exit 9"})
}

func TestTargetThatSaysNo(t *testing.T) {
	r := newRig(t, everything)
	ch, requests, err := r.client("db1").OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	if ok, err := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"no"})); ok || err != nil {
		t.Errorf("%v, %v; want the target's own no", ok, err)
	}
}

func TestUnknownChannelsAndTargets(t *testing.T) {
	r := newRig(t, everything)
	var no *ssh.OpenChannelError
	for _, kind := range []string{"x11", "forwarded-tcpip", "tun@openssh.com", "auth-agent@openssh.com", "what\x1b[31m"} {
		_, _, err := r.client("db1").OpenChannel(kind, nil)
		if !errors.As(err, &no) || no.Reason != ssh.Prohibited {
			t.Errorf("%s: %v", kind, err)
		}
	}
	_, err := r.client("nothere").NewSession()
	if !errors.As(err, &no) || !strings.Contains(no.Message, "no target is called nothere") {
		t.Errorf("an unknown target: %v", err)
	}
}

// The server's own requests are answered where all others are, in their order.
func TestKeepaliveIsAnsweredInOrder(t *testing.T) {
	c := newRig(t, everything).client("db1")
	for request, want := range map[string]bool{"keepalive@openssh.com": true, "no-more-sessions@openssh.com": true, "unknown@example.org": false} {
		if ok, _, err := c.SendRequest(request, true, nil); ok != want || err != nil {
			t.Errorf("%s: %v, %v", request, ok, err)
		}
	}
	if _, err := c.NewSession(); err == nil {
		t.Error("a session was opened after no-more-sessions")
	}
}
