// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// attack is what an ordinary user can do to a socket that is open to them.
type attack struct {
	socket   string
	self     string   // who runs it
	victims  []string // whom they would like to be
	sinceEnd time.Time

	mu     sync.Mutex
	report attackReport
}

// attackReport counts what came of it.
type attackReport struct {
	// Connections is how many were made, by what was done with them.
	Connections map[string]int `json:"connections"`
	// Outcomes counts the answers to whole requests, as "hook outcome".
	Outcomes map[string]int `json:"outcomes"`
	// Alone is the outcome of one whole request of each hook in a victim's name, sent
	// when the crowd had gone.
	Alone map[string]string `json:"alone"`
	// Successes are those that let in whom they must not.
	Successes []string `json:"successes"`
}

// attackLimit bounds an attack, whatever the tests forget.
const attackLimit = 3 * time.Minute

// runAttack attacks until a file appears, and until so many connections were made
// in each way.
func runAttack(args []string, _ io.Reader, out io.Writer) error {
	a := &attack{report: attackReport{Connections: map[string]int{}, Outcomes: map[string]int{}, Alone: map[string]string{}, Successes: []string{}}}
	var stop string
	var least, parallel int
	if err := parse("attack", args, func(f *flag.FlagSet) {
		f.StringVar(&a.socket, "socket", "/run/sallyport/user.sock", "`path`")
		f.StringVar(&a.self, "self", "", "`user` who runs this")
		f.Func("victim", "`user` who does not; may be repeated", func(name string) error {
			a.victims = append(a.victims, name)
			return nil
		})
		f.StringVar(&stop, "stop", "", "`file` that ends the attack")
		f.IntVar(&least, "least", 1000, "`connections` in each way, at least")
		f.IntVar(&parallel, "parallel", 8, "`connections` in each way at once")
	}); err != nil {
		return err
	}
	a.sinceEnd = time.Now().Add(attackLimit)
	ways := map[string]func(*net.UnixConn){
		"silent": a.silent, "half a frame": a.half, "byte by byte": a.slowly, "garbage": a.garbage, "forged claims": a.forged, "in a hurry": a.hurried,
	}
	var all sync.WaitGroup
	for name, way := range ways {
		for range parallel {
			all.Go(func() {
				for time.Now().Before(a.sinceEnd) {
					if a.count(name) >= least && exists(stop) {
						return
					}
					a.connect(name, way)
				}
			})
		}
	}
	all.Wait()
	a.alone()
	return printJSON(out, &a.report)
}

// alone asks once for each hook, until it is heard: there may be a crowd of others.
func (a *attack) alone() {
	for _, hook := range []frames.Hook{frames.HookAuthenticate, frames.HookAcctMgmt, frames.HookOpenSession, frames.HookChauthtok} {
		for end := time.Now().Add(attackLimit / 6); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
			a.connect("alone", func(c *net.UnixConn) {
				r := a.request()
				r.Hook, r.Service, r.User = hook, "sudo", a.victims[0]
				if o, ok := a.ask(c, r); ok {
					a.report.Alone[hook.String()] = o.String()
				}
			})
			if o := a.report.Alone[hook.String()]; o != "" && o != frames.OutcomeUnavailable.String() {
				break
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

func (a *attack) count(name string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.report.Connections[name]
}

func (a *attack) connect(name string, way func(*net.UnixConn)) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: a.socket, Net: "unix"})
	if err != nil { // the queue of the socket is full
		time.Sleep(time.Millisecond)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(8 * time.Second))
	a.mu.Lock()
	a.report.Connections[name]++
	a.mu.Unlock()
	way(c)
}

// silent says nothing until authd has had enough.
func (a *attack) silent(c *net.UnixConn) { _, _ = frames.ReadFrame(c) }

func (a *attack) half(c *net.UnixConn) {
	if b := bytesOf(a.request()); len(b) > 1 {
		_, _ = c.Write(b[:1+rand.IntN(len(b)-1)])
	}
	_, _ = frames.ReadFrame(c)
}

func (a *attack) slowly(c *net.UnixConn) {
	r := a.request()
	for _, b := range bytesOf(r) {
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	a.outcome(c, r)
}

func (a *attack) garbage(c *net.UnixConn) {
	b := make([]byte, 1+rand.IntN(20_000))
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	if rand.IntN(2) == 0 {
		copy(b, "SP\x01\x01") // a header that is right
	}
	_, _ = c.Write(b)
	_, _ = frames.ReadFrame(c)
}

// hurried answers before it is asked.
func (a *attack) hurried(c *net.UnixConn) {
	r := a.request()
	if frames.WriteFrame(c, r) != nil {
		return
	}
	for range 20 {
		_ = frames.WriteFrame(c, &frames.Answer{Text: wrongCode})
	}
	a.outcome(c, r)
}

func (a *attack) forged(c *net.UnixConn) {
	a.ask(c, a.request())
}

// ask sends a whole request and goes on to its end.
func (a *attack) ask(c *net.UnixConn, r *frames.Request) (frames.Outcome, bool) {
	if frames.WriteFrame(c, r) != nil {
		return 0, false
	}
	return a.outcome(c, r)
}

// request claims to be what sshd, sudo and su claim.
func (a *attack) request() *frames.Request {
	users := append([]string{a.self, a.self + "\x00root", "root\n"}, a.victims...)
	hooks := []frames.Hook{frames.HookAuthenticate, frames.HookAuthenticate, frames.HookAcctMgmt, frames.HookOpenSession, frames.HookCloseSession, frames.HookChauthtok}
	services := []string{"sshd", "sudo", "su", "login", "unprivileged", "sshgw", "default", "x\x1b[2J"}
	r := &frames.Request{
		Hook: hooks[rand.IntN(len(hooks))], Version: "0", Service: services[rand.IntN(len(services))], User: users[rand.IntN(len(users))],
		TTY: "ssh", RHost: "127.0.0.1", RUser: "root",
	}
	r.PAMEnv = map[string]string{"SSH_AUTH_INFO_0": "publickey ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI\n",
		"SSH_CONNECTION": "127.0.0.1 4711 127.0.0.1 22"}
	r.ProcEnv = map[string]frames.Secret{"SALLYPORT_PASSCODE": wrongCode}
	return r // RUID and EUID 0: root
}

// bytesOf is a request as it is sent; nothing if it cannot be.
func bytesOf(r *frames.Request) []byte {
	var b bytes.Buffer
	if frames.WriteFrame(&b, r) != nil {
		return nil
	}
	return b.Bytes()
}

// wrongCode is a passcode that nobody has: no token shows seven digits.
const wrongCode = "0000000"

// outcome goes through a conversation to its end, with answers that are wrong.
func (a *attack) outcome(c *net.UnixConn, r *frames.Request) (frames.Outcome, bool) {
	for range 2 * frames.MaxRounds {
		f, err := frames.ReadFrame(c)
		if err != nil {
			return 0, false
		}
		switch f := f.(type) {
		case *frames.Ask:
			if frames.WriteFrame(c, &frames.Answer{Text: wrongCode}) != nil {
				return 0, false
			}
		case *frames.Done:
			a.note(r, f.Outcome)
			return f.Outcome, true
		}
	}
	return 0, false
}

func (a *attack) note(r *frames.Request, o frames.Outcome) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.report.Outcomes[r.Hook.String()+" "+o.String()]++
	// The later hooks let people pass who could have come in anyway, themselves;
	// closing decides nothing.
	harmless := r.Hook == frames.HookCloseSession || r.User == a.self && r.Hook != frames.HookAuthenticate && r.Hook != frames.HookChauthtok
	if o == frames.OutcomeAllow && !harmless && len(a.report.Successes) < 20 {
		a.report.Successes = append(a.report.Successes, fmt.Sprintf("%s of %q as %q", r.Hook, r.User, r.Service))
	}
}
