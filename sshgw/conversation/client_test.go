// SPDX-License-Identifier: Apache-2.0

package conversation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
)

const limit = 20 * time.Second

// daemon serves one call by a script, which gets the request that was read.
func daemon(t testing.TB, script func(conn net.Conn, req *frames.Request)) *conversation.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(limit))
		f, err := frames.ReadFrame(conn)
		if req, ok := f.(*frames.Request); err == nil && ok {
			script(conn, req)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return &conversation.Client{Path: path}
}

func say(conn net.Conn, list ...frames.Frame) {
	for _, f := range list {
		if frames.WriteFrame(conn, f) != nil {
			return
		}
	}
}

// person writes down what they see, and answers in order.
type person struct {
	answers []string
	saw     []string
}

func (p *person) Show(_ frames.Style, text string) error {
	p.saw = append(p.saw, "show "+text)
	return nil
}

func (p *person) Ask(_ context.Context, text string, echo bool) (frames.Secret, error) {
	p.saw = append(p.saw, fmt.Sprintf("ask %s %v", text, echo))
	if len(p.answers) == 0 {
		return "", conversation.ErrNobody
	}
	a := p.answers[0]
	p.answers = p.answers[1:]
	return frames.Secret(a), nil
}

func request() *frames.Request {
	return &frames.Request{Hook: frames.HookAuthenticate, Version: "t", Service: "sshgw", User: "alice"}
}

func TestConversation(t *testing.T) {
	var got []string
	c := daemon(t, func(conn net.Conn, req *frames.Request) {
		got = append(got, req.User)
		say(conn, &frames.Show{Text: "Hello\x1b[2J", Style: frames.StyleInfo}, &frames.Wait{For: time.Minute}, &frames.Ask{Text: "1\n2: "})
		for range 2 {
			f, err := frames.ReadFrame(conn)
			if a, ok := f.(*frames.Answer); err == nil && ok {
				got = append(got, fmt.Sprintf("%s %v", a.Text.Reveal(), a.TooLong))
			}
			if len(got) == 2 {
				say(conn, &frames.AskSecret{Text: "PIN: "})
			}
		}
		say(conn, &frames.Done{Outcome: frames.OutcomeAllow})
	})
	p := &person{answers: []string{"1", strings.Repeat("x", frames.AnswerMax+1)}}
	outcome, err := c.Call(t.Context(), request(), p)
	if err != nil || outcome != frames.OutcomeAllow {
		t.Fatalf("%s, %v", outcome, err)
	}
	if want := []string{`show Hello\x1b[2J`, "ask 1\n2:  true", "ask PIN:  false"}; !slices.Equal(p.saw, want) {
		t.Errorf("the person saw %q", p.saw)
	}
	if want := []string{"alice", "1 false", " true"}; !slices.Equal(got, want) {
		t.Errorf("the daemon got %q", got)
	}
}

// Each way in which no decision comes is an error, and so a no.
func TestNoDecision(t *testing.T) {
	var many []frames.Frame
	for range frames.MaxRounds + 1 {
		many = append(many, &frames.Show{Text: "x", Style: frames.StyleInfo})
	}
	for name, tc := range map[string]struct {
		script func(net.Conn)
		want   string
	}{
		"closes":            {func(net.Conn) {}, "EOF"},
		"rubbish":           {func(c net.Conn) { _, _ = c.Write(bytes.Repeat([]byte("x"), 64)) }, "broken frame"},
		"half a frame":      {func(c net.Conn) { _, _ = c.Write([]byte("SP\x01\x14\x00\x00\x00\x09")) }, "EOF"},
		"a request":         {func(c net.Conn) { say(c, request()) }, "not the daemon's"},
		"an answer":         {func(c net.Conn) { say(c, &frames.Answer{Text: "x"}) }, "not the daemon's"},
		"an unheard-of end": {func(c net.Conn) { _, _ = c.Write([]byte("SP\x01\x14\x00\x00\x00\x04\x13\x00\x01\x09")) }, "broken frame"},
		"no time":           {func(c net.Conn) { say(c, &frames.Wait{}) }, "no time"},
		"too many rounds":   {func(c net.Conn) { say(c, append(many, &frames.Done{Outcome: frames.OutcomeAllow})...) }, "more than 64 rounds"},
		"later than it said": {func(c net.Conn) {
			say(c, &frames.Wait{For: 50 * time.Millisecond})
			_, _ = frames.ReadFrame(c) // until the gateway has gone
		}, "what the daemon asked for"},
	} {
		t.Run(name, func(t *testing.T) {
			c := daemon(t, func(conn net.Conn, _ *frames.Request) { tc.script(conn) })
			outcome, err := c.Call(t.Context(), request(), &person{})
			if err == nil || outcome == frames.OutcomeAllow || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s, %v; want an error with %q", outcome, err, tc.want)
			}
		})
	}
}

func TestPatience(t *testing.T) {
	c := daemon(t, func(conn net.Conn, _ *frames.Request) {
		for range 40 { // each in time, and all of them too long
			say(conn, &frames.Wait{For: time.Minute})
			time.Sleep(20 * time.Millisecond)
		}
	})
	c.Patience = 100 * time.Millisecond
	if _, err := c.Call(t.Context(), request(), &person{}); err == nil || !strings.Contains(err.Error(), "patience") {
		t.Errorf("%v", err)
	}
}

func TestContextEnds(t *testing.T) {
	asked := make(chan struct{})
	c := daemon(t, func(conn net.Conn, _ *frames.Request) {
		say(conn, &frames.Wait{For: time.Minute})
		close(asked)
		_, _ = frames.ReadFrame(conn)
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("the client left")
	go func() {
		<-asked
		cancel(why)
	}()
	if _, err := c.Call(ctx, request(), &person{}); !errors.Is(err, why) {
		t.Errorf("%v", err)
	}
}

// Nobody can be asked: the daemon hears so, decides, and is asked nothing more.
func TestNobody(t *testing.T) {
	for outcome, nobody := range map[frames.Outcome]bool{frames.OutcomeAborted: true, frames.OutcomeDeny: true, frames.OutcomeAllow: false} {
		var replies []string
		c := daemon(t, func(conn net.Conn, _ *frames.Request) {
			for range 2 {
				say(conn, &frames.Ask{Text: "?"})
				f, err := frames.ReadFrame(conn)
				if err != nil {
					return
				}
				replies = append(replies, f.String())
			}
			say(conn, &frames.Show{Text: "unheard", Style: frames.StyleInfo}, &frames.Done{Outcome: outcome})
		})
		p := &person{}
		got, err := c.Call(t.Context(), request(), p)
		if errors.Is(err, conversation.ErrNobody) != nobody || err == nil && got != outcome {
			t.Errorf("%s: %s, %v", outcome, got, err)
		}
		if len(p.saw) != 1 || len(replies) != 2 || !strings.HasPrefix(replies[1], "ABORT") {
			t.Errorf("the person saw %q, the daemon got %q", p.saw, replies)
		}
	}
}

// TestAttackSocketOfAnother: a socket that neither root nor this account made is nobody's
// to believe. The kernel names the uid that called listen.
func TestAttackSocketOfAnother(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("only root can make another's socket; what is checked is then that there is none")
		if _, err := (&conversation.Client{Path: filepath.Join(t.TempDir(), "none")}).Call(t.Context(), request(), &person{}); err == nil {
			t.Error("no daemon decides")
		}
		return
	}
	path := filepath.Join(t.TempDir(), "theirs.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	// The thread that listens is somebody else for a moment, and is thrown away after that.
	listened := make(chan error)
	go func() {
		lockThread()
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), 12345, ^uintptr(0)); errno != 0 {
			listened <- errno
			return
		}
		listened <- unix.Listen(fd, 1)
	}()
	if err := <-listened; err != nil {
		t.Fatal(err)
	}
	_, err = (&conversation.Client{Path: path}).Call(t.Context(), request(), &person{})
	if err == nil || !strings.Contains(err.Error(), "uid 12345") {
		t.Errorf("a socket of uid 12345: %v", err)
	}
}

func FuzzCall(f *testing.F) {
	for _, list := range [][]frames.Frame{
		{&frames.Done{Outcome: frames.OutcomeAllow}},
		{&frames.Show{Text: "x", Style: frames.StyleInfo}, &frames.Ask{Text: "?"}, &frames.Done{Outcome: frames.OutcomeDeny}},
		{&frames.Wait{For: time.Millisecond}},
	} {
		var b []byte
		for _, fr := range list {
			b, _ = frames.Append(b, fr)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, reply []byte) {
		c := daemon(t, func(conn net.Conn, _ *frames.Request) { _, _ = conn.Write(reply) })
		p := &person{answers: []string{"1"}}
		outcome, err := c.Call(t.Context(), request(), p)
		if (err == nil) != (outcome >= frames.OutcomeAllow && outcome <= frames.OutcomeAborted) {
			t.Errorf("%v, %v", outcome, err)
		}
		for _, s := range p.saw {
			if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) {
				t.Errorf("the person saw %q", s)
			}
		}
	})
}
