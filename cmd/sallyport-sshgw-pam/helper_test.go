// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
)

const limit = 30 * time.Second

// stack writes a PAM service and returns its folder.
func stack(t *testing.T, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, service), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// password is a stack that knows one password, by a script that reads what pam_exec asks.
func password(t *testing.T) string {
	script := filepath.Join(t.TempDir(), "check")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nread -r p || [ -n \"$p\" ]\n[ \"$p\" = 'correct horse' ] && [ \"$PAM_RHOST\" = 192.0.2.7 ]\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return stack(t, "auth required pam_exec.so expose_authtok quiet "+script, "account required pam_permit.so")
}

// person answers every question the same.
type person struct {
	answer string
	shown  []string
	asked  []string
}

func (p *person) Show(_ frames.Style, text string) error {
	p.shown = append(p.shown, text)
	return nil
}

func (p *person) Ask(_ context.Context, text string, echo bool) (frames.Secret, error) {
	p.asked = append(p.asked, fmt.Sprintf("%s echo=%v", strings.TrimSpace(text), echo))
	if p.answer == "" {
		return "", conversation.ErrNobody
	}
	return frames.Secret(p.answer), nil
}

// call asks a helper through a socket as the gateway does.
func call(t *testing.T, dir string, asker uint32, user string, p conversation.Person) (frames.Outcome, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pam.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer conn.Close()
		h := &helper{conn: conn, asker: asker, until: time.Now().Add(limit), log: slog.New(slog.DiscardHandler), dir: dir}
		_ = h.serve()
	}()
	c := &conversation.Client{Path: path}
	outcome, err := c.Call(t.Context(), &frames.Request{Hook: frames.HookAuthenticate, Version: "test", Service: service, User: user, RHost: "192.0.2.7"}, p)
	<-served
	return outcome, err
}

func TestPassword(t *testing.T) {
	dir, me := password(t), uint32(os.Getuid())
	for name, tc := range map[string]struct {
		answer string
		want   frames.Outcome
	}{
		"right": {"correct horse", frames.OutcomeAllow},
		"wrong": {"battery staple", frames.OutcomeUnavailable}, // what pam_exec says of a script that fails
		"long":  {strings.Repeat("x", frames.AnswerMax+1), frames.OutcomeAborted},
	} {
		t.Run(name, func(t *testing.T) {
			p := &person{answer: tc.answer}
			got, err := call(t, dir, me, "alice", p)
			if err != nil || got != tc.want {
				t.Errorf("got %s, %v; want %s", got, err, tc.want)
			}
			if len(p.asked) != 1 || p.asked[0] != "Password: echo=false" {
				t.Errorf("asked %q", p.asked)
			}
		})
	}
	if got, err := call(t, dir, me, "alice", conversation.Nobody{}); err == nil || got == frames.OutcomeAllow {
		t.Errorf("nobody answers, and the helper says %s, %v", got, err)
	}
}

func TestAccountDecidesToo(t *testing.T) {
	me := uint32(os.Getuid())
	for lines, want := range map[string]frames.Outcome{
		"auth required pam_permit.so\naccount required pam_permit.so": frames.OutcomeAllow,
		"auth required pam_permit.so\naccount required pam_deny.so":   frames.OutcomeDeny,
		"auth required pam_deny.so\naccount required pam_permit.so":   frames.OutcomeDeny,
		"auth required pam_permit.so":                                 frames.OutcomeDeny, // no account line: libpam refuses
		"auth required pam_missing.so":                                frames.OutcomeUnavailable,
		"":                                                            frames.OutcomeDeny,
	} {
		got, err := call(t, stack(t, lines), me, "alice", &person{answer: "x"})
		if got != want || err != nil {
			t.Errorf("%q: %s, %v; want %s", lines, got, err, want)
		}
	}
}

// TestAnotherAccountAsks: whoever reaches the socket and is not the gateway learns nothing.
func TestAnotherAccountAsks(t *testing.T) {
	p := &person{answer: "correct horse"}
	got, err := call(t, password(t), uint32(os.Getuid())+1, "alice", p)
	if err == nil || got != 0 || len(p.asked) > 0 {
		t.Errorf("another account was answered %s, %v after %q", got, err, p.asked)
	}
}

func TestAnotherServiceOrHook(t *testing.T) {
	for _, req := range []*frames.Request{
		{Hook: frames.HookAuthenticate, Version: "x", Service: "sudo", User: "alice"},
		{Hook: frames.HookChauthtok, Version: "x", Service: service, User: "alice"},
	} {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := conn(t, fds[0]), conn(t, fds[1])
		h := &helper{conn: theirs, asker: uint32(os.Getuid()), until: time.Now().Add(limit), log: slog.New(slog.DiscardHandler), dir: stack(t, "auth required pam_permit.so", "account required pam_permit.so")}
		if err := frames.WriteFrame(ours, req); err != nil {
			t.Fatal(err)
		}
		if err := h.serve(); err == nil {
			t.Errorf("%s is served", req)
		}
	}
}

func conn(t *testing.T, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	c, err := net.FileConn(f)
	_ = f.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.UnixConn)
}

// The program itself, as systemd starts it: what it gives up must leave it able to ask.
func TestProgram(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "sallyport-sshgw-pam")
	if out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := conn(t, fds[0]), os.NewFile(uintptr(fds[1]), "stdin")
	cmd := exec.Command(bin, "--gateway-user", me.Username, "--log", "text")
	var log strings.Builder
	cmd.Stdin, cmd.Stderr = theirs, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = theirs.Close()
	if err := ours.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	if err := frames.WriteFrame(ours, &frames.Request{Hook: frames.HookAuthenticate, Version: "x", Service: service, User: "nobody-of-that-name", RHost: "192.0.2.7"}); err != nil {
		t.Fatal(err)
	}
	var done *frames.Done
	for done == nil {
		f, err := frames.ReadFrame(ours)
		if err != nil {
			t.Fatalf("read: %v\n%s", err, &log)
		}
		switch f := f.(type) {
		case *frames.AskSecret, *frames.Ask:
			if err := frames.WriteFrame(ours, &frames.Answer{Text: "wrong"}); err != nil {
				t.Fatal(err)
			}
		case *frames.Done:
			done = f
		}
	}
	if done.Outcome == frames.OutcomeAllow {
		t.Error("nobody was let in")
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v:\n%s", err, &log)
	}
	if !strings.Contains(log.String(), "user=nobody-of-that-name") {
		t.Errorf("the log:\n%s", &log)
	}
}
