// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// door is a way in that asks for the second factor.
type door struct {
	name string
	// knock starts at the door and passes the first factor.
	knock func(t *testing.T, p *person) *visit
}

// doors are the programs that the same person comes in by: with a key by ssh,
// with a password by sudo, with root's password by su.
var doors = []door{
	{"sshd", func(t *testing.T, p *person) *visit { return p.ssh(t, p.site.client, "22") }},
	{"sudo", func(t *testing.T, p *person) *visit { return p.sudo(t) }},
	{"su", func(t *testing.T, p *person) *visit { return p.su(t) }},
}

// atEveryDoor runs a scenario at each door.
func atEveryDoor(t *testing.T, scenario func(t *testing.T, d door)) {
	t.Parallel()
	for _, d := range doors {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			scenario(t, d)
		})
	}
}

// inside is what a person does once in: it shows a word that nobody typed.
const (
	inside = "echo in-$((40+2))"
	isIn   = "in-42"
)

// visit is a person at a door, on a terminal.
type visit struct {
	t        *testing.T
	terminal *harness.Terminal
	shell    bool // coming in means to stand before a shell, which has yet to be told
	hasty    bool // the program may throw away what is typed soon after its question
}

// as is the visit in another test, which goes on with it.
func (v *visit) as(t *testing.T) *visit {
	c := *v
	c.t = t
	return &c
}

func (p *person) visit(t *testing.T, c *harness.Container, command harness.Command) *visit {
	t.Helper()
	p.site.keepLogs(t)
	terminal, err := c.Terminal(command)
	must(t, err)
	t.Cleanup(terminal.Kill)
	return &visit{t: t, terminal: terminal}
}

// sshArgs is an ssh command line of the person up to the command to run there.
func (p *person) sshArgs(port string, options ...string) []string {
	args := []string{"ssh", "-p", port, "-i", "/root/keys/" + p.name, "-o", "IdentitiesOnly=yes",
		// When PAM says "too many tries", sshd names no method any more, and then ssh
		// would go on with all those that it knows.
		"-o", "PreferredAuthentications=publickey,keyboard-interactive",
		"-o", "StrictHostKeyChecking=yes", "-o", "NumberOfPasswordPrompts=1", "-o", "ConnectTimeout=30"}
	return append(append(args, options...), p.name+"@"+p.site.host.Name)
}

func (p *person) ssh(t *testing.T, from *harness.Container, port string, options ...string) *visit {
	t.Helper()
	return p.visit(t, from, harness.Command{Args: append(p.sshArgs(port, options...), inside)})
}

func (p *person) sudo(t *testing.T, env ...string) *visit {
	t.Helper()
	v := p.visit(t, p.site.host, harness.Command{User: p.name, Env: env, Args: []string{"sudo", "sh", "-c", inside}})
	v.expect(`password for \S+: $`)
	v.types(p.password)
	return v
}

func (p *person) su(t *testing.T, env ...string) *visit {
	t.Helper()
	return p.suWith(t, rootPassword, env...)
}

func (p *person) suWith(t *testing.T, password string, env ...string) *visit {
	t.Helper()
	v := p.visit(t, p.site.host, harness.Command{User: p.name, Env: env, Args: []string{"su", "-c", inside}})
	v.expect(`Password: $`)
	v.types(password)
	return v
}

func (v *visit) expect(pattern string) []string {
	v.t.Helper()
	match, err := v.terminal.Expect(pattern)
	must(v.t, err)
	return match
}

func (v *visit) types(line string) {
	v.t.Helper()
	for range 3 {
		before := len(v.terminal.Screen())
		must(v.t, v.terminal.Type(line))
		// More than an echo of the line says that somebody has read it.
		for waited := 0; v.hasty && waited < 80; waited++ {
			if len(v.terminal.Screen()) > before+len(line)+2 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		if !v.hasty {
			return
		}
	}
}

// comesIn asserts that the person is let in.
func (v *visit) comesIn() {
	v.t.Helper()
	if v.shell {
		v.expect(`[$#] $`)
		v.types(inside + "; exit")
	}
	v.expect(isIn)
	code, err := v.terminal.Wait(v.t.Context())
	must(v.t, err)
	if code != 0 {
		v.t.Errorf("the visit ended with status %d; terminal:\n%s", code, v.terminal.Screen())
	}
}

// isOver waits for the end of the visit, reads what is to be read on the way, and
// returns the exit status.
func (v *visit) isOver() int {
	v.t.Helper()
	for {
		if _, err := v.terminal.Expect(saysWhy); err != nil {
			break // the program has ended
		}
		v.types("")
	}
	code, err := v.terminal.Wait(v.t.Context())
	must(v.t, err)
	return code
}

// isRefused asserts that the person is not let in and the program says so.
func (v *visit) isRefused() {
	v.t.Helper()
	code := v.isOver()
	// login ends well whatever became of it.
	if screen := v.terminal.Screen(); code == 0 && !v.shell || strings.Contains(screen, isIn) {
		v.t.Errorf("let in, status %d; terminal:\n%s", code, screen)
	}
}

// hasRead asserts that the terminal has shown a text.
func (v *visit) hasRead(text string) {
	v.t.Helper()
	if screen := v.terminal.Screen(); !strings.Contains(screen, text) {
		v.t.Errorf("the person has not read %q; terminal:\n%s", text, screen)
	}
}

// leaves closes the terminal and goes away.
func (v *visit) leaves() { v.terminal.Kill() }
