// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/record"
	"github.com/sallyport-mfa/sallyport/sshgw/session"
)

// withAgent opens a session whose agent is forwarded.
func withAgent(t *testing.T, c *ssh.Client) *ssh.Session {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.RequestAgentForwarding(s); err != nil {
		t.Fatal(err)
	}
	return s
}

func forwardAgent(t *testing.T, c *ssh.Client) {
	t.Helper()
	if err := agent.ForwardToAgent(c, agent.NewKeyring()); err != nil {
		t.Fatal(err)
	}
}

func TestAgentOfASessionThatLives(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	forwardAgent(t, c)
	if out, err := withAgent(t, c).Output("agent"); string(out) != "0 keys" || err != nil {
		t.Errorf("the target got %q, %v", out, err)
	}
	// It asked for the agent, and for nothing else.
	if out, _ := withAgent(t, c).Output("open x11"); !strings.Contains(string(out), "prohibited") {
		t.Errorf("of X11 the target got %q", out)
	}
	// Another session did not ask.
	if out, _, _ := run(t, c, "agent", ""); !strings.Contains(out, "prohibited") {
		t.Errorf("without a wish the target got %q", out)
	}
}

func TestAgentAskedAfterTheSession(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	forwardAgent(t, c)
	if _, err := withAgent(t, c).Output("agent-later"); err != nil {
		t.Fatal(err)
	}
	if err := <-r.target.agent; err == nil || !strings.Contains(err.Error(), "prohibited") {
		t.Errorf("after the session the target got %v", err)
	}
	if _, err := withAgent(t, c).Output("agent-held"); err != nil {
		t.Fatal(err)
	}
	if err := <-r.target.agent; err != nil {
		t.Errorf("during the session the target got %v", err)
	}
	if err := <-r.target.agent; err == nil {
		t.Error("a channel to the agent outlived its session")
	}
}

// The agent proves who one is to a target only for a session that asked for it.
func TestAgentTowardsTheTarget(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("wanted@db1")
	forwardAgent(t, c)
	if _, err := withAgent(t, c).Output("exit 0"); err != nil {
		t.Errorf("with an agent: %v", err)
	}
	c = r.client("wanted@db1")
	forwardAgent(t, c)
	if _, _, status := run(t, c, "exit 0", ""); status != 255 {
		t.Errorf("a session that did not ask got the agent: status %d", status)
	}
	r.rules(rule("none", "exec = [\"*\"]"))
	c = r.client("wanted@db1")
	forwardAgent(t, c)
	if _, err := withAgent(t, c).Output("exit 0"); err == nil {
		t.Error("the agent was used without a rule that grants it")
	}
}

func TestAgentThatNoRuleGrants(t *testing.T) {
	r := newRig(t, rule("none", "exec = [\"*\"]"))
	c := r.client("db1")
	forwardAgent(t, c)
	if out, _ := withAgent(t, c).Output("agent"); !strings.Contains(string(out), "prohibited") {
		t.Errorf("the target got %q", out)
	}
	if r.target.has("auth-agent-req@openssh.com") {
		t.Error("the target was told of an agent")
	}
	r = newRig(t, everything, "no-agent-forwarding")
	c = r.client("db1")
	forwardAgent(t, c)
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.RequestAgentForwarding(s); err == nil {
		t.Error("a key without agent forwarding was granted it")
	}
	if out, _ := s.Output("agent"); !strings.Contains(string(out), "prohibited") {
		t.Errorf("the target got %q", out)
	}
}

func TestRecording(t *testing.T) {
	r := newRig(t, rule("rec", "record = \"required\"\nrecord_input = true"))
	c := r.client("db1")
	run(t, c, "binary", "")
	in, out, s := typing(t, c, "xterm")
	out.until("$ ")
	fmt.Fprint(in, "hello")
	out.until("hello")
	if err := s.WindowChange(50, 100); err != nil {
		t.Fatal(err)
	}
	r.eventually("the new size", func() bool { _, _, sizes, _ := r.tapes[1].state(); return len(sizes) == 1 })
	_ = s.Close()
	r.event(audit.SessionClosed, map[string]any{"kind": "shell", "recording": r.tapes[1].Name()})
	if out, _, _, closed := r.tapes[0].state(); len(out) != 512 || !closed || r.tapes[0].meta.Command != "binary" || r.tapes[0].meta.Width != 0 {
		t.Errorf("the command's recording has %d bytes, closed %v: %+v", len(out), closed, r.tapes[0].meta)
	}
	o, i, sizes, closed := r.tapes[1].state()
	if o != "$ hello" || i != "hello" || sizes[0] != [2]int{100, 50} || !closed {
		t.Errorf("the shell's recording: out %q, in %q, sizes %v, closed %v", o, i, sizes, closed)
	}
	if m := r.tapes[1].meta; m.Term != "xterm" || m.Width != 80 || m.Rule != "rec" || m.User != "alice" || !m.Input {
		t.Errorf("its head: %+v", m)
	}
}

// A size that comes while the program is being started is recorded as well.
func TestWindowChangeBeforeTheProgramIsRecorded(t *testing.T) {
	r := newRig(t, rule("rec", "record = \"required\""))
	s, err := r.client("db1").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
		t.Fatal(err)
	}
	tape := &memoryTape{failed: make(chan struct{})}
	r.begin = func(m record.Meta) (session.Recording, error) {
		tape.meta = m
		if err := s.WindowChange(50, 100); err != nil {
			t.Error(err)
		}
		time.Sleep(100 * time.Millisecond) // it is read meanwhile
		return tape, nil
	}
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	r.eventually("the size on the tape", func() bool {
		_, _, sizes, _ := tape.state()
		return len(sizes) == 1 && sizes[0] == [2]int{100, 50}
	})
}

func TestNoRecordNoSession(t *testing.T) {
	r := newRig(t, rule("rec", "record = \"required\""))
	r.begin = func(record.Meta) (session.Recording, error) { return nil, errors.New("no space left on device") }
	_, errs, status := run(t, r.client("db1"), "exit 0", "")
	if status != 255 || !strings.Contains(errs, "must be recorded, and cannot be") || strings.Contains(errs, "space") {
		t.Errorf("status %d, %q", status, errs)
	}
	if r.target.has("exec") {
		t.Error("the program was started before the recording")
	}
	r.event(audit.RecordFailed, map[string]any{"required": true})
	r.rules(rule("rec", "record = \"on\""))
	if _, _, status := run(t, r.client("db1"), "exit 0", ""); status != 0 {
		t.Errorf("a recording that is not required ended the session: status %d", status)
	}
}

func TestRecordingThatBreaksEndsTheSession(t *testing.T) {
	for _, idle := range []bool{true, false} {
		r := newRig(t, rule("rec", "record = \"required\""))
		in, out, s := typing(t, r.client("db1"), "xterm")
		out.until("$ ")
		if idle {
			r.tapes[0].fail(errors.New("disk full"))
		} else {
			tape := r.tapes[0]
			tape.mu.Lock()
			tape.err = errors.New("disk full")
			tape.mu.Unlock()
			fmt.Fprint(in, "hidden from the record")
			if b, _ := io.ReadAll(out.r); bytes.Contains(b, []byte("hidden")) {
				t.Error("what was not recorded was shown")
			}
		}
		out.r = out.errs
		out.until("must be recorded, and cannot be: it ends")
		var exit *ssh.ExitError
		if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 255 {
			t.Errorf("the end is %v", err)
		}
		r.event(audit.RecordFailed, map[string]any{"error": "disk full"})
	}
	r := newRig(t, rule("rec", "record = \"on\""))
	in, out, _ := typing(t, r.client("db1"), "xterm")
	out.until("$ ")
	r.tapes[0].fail(errors.New("disk full"))
	fmt.Fprint(in, "goes on")
	out.until("goes on")
	r.event(audit.RecordFailed, map[string]any{"required": false})
}

// What a hostile target does to one session does not reach another.
func TestHostileTarget(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")

	// It floods a client that reads nothing.
	flooded, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	if ok, err := flooded.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"flood"})); !ok || err != nil {
		t.Fatal(ok, err)
	}
	for range 3 {
		if _, _, status := run(t, c, "exit 1", ""); status != 1 {
			t.Errorf("beside a flood: status %d", status)
		}
	}
	_ = flooded.Close()
	r.event(audit.SessionClosed, map[string]any{"command": "flood"})

	// It closes without a word: all that it wrote arrives, and no status is made up.
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s.Stdout = &out
	var missing *ssh.ExitMissingError
	if err := s.Run("early"); !errors.As(err, &missing) || sum(out.Bytes()) != sum(pattern(1<<20)) {
		t.Errorf("%v, %d bytes", err, out.Len())
	}

	// It sends requests that nobody knows, and statuses that are none.
	if out, _, status := run(t, c, "unasked", ""); out != "false <nil>" || status != 4 {
		t.Errorf("status %d, %q", status, out)
	}

	// It does not answer.
	began := time.Now()
	_, errs, status := run(t, c, "never", "")
	if status != 255 || !strings.Contains(errs, "db1 cannot be reached") {
		t.Errorf("after %v: status %d, %q", time.Since(began), status, errs)
	}
	r.event(audit.TargetRefused, map[string]any{"target": "db1"})

	// It drops the connection: the session ends, and the next one opens it again.
	s, err = c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run("drop"); err == nil {
		t.Error("a session that was dropped ended well")
	}
	r.eventually("the target again", func() bool {
		s, err := c.NewSession()
		if err != nil {
			return false
		}
		out, _ := s.Output("exit 0")
		return string(out) == "out"
	})
}

// A client that floods stderr, which is none of its business, stops nothing.
func TestClientFloodsExtendedData(t *testing.T) {
	r := newRig(t, everything)
	ch, requests, err := r.client("db1").OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	if ok, _ := ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"cat"})); !ok {
		t.Fatal("no program")
	}
	if _, err := ch.Stderr().Write(pattern(8 << 20)); err != nil {
		t.Fatal(err)
	}
	_, _ = ch.Write([]byte("x"))
	_ = ch.CloseWrite()
	if b, _ := io.ReadAll(ch); string(b) != "x" {
		t.Errorf("it came back as %q", b)
	}
}

func TestManyRequestsAtOnceEndTheSession(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	ch, requests, err := c.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { // never answered, so those behind wait
		_, _ = ch.SendRequest("exec", true, ssh.Marshal(struct{ C string }{"never"}))
	}()
	r.eventually("the program", func() bool { return r.target.has("exec") })
	for range 1000 {
		if _, err := ch.SendRequest("env", false, ssh.Marshal(struct{ N, V string }{"A", "B"})); err != nil {
			break
		}
	}
	ssh.DiscardRequests(requests) // until it is closed
	if _, _, status := run(t, c, "exit 6", ""); status != 6 {
		t.Errorf("the connection: status %d", status)
	}
}

func TestClientGoesWhileItSends(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, _ := s.StdinPipe()
	if err := s.Start("sum"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write(pattern(1 << 20)); err != nil {
		t.Fatal(err)
	}
	_ = s.Close() // the input has not ended, but all of it was sent
	r.event(audit.SessionClosed, map[string]any{"command": "sum", "bytes_in": 1 << 20})
	_ = c.Close()
	r.eventually("nobody left", func() bool { n, _ := r.roster.Len(); return n == 0 })
}

// X11 and listening are what no recording shows: a rule that requires one must name them.
func TestRecordingIsNotDodgedByX11OrListening(t *testing.T) {
	for _, c := range []struct {
		body   string
		passes bool
	}{
		{`record = "required"`, false}, {`record = "on"`, true},
		{"record = \"required\"\nexec = [\"*\"]\nx11 = true\nlisten = [\"*:*\"]", true},
	} {
		r := newRig(t, rule("rec", c.body))
		conn := r.client("db1")
		s, err := conn.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = s.SendRequest("x11-req", true, []byte("\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		if _, err := s.Output("exit 0"); err != nil {
			t.Fatal(err)
		}
		if got := r.target.has("x11-req"); got != c.passes {
			t.Errorf("%s: X11 passes: %v", c.body, got)
		}
		_, err = conn.Listen("tcp", "127.0.0.1:0")
		if (err == nil) != c.passes {
			t.Errorf("%s: listening: %v", c.body, err)
		}
	}
}

func TestBatchReachesItsTargetsAlone(t *testing.T) {
	r := newRig(t, everything)
	batch := fmt.Sprintf("[[batch]]\nname = \"nightly\"\nreason = \"backup\"\nusers = [\"alice\"]\nkeys = [%q]\nsources = [\"127.0.0.0/8\"]\ntargets = [\"web1\"]\n",
		ssh.FingerprintSHA256(r.key.PublicKey()))
	r.rules(everything + batch)
	c := r.client("")
	if _, err := opened(c, "db1", 22); err == nil {
		t.Error("a batch identity jumped to a target that is not its own")
	}
	conn, err := opened(c, "web1", 22)
	if err != nil {
		t.Fatalf("its own target: %v", err)
	}
	_ = conn.Close()
	if out, _, _ := run(t, c, "list --json", ""); strings.Contains(out, "db1") || !strings.Contains(out, "web1") {
		t.Errorf("its list is %s", out)
	}
	own := r.client("web1")
	if _, _, status := run(t, own, "exit 0", ""); status != 0 {
		t.Errorf("its own target: status %d", status)
	}
	// The rule is gone: so is what it let in for.
	r.rules(everything)
	if _, err := own.NewSession(); err == nil {
		t.Error("a batch identity whose rule is gone opened a session")
	}
}
