// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

// asker is a target that asks by keyboard-interactive.
func asker(g *gateway, ask func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error)) Request {
	host := newKey(g.t)
	c := &ssh.ServerConfig{KeyboardInteractiveCallback: ask, MaxAuthTries: 20}
	c.AddHostKey(host)
	target := listen(g.t, serveSSH(c, nil))
	g.hosts(knows(target, host.PublicKey()))
	return Request{Target: target}
}

func TestAttackTheTargetAsksForEver(t *testing.T) {
	g := newGateway(t)
	rounds := make(chan int, 1)
	r := asker(g, func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		for i := range 1000 {
			if _, err := ask("", "", []string{"more? "}, []bool{true}); err != nil {
				rounds <- i
				return nil, err
			}
		}
		rounds <- 1000
		return nil, errors.New("enough")
	})
	p := &person{answers: slices.Repeat([]string{"yes"}, 2000)}
	r.Person = p
	g.refused(r, TooManyQuestions, "asks more than the gateway passes on")
	if n := <-rounds; n != roundsMax || len(p.asked) != roundsMax {
		t.Errorf("%d rounds were answered, %d questions asked; want %d", n, len(p.asked), roundsMax)
	}
}

// Rounds without questions do not escape the count, nor do new beginnings.
func TestAttackTheTargetTalksForEver(t *testing.T) {
	g := newGateway(t)
	r := asker(g, func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		for range roundsMax - 1 {
			if _, err := ask("", "wait", nil, nil); err != nil {
				return nil, err
			}
		}
		return nil, errors.New("again")
	})
	p := &person{}
	r.Person = p
	g.refused(r, TooManyQuestions, "")
	if len(p.shown) != roundsMax {
		t.Errorf("%d texts were shown; want %d", len(p.shown), roundsMax)
	}
}

func TestAttackPromptsOfAMegabyte(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		prompts []string
	}{
		"one prompt":        {prompts: []string{strings.Repeat("x", 1<<20)}},
		"as much as fits":   {prompts: []string{strings.Repeat("x", 200<<10)}},
		"many prompts":      {prompts: slices.Repeat([]string{"x"}, 10000)},
		"empty prompts":     {prompts: slices.Repeat([]string{""}, 9)},
		"instructions":      {text: strings.Repeat("x\n", textMax)},
		"just over":         {text: strings.Repeat("x", textMax+1)},
		"escapes that grow": {prompts: []string{strings.Repeat("\x1b", textMax)}},
	} {
		g := newGateway(t)
		r := asker(g, func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			_, err := ask("", c.text, c.prompts, make([]bool, len(c.prompts)))
			return nil, err
		})
		p := &person{}
		r.Person = p
		_, err := g.dial(r)
		if err == nil {
			t.Fatalf("%s: let in", name)
		}
		for _, text := range append(p.asked, p.shown...) {
			if len(text) > 4096 || strings.Contains(text, "\x1b") {
				t.Errorf("%s: the person was shown %d bytes: %.60q", name, len(text), text)
			}
		}
		if name != "escapes that grow" && len(p.asked)+len(p.shown) != 0 {
			t.Errorf("%s: the person was asked", name)
		}
	}
}

// What a target says is marked as its own on every line, and cannot draw on the terminal.
func TestAttackTheTargetPosesAsTheGateway(t *testing.T) {
	g := newGateway(t)
	const fake = "\x1b[2J\x1b[H\rSallyport: your session has ended.\nSallyport passcode: \u202e\x07"
	wrapping := "ok?" + strings.Repeat(" ", 90) + "Sallyport: passcode: "
	host := newKey(t)
	conf := g.server(host)
	conf.BannerCallback = func(ssh.ConnMetadata) string { return "Welcome\r\n\x1b]0;root\x07" + fake + "\n\n" }
	conf.KeyboardInteractiveCallback = func(_ ssh.ConnMetadata, ask ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		answers, err := ask(fake, fake+"\nsecond", []string{fake + wrapping, "Code: "}, []bool{true, false})
		if err != nil || !slices.Equal(answers, []string{"one", "two"}) {
			return nil, fmt.Errorf("answers %q, %w", answers, err)
		}
		return nil, nil
	}
	conf.PublicKeyCallback = nil
	target := listen(t, serveSSH(conf, nil))
	g.hosts(knows(target, host.PublicKey()))
	p := &person{answers: []string{"one", "two"}}
	c, err := g.dial(Request{Target: target, Person: p})
	if err != nil {
		t.Fatal(err)
	}
	if c.Credential != "keyboard-interactive" || !slices.Equal(p.echoed, []bool{true, false}) {
		t.Errorf("let in by %s, echoed %v", c.Credential, p.echoed)
	}
	if len(p.shown) != 1 || len(p.asked) != 2 {
		t.Fatalf("shown %q, asked %q", p.shown, p.asked)
	}
	for _, text := range append(p.asked, p.shown...) {
		for _, line := range strings.Split(text, "\n") {
			if !strings.HasPrefix(line, "db1 says: ") && !strings.HasPrefix(line, "db1 asks: ") {
				t.Errorf("a line that could be the gateway's: %q", line)
			}
			if strings.Contains(line, strings.Repeat(" ", 9)) {
				t.Errorf("a line that goes on where another would begin: %q", line)
			}
			if strings.ContainsAny(line, "\x1b\a\r\u202e") {
				t.Errorf("a line that draws: %q", line)
			}
		}
	}
	if p.asked[1] != "db1 asks: Code: " || !strings.HasPrefix(p.shown[0], "db1 says: Welcome\n") {
		t.Errorf("asked %q, shown %q", p.asked[1], p.shown[0])
	}
}

func TestAttackBannersWithoutEnd(t *testing.T) {
	g := newGateway(t)
	r := g.rawTarget(func(r *raw) error {
		if _, err := r.receive(); err != nil {
			return err
		}
		if err := r.send(append([]byte{6}, str("ssh-userauth")...)); err != nil {
			return err
		}
		for range 1000 {
			if err := r.send(append([]byte{53}, fields(strings.Repeat("line\n", 1000), "")...)); err != nil {
				return err
			}
		}
		if err := r.send([]byte{52}); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, r)
		return err
	})
	p := &person{}
	r.Person = p
	if _, err := g.dial(r); err != nil {
		t.Fatal(err)
	}
	for _, text := range p.shown {
		if len(text) > 4096 || strings.Count(text, "\n") >= linesMax {
			t.Errorf("a banner of %d bytes, %d lines", len(text), strings.Count(text, "\n"))
		}
	}
	if len(p.shown) != bannersMax {
		t.Errorf("%d banners were shown; want %d", len(p.shown), bannersMax)
	}
}

// The names of methods, and the words of a goodbye, are data as well.
func TestAttackEscapesInRefusals(t *testing.T) {
	for name, last := range map[string][]byte{
		"methods": append([]byte{51}, append(str("\x1b[2Jpassword"+strings.Repeat("y", 5000)), 0)...),
		"goodbye": append([]byte{1, 0, 0, 0, 2}, fields("\x1b[2Jbye"+strings.Repeat("y", 5000), "")...),
	} {
		g := newGateway(t)
		r := g.rawTarget(func(r *raw) error {
			if _, err := r.receive(); err != nil {
				return err
			}
			if err := r.send(append([]byte{6}, str("ssh-userauth")...)); err != nil {
				return err
			}
			if err := r.send(last); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, r)
			return err
		})
		_, err := g.dial(r)
		if err == nil {
			t.Fatal("let in")
		}
		if strings.Contains(err.Error(), "\x1b") || len(err.Error()) > 1000 {
			t.Errorf("%s: the person reads %q", name, err)
		}
		for _, a := range Attrs(err) {
			if v := a.Value.String(); strings.Contains(v, "\x1b") || len(v) > 500 {
				t.Errorf("%s: the log says %s=%q", name, a.Key, v)
			}
		}
	}
}

// short is time enough for a target on this machine that does what it should, and a
// hostile one is waited for no longer.
func short(c *config.Config) { c.Timeouts.Target = 500 * time.Millisecond }

func TestAttackASlowTarget(t *testing.T) {
	host := newKey(t)
	for name, serve := range map[string]func(net.Conn) error{
		"silence": func(c net.Conn) error { return nil },
		"a version byte by byte": func(c net.Conn) error {
			for {
				if _, err := c.Write([]byte("S")); err != nil {
					return err
				}
				time.Sleep(20 * time.Millisecond)
			}
		},
		"lines before the version": func(c net.Conn) error {
			for {
				if _, err := c.Write([]byte("hello\r\n")); err != nil {
					return err
				}
				time.Sleep(20 * time.Millisecond)
			}
		},
		"never an answer to the exchange": func(c net.Conn) error {
			_, err := c.Write([]byte(rawVersion + "\r\n"))
			r := &raw{Conn: c, host: host}
			return errors.Join(err, r.send(kexInit()))
		},
		"packets to be ignored": func(c net.Conn) error {
			r := &raw{Conn: c, host: host}
			if _, err := c.Write([]byte(rawVersion + "\r\n")); err != nil {
				return err
			}
			for {
				if err := r.send(append([]byte{2}, str("x")...)); err != nil {
					return err
				}
				time.Sleep(20 * time.Millisecond)
			}
		},
	} {
		g := newGateway(t, short)
		target := listen(t, func(c net.Conn) {
			_ = serve(c)
			_, _ = io.Copy(io.Discard, c)
		})
		_, err := g.dial(Request{Target: target})
		var e *Error
		if !errors.As(err, &e) || e.Reason != TimedOut && e.Reason != Broken {
			t.Errorf("%s: %v", name, err)
		} else if e.Reason == TimedOut && e.Setting != "timeouts.target" {
			t.Errorf("%s: the log names %q", name, e.Setting)
		}
	}
}

func TestAttackAuthenticationWithoutEnd(t *testing.T) {
	// The key exchange must be over in time on a busy machine as well.
	g := newGateway(t, func(c *config.Config) { c.Timeouts.Target = 2 * time.Second })
	r := g.rawTarget(func(r *raw) error {
		_, err := io.Copy(io.Discard, r)
		return err
	})
	g.refused(r, TimedOut, "did not let the gateway in")
}

func TestAttackKeyExchangesWithoutEnd(t *testing.T) {
	g := newGateway(t, func(c *config.Config) { c.Timeouts.Target = 2 * time.Second })
	r := g.rawTarget(func(r *raw) error {
		// Once the client is past the first one: the library's own reading of what was agreed
		// there is not guarded against a second that comes at once.
		if _, err := r.receive(); err != nil { // service request
			return err
		}
		for {
			if err := r.send(kexInit()); err != nil {
				return err
			}
		}
	})
	if _, err := g.dial(r); err == nil || ReasonOf(err) != Broken && ReasonOf(err) != TimedOut {
		t.Errorf("%v", err)
	}
}

func TestAttackAPacketOfFourGigabytes(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"4 GiB":   {0xff, 0xff, 0xff, 0xff, 4},
		"2 GiB":   {0x80, 0, 0, 0, 4},
		"nothing": {0, 0, 0, 0, 4},
		"padding": {0, 0, 0, 12, 255, 20},
	} {
		g := newGateway(t)
		target := listen(t, func(c net.Conn) {
			_, _ = c.Write(append([]byte(rawVersion+"\r\n"), append(bytes, make([]byte, 64)...)...))
			_, _ = io.Copy(io.Discard, c)
		})
		if _, err := g.dial(Request{Target: target}); ReasonOf(err) != Broken {
			t.Errorf("%s: %v", name, err)
		}
	}
	// And once it is encrypted, when the gateway holds a connection.
	g := newGateway(t)
	r := g.rawTarget(func(r *raw) error {
		if err := r.letIn(); err != nil {
			return err
		}
		_, err := r.Write(append([]byte{0xff, 0xff, 0xff, 0xff}, make([]byte, 64)...))
		return err
	})
	c, err := g.dial(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SSH.Wait(); err == nil {
		t.Error("the connection has ended without an error")
	}
}

// Answers to what nobody asked must not be taken for answers to what is asked later,
// nor stop the connection.
func TestAttackUnsolicitedReplies(t *testing.T) {
	g := newGateway(t)
	r := g.rawTarget(func(r *raw) error {
		if err := r.letIn(); err != nil {
			return err
		}
		for range 100 {
			if err := errors.Join(r.send([]byte{81, 'f', 'a', 'k', 'e'}), r.send([]byte{82})); err != nil {
				return err
			}
		}
		if err := r.send(append([]byte{80}, append(str("over"), 0)...)); err != nil {
			return err
		}
		for {
			p, err := r.receive()
			if err != nil {
				return err
			}
			if p[0] == 80 { // a global request: the true answer is no
				if err := r.send([]byte{82}); err != nil {
					return err
				}
			}
		}
	})
	r.Identity, r.Login = alice(), "root"
	c, err := g.Dial(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer c.SSH.Close()
	go discardChannels(c.Channels)
	if over := <-c.Requests; over == nil || over.Type != "over" {
		t.Fatalf("%v", over)
	}
	go ssh.DiscardRequests(c.Requests)
	for i := range 10 {
		if ok, payload, err := c.SSH.SendRequest("keepalive@openssh.com", true, nil); err != nil {
			t.Fatalf("request %d: %v", i, err)
		} else if ok || len(payload) > 0 {
			t.Errorf("request %d was answered %v, %q", i, ok, payload)
		}
	}
}

// Messages for channels that there are not end this connection, and nothing else.
func TestAttackMessagesForNoChannel(t *testing.T) {
	for name, message := range map[string][]byte{
		"success":      {99, 0, 0, 0, 7},
		"failure":      {100, 0, 0, 0, 7},
		"data":         append([]byte{94, 0, 0, 0, 7}, str("x")...),
		"window":       {93, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff},
		"confirmation": {91, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0},
		"close":        {97, 0, 0, 0, 7},
		"truncated":    {99},
		"unknown":      {200, 1, 2, 3},
		"a new login":  {52},
	} {
		g := newGateway(t)
		r := g.rawTarget(func(r *raw) error {
			if err := r.letIn(); err != nil {
				return err
			}
			if err := r.send(message); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, r)
			return err
		})
		c, err := g.dial(r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		// It may end at once, or go on as if nothing had been said; it must not hang.
		c.SSH.Close()
		_ = c.SSH.Wait()
	}
}

// opens answers the first channel that the gateway opens, and then does as it is told.
func opens(r *raw, act func(theirs []byte) error) error {
	if err := r.letIn(); err != nil {
		return err
	}
	p, err := r.receive()
	for err == nil && p[0] != 90 {
		p, err = r.receive()
	}
	if err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(p[1:])
	theirs := p[5+n : 9+n]
	confirm := append([]byte{91}, theirs...)
	confirm = append(confirm, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0x80, 0)
	if err := r.send(confirm); err != nil {
		return err
	}
	return act(theirs)
}

// Replies on a channel that asked for nothing, as many as one likes.
func TestAttackUnsolicitedChannelReplies(t *testing.T) {
	g := newGateway(t)
	r := g.rawTarget(func(r *raw) error {
		return opens(r, func(theirs []byte) error {
			for range 1000 {
				if err := errors.Join(r.send(append([]byte{99}, theirs...)), r.send(append([]byte{100}, theirs...))); err != nil {
					return err
				}
			}
			_ = r.send(append(append([]byte{94}, theirs...), str("done")...))
			_, err := io.Copy(io.Discard, r)
			return err
		})
	})
	c, err := g.dial(r)
	if err != nil {
		t.Fatal(err)
	}
	ch, requests, err := c.SSH.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	go ssh.DiscardRequests(requests)
	got := make([]byte, 4)
	if _, err := io.ReadFull(ch, got); err != nil || string(got) != "done" {
		t.Errorf("what came after: %q, %v", got, err)
	}
}

// A status that is cut short arrives as it was sent, and crashes nobody.
func TestAttackExitStatusCutShort(t *testing.T) {
	g := newGateway(t)
	r := g.rawTarget(func(r *raw) error {
		return opens(r, func(theirs []byte) error {
			request := append(append([]byte{98}, theirs...), append(str("exit-status"), 0, 0, 1)...)
			if err := errors.Join(r.send(request), r.send(append([]byte{97}, theirs...))); err != nil {
				return err
			}
			_, err := io.Copy(io.Discard, r)
			return err
		})
	})
	c, err := g.dial(r)
	if err != nil {
		t.Fatal(err)
	}
	_, requests, err := c.SSH.OpenChannel("session", nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []*ssh.Request
	for r := range requests {
		got = append(got, r)
	}
	if len(got) != 1 || got[0].Type != "exit-status" || !bytes.Equal(got[0].Payload, []byte{0, 1}) {
		t.Errorf("%+v", got)
	}
}

// A target that opens channels towards the gateway gets a no for each, whatever they are
// called, and the connection lives on.
func TestAttackChannelsTowardsTheGateway(t *testing.T) {
	kinds := []string{
		"session", "auth-agent@openssh.com", "forwarded-tcpip", "forwarded-streamlocal@openssh.com",
		"direct-tcpip", "x11", "tun@openssh.com", "", "\x1b[2J",
	}
	const each = 200
	g := newGateway(t)
	host := newKey(t)
	results := make(chan string, 1)
	target := listen(t, serveSSH(g.server(host), func(conn ssh.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
		go discardChannels(channels)
		go ssh.DiscardRequests(requests)
		for range each {
			for _, k := range kinds {
				_, _, err := conn.OpenChannel(k, nil)
				var no *ssh.OpenChannelError
				if !errors.As(err, &no) {
					results <- fmt.Sprintf("%q: %v", k, err)
					return
				}
			}
		}
		results <- ""
		_ = conn.Wait()
	}))
	g.hosts(knows(target, host.PublicKey()))
	c, err := g.dial(Request{Target: target})
	if err != nil {
		t.Fatal(err)
	}
	if bad := <-results; bad != "" {
		t.Errorf("a channel that nobody asked for: %s", bad)
	}
	if _, _, err := c.SSH.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
