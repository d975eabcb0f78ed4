// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// with puts other targets in force than those that are always there.
func (r *rig) with(targets, rules string) {
	r.t.Helper()
	path := r.write("others.toml", fmt.Sprintf("state_dir = %q\n[limits]\npenalty_exempt = [\"127.0.0.0/8\"]\n[first_factor]\nauthorized_keys = [%q]\n[targets]\nfiles = [%q]\n%s",
		r.dir, filepath.Join(r.dir, "%u.keys"), r.write("other-targets.toml", targets), rules))
	c, err := config.LoadWithoutTrust(path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.config.Store(c)
}

// inside leads an SSH handshake in a jump.
func inside(conn net.Conn, login string) (*ssh.Client, error) {
	c, channels, requests, err := ssh.NewClientConn(conn, "inside", &ssh.ClientConfig{
		User: login, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Auth: []ssh.AuthMethod{ssh.Password("")}})
	if err != nil {
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

const noRoot = "[[rule]]\nname = \"no root\"\naction = \"deny\"\nusers = [\"*\"]\ntargets = [\"*\"]\nlogins = [\"root\"]\n"

// sshd takes what stands before a colon or a slash for the login: a name that has them is
// none that a rule was written about.
func TestAttackLoginThatIsRootForSSHDAndNotForTheRules(t *testing.T) {
	r := newRig(t, noRoot+everything)
	for login, passes := range map[string]bool{"bob": true, "root": false, "root:x": false, "root:": false, "root/x": false, "root%x": false, "root ": false} {
		conn, err := opened(r.client(""), "db1", 22)
		if err != nil {
			t.Fatal(err)
		}
		c, err := inside(conn, login)
		if (err == nil) != passes {
			t.Errorf("inside a jump, %q: %v", login, err)
		}
		if c != nil {
			_ = c.Close()
		}
	}
	// The one-word command, and what is typed at the list of targets.
	out, errs, status := run(t, r.client(""), "mfa root:x@db1", "")
	if status == 0 || !strings.Contains(errs, "no name of an account") {
		t.Errorf("mfa: %q %q %d", out, errs, status)
	}
	r.event(audit.Denied, map[string]any{"reason": "login", "target": "db1"})
	s, err := r.client("").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var screen lines
	s.Stdout, s.Stderr, s.Stdin = &screen, &screen, strings.NewReader("root:x@web1\r")
	if err := s.RequestPty("dumb", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err == nil || strings.Contains(screen.String(), "$ ") {
		t.Errorf("at the list of targets: %v\n%s", err, screen.String())
	}
	if e := r.log.events(audit.SessionOpened); len(e) != 0 {
		t.Errorf("sessions were opened: %v", e)
	}
}

// Another port of a host whose sessions are looked at may be another sshd.
func TestAttackAnotherPortOfARecordedHostByAJump(t *testing.T) {
	for _, c := range []struct {
		body, option string
		passes       bool
	}{
		{"record = \"required\"", "", false},
		{"record = \"required\"\nforward = [\"*:*\"]", "", false},
		{"record = \"on\"\nforward = [\"*:*\"]", "", false},
		{"mode = \"terminated\"", "", false},
		{"", `command="id"`, false},
		{"record = \"required\"\nforward = [\"db1:PORT\"]", "", true},
		{"forward = [\"*:*\"]", "", true},
		{"", "", true},
	} {
		var options []string
		if c.option != "" {
			options = append(options, c.option)
		}
		r := newRig(t, "", options...)
		_, service := answers(t)
		r.rules(rule("looked at", strings.ReplaceAll(c.body, "PORT", fmt.Sprint(service))))
		conn, err := opened(r.client(""), "db1", service)
		if (err == nil) != c.passes {
			t.Errorf("%q, key %q: %v", c.body, c.option, err)
		}
		if !c.passes {
			r.event(audit.Denied, map[string]any{"reason": "forward_recorded"})
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}

// flip answers for one name with other addresses each time.
type flip struct {
	*rig
	asked int
	addrs []string
}

func (f *flip) Resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if host != "evil.attacker.example" {
		return f.rig.Resolve(ctx, host)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.addrs[min(f.asked, len(f.addrs)-1)]
	f.asked++
	return []netip.Addr{netip.MustParseAddr(a)}, nil
}

// A name that is nobody's when the rules are asked, and a target's when it is dialled.
func TestAttackNameThatIsATargetsTheSecondTime(t *testing.T) {
	for _, c := range []struct{ rules, option string }{
		{rule("recorded", "record = \"required\""), ""},
		{rule("terminated", "mode = \"terminated\""), ""},
		{everything, `command="id"`},
	} {
		var options []string
		if c.option != "" {
			options = append(options, c.option)
		}
		r := newRig(t, c.rules, options...)
		r.service.Targets = &flip{rig: r, addrs: []string{"198.51.100.1", "127.0.0.1"}}
		if _, err := opened(r.client(""), "evil.attacker.example", r.target.port); err == nil {
			t.Errorf("%s, key %q: it was reached", c.rules, c.option)
		}
		if len(r.dialled) != 0 {
			t.Errorf("%v was dialled", r.dialled)
		}
	}
}

// Whoever has a say in the name service of one target gets to another one by its name.
func TestAttackNameOfATargetThatLeadsToAnother(t *testing.T) {
	r := newRig(t, "")
	p := r.target.port
	r.names["mybox.dev"] = []netip.Addr{netip.MustParseAddr("127.0.0.3"), netip.MustParseAddr("127.0.0.1")}
	targets := fmt.Sprintf("[[target]]\nname = \"db1\"\nhost = \"127.0.0.1\"\nport = %d\n[[pattern]]\nname = \"*.dev\"\nport = %[1]d\n", p)
	recorded := rule("recorded", "targets = [\"db1\"]\nrecord = \"required\"")
	for _, c := range []struct {
		rules  string
		passes bool
	}{
		{recorded + rule("open", "targets = [\"*.dev\"]"), false},                                     // raw
		{recorded + rule("open", "targets = [\"*.dev\"]\nshell = true\nexec = [\"*\"]"), false},       // looked at, and not recorded
		{rule("open", "targets = [\"*.dev\"]\nexec = [\"*\"]"), false},                                // nothing lets anybody to db1
		{rule("both", "targets = [\"db1\", \"*.dev\"]\nrecord = \"required\"\nexec = [\"*\"]"), true}, // under the same rule
	} {
		r.with(targets, c.rules)
		for way, open := range map[string]func() (*ssh.Client, error){
			"named": func() (*ssh.Client, error) { return r.client("root@mybox.dev"), nil },
			"jump": func() (*ssh.Client, error) {
				conn, err := opened(r.client(""), "mybox.dev", p)
				if err != nil {
					return nil, err
				}
				return inside(conn, "root")
			},
		} {
			before := len(r.tapes)
			client, err := open()
			if err == nil {
				var s *ssh.Session
				if s, err = client.NewSession(); err == nil {
					err = s.Run("exit 0")
				}
			}
			if (err == nil) != c.passes {
				t.Errorf("%s under %s: %v", way, c.rules, err)
			}
			if c.passes && len(r.tapes) != before+1 {
				t.Errorf("%s: %d recordings", way, len(r.tapes)-before)
			}
			var exit *ssh.ExitError
			if errors.As(err, &exit) && exit.ExitStatus() != 255 {
				t.Errorf("%s: it ran: %v", way, err)
			}
		}
		if !c.passes {
			r.event(audit.Denied, map[string]any{"reason": "forward_target", "target": "mybox.dev"})
		}
	}
}

// Each jump is a connection of its own, and would have channels of its own without end.
func TestAttackChannelsByManyJumps(t *testing.T) {
	r := newRig(t, rule("looked at", "mode = \"terminated\""))
	outer := r.client("")
	sessions := 0
	for range 3 {
		conn, err := opened(outer, "db1", 22)
		if err != nil {
			break
		}
		c, err := inside(conn, "root")
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			s, err := c.NewSession()
			if err != nil {
				break
			}
			if _, err := s.StdinPipe(); err != nil { // it runs on
				t.Fatal(err)
			}
			if err := s.Start("cat"); err != nil {
				break
			}
			sessions++
		}
	}
	if limit := r.config.Load().Limits.Channels; sessions >= limit || sessions < limit-4 {
		t.Errorf("%d sessions in one connection, whose channels are %d", sessions, limit)
	}
	r.event(audit.Limited, map[string]any{"setting": "limits.channels"})
}

// With a terminal, a command that a pattern permits starts a pager, which gives a shell.
func TestAttackPagerOfACommandAtATerminal(t *testing.T) {
	for body, terminal := range map[string]bool{
		"exec = [\"wishes *\"]": false, "exec = [\"wishes nginx\"]": false, "exec = [\"wishes *\"]\nterminal = true": true,
		"exec = [\"*\"]": true, "shell = true\nexec = [\"wishes *\"]": true, "": true,
	} {
		r := newRig(t, rule("operators", body))
		s, err := r.client("db1").NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.RequestPty("xterm", 24, 80, nil); err != nil {
			t.Fatal(err)
		}
		out, err := s.Output("wishes nginx")
		if strings.Contains(string(out), "pty-req") != terminal || err != nil {
			t.Errorf("%q: %s, %v", body, out, err)
		}
	}
}

// A rule that wants all recorded has not named the agent, whose channel no recording has.
func TestAttackAgentUnderARecordedRule(t *testing.T) {
	for body, passes := range map[string]bool{"record = \"required\"": false, "record = \"required\"\nexec = [\"*\"]\nagent = true": true} {
		r := newRig(t, rule("recorded", body))
		c := r.client("db1")
		if err := agent.ForwardToAgent(c, agent.NewKeyring()); err != nil {
			t.Fatal(err)
		}
		out, _ := withAgent(t, c).Output("agent")
		if (string(out) == "0 keys") != passes {
			t.Errorf("%q: %s", body, out)
		}
	}
}

// What was answered for one target is no answer for another, nor for ever, nor for a rule
// that was changed.
func TestAttackAnswerThatCountsForMore(t *testing.T) {
	text := rule("step", "step_up = true")
	r := newRig(t, text)
	now := time.Now()
	var mu sync.Mutex
	r.service.Now = func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}
	r.answer = func(context.Context, secondfactor.Question, conversation.Person) error { return nil }
	c := r.client("")
	for i, step := range []struct {
		before func()
		target string
		asked  int
	}{
		{func() {}, "db1", 1},
		{func() {}, "db1", 1},
		{func() {}, "web1", 2},
		{func() { r.rules("\n\n" + text) }, "db1", 2}, // the same, elsewhere in the file
		{func() { r.rules(rule("step", "step_up = true\nreason = \"another\"")) }, "db1", 3},
		{func() { mu.Lock(); defer mu.Unlock(); now = now.Add(9 * time.Hour) }, "db1", 4},
	} {
		step.before()
		if _, errs, status := run(t, c, "mfa "+step.target, ""); status != 0 {
			t.Errorf("%d: %q", i, errs)
		}
		if len(r.asked) != step.asked {
			t.Errorf("%d: asked %d times, want %d", i, len(r.asked), step.asked)
		}
	}
}

// A client tries one method after the other. What refuses it inside a jump is decided,
// logged and told once, in words for the person.
func TestRefusalInsideAJumpIsToldOnce(t *testing.T) {
	r := newRig(t, noRoot+"[[rule]]\nname = \"seen\"\nusers = [\"*\"]\nlogins = [\"*\"]\ntargets = [\"*\"]\nrecord = \"required\"\n")
	conn, err := opened(r.client(""), "db1", 22)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var told []string
	_, _, _, err = ssh.NewClientConn(conn, "db1", &ssh.ClientConfig{
		User: "root", HostKeyCallback: ssh.InsecureIgnoreHostKey(),
		BannerCallback: func(text string) error { told = append(told, text); return nil },
		Auth:           []ssh.AuthMethod{ssh.PublicKeys(r.key), ssh.KeyboardInteractive(func(string, string, []string, []bool) ([]string, error) { return nil, nil })},
	})
	if err == nil {
		t.Fatal("root was let in")
	}
	if len(told) != 1 || !strings.Contains(told[0], "db1") || strings.Contains(told[0], "ssh:") {
		t.Errorf("the person read %q", told)
	}
	if n := len(r.log.events(audit.Denied)); n != 1 {
		t.Errorf("denied %d times in the log", n)
	}
}
