// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// answers is a service that reads to the end of input, answers, and closes.
func answers(t *testing.T) (host string, port int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, _ := io.ReadAll(c)
				fmt.Fprintf(c, "got %d %s", len(b), sum(b))
			}()
		}
	}()
	a := l.Addr().(*net.TCPAddr)
	return "127.0.0.1", a.Port
}

// ask sends data through a forwarded connection, ends it, and reads the answer.
func ask(t *testing.T, c net.Conn, data []byte) string {
	t.Helper()
	defer c.Close()
	go func() {
		_, _ = c.Write(data)
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// opened dials through the client as OpenSSH does, and returns a connection with a half-close.
func opened(c *ssh.Client, host string, port int) (net.Conn, error) {
	ch, requests, err := c.OpenChannel("direct-tcpip", ssh.Marshal(struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}{host, uint32(port), "127.0.0.1", 1}))
	if err != nil {
		return nil, err
	}
	go ssh.DiscardRequests(requests)
	return channelConn{Channel: ch}, nil
}

type channelConn struct {
	ssh.Channel
	net.Conn
}

func (c channelConn) Read(p []byte) (int, error)  { return c.Channel.Read(p) }
func (c channelConn) Write(p []byte) (int, error) { return c.Channel.Write(p) }
func (c channelConn) Close() error                { return c.Channel.Close() }
func (c channelConn) CloseWrite() error           { return c.Channel.CloseWrite() }
func (c channelConn) LocalAddr() net.Addr         { return &net.TCPAddr{} }
func (c channelConn) RemoteAddr() net.Addr        { return &net.TCPAddr{} }
func (c channelConn) SetDeadline(time.Time) error { return nil }

func (c channelConn) SetReadDeadline(time.Time) error  { return nil }
func (c channelConn) SetWriteDeadline(time.Time) error { return nil }

func TestForwardingThroughTheTarget(t *testing.T) {
	r := newRig(t, everything)
	host, port := answers(t)
	data := pattern(3 << 20)
	c, err := opened(r.client("db1"), host, port)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, c, data); got != fmt.Sprintf("got %d %s", len(data), sum(data)) {
		t.Errorf("the answer is %q", got)
	}
	r.event(audit.Forwarded, map[string]any{"destination": fmt.Sprintf("127.0.0.1:%d", port), "bytes_in": len(data), "target": "db1"})
	_, err = opened(r.client("db1"), "127.0.0.1", 1)
	var no *ssh.OpenChannelError
	if !errors.As(err, &no) || strings.ContainsAny(no.Message, "\x1b\n") {
		t.Errorf("what the target refuses: %v", err)
	}
}

// Nobody gets to a target's sshd by forwarding where a rule wants to see what is done there.
func TestRecordingIsNotDodgedByForwarding(t *testing.T) {
	r := newRig(t, "")
	p := r.target.port
	_, service := answers(t)
	r.names["alias.example"] = []netip.Addr{netip.MustParseAddr("127.0.0.2")}
	r.names["self.example"] = []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}
	for _, c := range []struct {
		rules  string
		host   string
		port   int
		passes bool
	}{
		// db1 is free, web1 is recorded: web1 is not reached by way of db1.
		{rule("free", `targets = ["db1"]`) + rule("recorded", `targets = ["web1"]`+"\nrecord = \"required\""), "web1", p, false},
		{rule("free", `targets = ["db1"]`) + rule("recorded", `targets = ["web1"]`+"\nrecord = \"required\""), "WEB1.", 22, false},
		{rule("free", `targets = ["db1"]`) + rule("recorded", `targets = ["web1"]`+"\nrecord = \"required\""), "127.0.0.2", p, false},
		{rule("free", `targets = ["db1"]`) + rule("recorded", `targets = ["web1"]`+"\nrecord = \"required\""), "::ffff:127.0.0.2", p, false},
		{rule("free", `targets = ["db1"]`) + rule("recorded", `targets = ["web1"]`+"\nrecord = \"required\""), "alias.example", p, false},
		{rule("free", `targets = ["db1"]`) + rule("recorded", `targets = ["web1"]`+"\nrecord = \"required\""), "2130706434", p, false}, // for inet_aton
		{rule("free", `targets = ["db1"]`) + rule("recorded", `targets = ["web1"]`+"\nrecord = \"required\""), "127.2", p, false},
		{rule("free", `targets = ["db1"]`) + rule("recorded", `targets = ["web1"]`+"\nrecord = \"required\""), "127.0.0.1", service, true},
		// A target that no rule reaches is none the more reached through another.
		{rule("free", `targets = ["db1"]`), "web1", p, false},
		// Sessions at db1 are recorded: its own sshd is not another way in.
		{rule("recorded", "record = \"required\"\nforward = [\"*:*\"]"), "127.0.0.1", p, false},
		{rule("recorded", "record = \"required\"\nforward = [\"*:*\"]"), "127.0.0.1", service, false},
		{rule("recorded", fmt.Sprintf("record = \"required\"\nforward = [\"127.0.0.1:%d\"]", service)), "127.0.0.1", service, true},
		{rule("looked at", "record = \"on\"\nshell = true\nforward = [\"*:*\"]"), "self.example", p, false},
		{rule("looked at", "record = \"on\"\nshell = true\nforward = [\"*:*\"]"), "127.0.0.1", service, true},
	} {
		r.rules(c.rules)
		conn, err := opened(r.client("db1"), c.host, c.port)
		if (err == nil) != c.passes {
			t.Errorf("%s port %d under %s: %v, want it to pass: %v", c.host, c.port, c.rules, err, c.passes)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

func TestRecordingIsNotDodgedByAJump(t *testing.T) {
	r := newRig(t, rule("recorded", "record = \"required\""))
	p := r.target.port
	r.names["alias.example"] = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	for _, host := range []string{"db1", "database", "DB1.", "127.0.0.1", "::ffff:127.0.0.1", "alias.example"} {
		conn, err := opened(r.client(""), host, p)
		if err != nil {
			t.Errorf("%s: %v", host, err)
			continue
		}
		inner, channels, requests, err := ssh.NewClientConn(conn, host, &ssh.ClientConfig{User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if err != nil {
			t.Errorf("%s: the connection inside: %v", host, err)
			continue
		}
		out, _, status := run(t, ssh.NewClient(inner, channels, requests), "exit 5", "")
		if out != "out" || status != 5 {
			t.Errorf("%s: %q, %d", host, out, status)
		}
		_ = inner.Close()
	}
	if len(r.tapes) != 6 {
		t.Errorf("%d recordings, want one of each", len(r.tapes))
	}
	for _, tape := range r.tapes {
		if out, _, _, closed := tape.state(); out != "out" || !closed || tape.meta.Command != "exit 5" || tape.meta.Login != "root" {
			t.Errorf("the recording has %q: %+v", out, tape.meta)
		}
	}
	for _, host := range []string{"other.example", "10.9.8.7", "localhost"} {
		if _, err := opened(r.client(""), host, p); err == nil {
			t.Errorf("%s, which is no target, was reached from the gateway", host)
		}
	}
}

func TestRawJump(t *testing.T) {
	r := newRig(t, everything)
	conn, err := opened(r.client(""), "db1", 22) // the port that ssh asks for
	if err != nil {
		t.Fatal(err)
	}
	var seen ssh.PublicKey
	inner, channels, requests, err := ssh.NewClientConn(conn, "db1", &ssh.ClientConfig{
		User: "x", Auth: []ssh.AuthMethod{ssh.Password("")},
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { seen = k; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	if string(seen.Marshal()) != string(r.target.key.PublicKey().Marshal()) {
		t.Error("the key is not the target's own")
	}
	data := pattern(5 << 20)
	if out, _, _ := run(t, ssh.NewClient(inner, channels, requests), "cat", string(data)); sum([]byte(out)) != sum(data) {
		t.Errorf("%d bytes came back", len(out))
	}
	_ = inner.Close()
	r.event(audit.Forwarded, map[string]any{"target": "db1", "raw": true})
}

// A jump that passes through unseen would lose what a key is limited to: the program at
// the target would forward anywhere. Where a key has such limits, the jump is served inside.
func TestAttackRawJumpLosesTheKeysLimits(t *testing.T) {
	for option, loses := range map[string]bool{
		`permitopen="db1:22"`: true, `permitlisten="8080"`: true, "no-pty": true, `command="true"`: true, `from="127.0.0.1"`: false,
	} {
		t.Run(option, func(t *testing.T) {
			r := newRig(t, everything, option)
			conn, err := opened(r.client(""), "db1", 22)
			if err != nil {
				t.Fatal(err)
			}
			var seen ssh.PublicKey
			inner, channels, requests, err := ssh.NewClientConn(conn, "db1", &ssh.ClientConfig{
				User: "root", Auth: []ssh.AuthMethod{ssh.Password("")},
				HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { seen = k; return nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer ssh.NewClient(inner, channels, requests).Close()
			if unseen := string(seen.Marshal()) == string(r.target.key.PublicKey().Marshal()); unseen == loses {
				t.Errorf("it went through unseen: %v", unseen)
			}
		})
	}
}

// fickle is a name service that gives another answer each time.
type fickle struct {
	*rig
	answers []string
}

func (f *fickle) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if host != "moving.example" {
		return nil, errors.New("no such host")
	}
	a := f.answers[0]
	if len(f.answers) > 1 {
		f.answers = f.answers[1:]
	}
	return []netip.Addr{netip.MustParseAddr(a)}, nil
}

// A name that leads elsewhere once the rules were asked about it, and one that leads to a
// target which is recorded.
func TestRecordingIsNotDodgedByANameThatMoves(t *testing.T) {
	for _, c := range []struct {
		answers []string
		dialled string // "": nothing is
	}{
		{[]string{"127.0.0.3", "127.0.0.1"}, "127.0.0.3"},
		{[]string{"127.0.0.1", "127.0.0.3"}, ""},
	} {
		for _, to := range []string{"moving", "moving.example"} {
			for _, forward := range []bool{false, true} {
				r := newRig(t, "")
				r.more = fmt.Sprintf("[[target]]\nname = \"moving\"\nhost = \"moving.example\"\nport = %d\n", r.target.port)
				port, body := r.target.port, ""
				if forward {
					// The port of db1's sshd is nothing of this target's here.
					r.more = "[[target]]\nname = \"moving\"\nhost = \"moving.example\"\nport = 1\n"
					body = fmt.Sprintf("forward = [\"*:%d\"]", port)
				}
				r.rules(rule("recorded", "targets = [\"db1\"]\nrecord = \"required\"") + rule("open", "targets = [\"moving\"]\n"+body))
				r.service.Targets = &fickle{r, c.answers}
				conn, err := opened(r.client(""), to, port)
				if err == nil { // it may be answered inside
					_ = conn.Close()
				}
				dialled := ""
				r.mu.Lock()
				for _, at := range r.dialled {
					dialled += at.Addr().String()
				}
				r.mu.Unlock()
				if dialled != c.dialled {
					t.Errorf("%v, to %s, as a forwarding %v: %q was dialled (%v)", c.answers, to, forward, dialled, err)
				}
				if c.dialled == "" && !forward {
					r.event(audit.Denied, map[string]any{"reason": "forward_target", "target": "moving"})
				}
			}
		}
	}
}

// A host that a rule lets people connect to from the gateway, beside its sshd.
func TestForwardingFromTheGateway(t *testing.T) {
	r := newRig(t, "")
	_, service := answers(t)
	r.rules(rule("web", fmt.Sprintf("targets = [\"db1\"]\nforward = [\"db1:%d\"]", service)))
	c, err := opened(r.client(""), "db1", service)
	if err != nil {
		t.Fatal(err)
	}
	if got := ask(t, c, []byte("x")); !strings.HasPrefix(got, "got 1 ") {
		t.Errorf("the answer is %q", got)
	}
	for _, to := range []string{"web1", "database", "127.0.0.9"} {
		if _, err := opened(r.client(""), to, service); err == nil {
			t.Errorf("%s, which the rule does not name, was reached", to)
		}
	}
}

func TestJumpAsksForTheLoginsRule(t *testing.T) {
	text := rule("as root", "targets = [\"db1\"]\nexec = [\"*\"]")
	text = strings.Replace(text, `logins = ["*"]`, `logins = ["root"]`, 1)
	r := newRig(t, text)
	for login, want := range map[string]bool{"root": true, "postgres": false} {
		conn, err := opened(r.client(""), "db1", 22)
		if err != nil {
			t.Fatal(err)
		}
		inner, _, _, err := ssh.NewClientConn(conn, "db1", &ssh.ClientConfig{User: login, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
		if (err == nil) != want {
			t.Errorf("%s: %v", login, err)
		}
		if err == nil {
			_ = inner.Close()
		}
	}
	if _, err := opened(r.client(""), "web1", 22); err == nil {
		t.Error("a jump to a target that no rule reaches was opened")
	}
}

func TestStepUpInsideAJump(t *testing.T) {
	r := newRig(t, rule("up", "step_up = true"))
	r.answer = asks
	conn, err := opened(r.client(""), "db1", 22)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	inner, channels, requests, err := ssh.NewClientConn(conn, "db1", &ssh.ClientConfig{
		User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		Auth: []ssh.AuthMethod{ssh.KeyboardInteractive(func(_, _ string, q []string, _ []bool) ([]string, error) {
			if len(q) == 0 {
				return nil, nil
			}
			asked++
			return []string{"777"}, nil
		})},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, status := run(t, ssh.NewClient(inner, channels, requests), "exit 0", ""); status != 0 || asked != 1 {
		t.Errorf("status %d, asked %d times", status, asked)
	}
	// By method none there is nobody yet: one push for one jump.
	if len(r.asked) != 2 || r.asked[0].Kind != secondfactor.StepUpRemembered || r.asked[1].Kind != secondfactor.StepUp {
		t.Errorf("asked: %+v", r.asked)
	}
}

// Whoever cannot be asked comes in by what is remembered.
func TestStepUpThatIsRememberedInsideAJump(t *testing.T) {
	r := newRig(t, rule("up", "step_up = true"))
	r.answer = func(_ context.Context, q secondfactor.Question, _ conversation.Person) error {
		if q.Kind != secondfactor.StepUpRemembered {
			return secondfactor.ErrRefused
		}
		return nil
	}
	conn, err := opened(r.client(""), "db1", 22)
	if err != nil {
		t.Fatal(err)
	}
	inner, _, _, err := ssh.NewClientConn(conn, "db1", &ssh.ClientConfig{User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	_ = inner.Close()
}

func TestKeyOptionsHoldForForwardings(t *testing.T) {
	_, service := answers(t)
	for _, c := range []struct {
		option, to string
		passes     bool
	}{
		{"no-port-forwarding", "", false}, {"no-port-forwarding", "db1", false},
		{fmt.Sprintf(`permitopen="127.0.0.1:%d"`, service), "db1", true},
		{`permitopen="127.0.0.1:1"`, "db1", false},
		{`permitopen="127.0.0.1:1"`, "", false},
	} {
		r := newRig(t, everything, c.option)
		host, port := "127.0.0.1", service
		if c.to == "" {
			host, port = "db1", 22
		}
		conn, err := opened(r.client(c.to), host, port)
		if (err == nil) != c.passes {
			t.Errorf("%+v: %v", c, err)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

func TestListening(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	for i := range 3 { // port 0, several times
		l, err := c.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			in, err := l.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(in)
			fmt.Fprintf(in, "%d has %s", i, b)
			_ = in.Close()
		}()
		out, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := ask(t, out, []byte("hello")); got != fmt.Sprintf("%d has hello", i) {
			t.Errorf("the answer is %q", got)
		}
		if i == 0 {
			if err := l.Close(); err != nil {
				t.Errorf("take it back: %v", err)
			}
		}
	}
	if !r.target.has("global cancel-tcpip-forward") {
		t.Error("the target was not told to listen no more")
	}
	r.event(audit.Forwarded, map[string]any{"kind": "forwarded-tcpip", "result": "ok", "bytes_out": 5})
}

func TestListeningThatARuleDoesNotPermit(t *testing.T) {
	r := newRig(t, rule("few", "shell = true\nlisten = [\"127.0.0.1:8000-8010\"]"))
	for _, at := range []string{"127.0.0.1:0", "0.0.0.0:8000", "127.0.0.1:22"} {
		if _, err := r.client("db1").Listen("tcp", at); err == nil {
			t.Errorf("%s: the target listens", at)
		}
	}
	if _, err := r.client("").Listen("tcp", "127.0.0.1:8000"); err == nil {
		t.Error("the gateway itself listens")
	}
	if r.target.has("global tcpip-forward") {
		t.Error("the target was asked")
	}
}

func TestUnsolicitedForwardedChannelIsRefused(t *testing.T) {
	r := newRig(t, everything)
	c := r.client("db1")
	out, _, _ := run(t, c, "forwarded 22", "")
	if !strings.Contains(out, "administratively prohibited") {
		t.Errorf("the target got %q", out)
	}
	r.event(audit.Denied, map[string]any{"reason": "unasked_listen"})
	l, err := c.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	// Another port than the one that was asked for.
	if out, _, _ = run(t, c, fmt.Sprint("forwarded ", l.Addr().(*net.TCPAddr).Port+1), ""); !strings.Contains(out, "prohibited") {
		t.Errorf("the target got %q", out)
	}
	for _, kind := range []string{"x11", "auth-agent@openssh.com", "session", "direct-tcpip", "tun@openssh.com"} {
		if out, _, _ := run(t, c, "open "+kind, ""); !strings.Contains(out, "prohibited") {
			t.Errorf("%s: the target got %q", kind, out)
		}
	}
}
