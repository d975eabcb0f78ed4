// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// rounds is how often TestKilledInBetween kills authd.
const rounds = 200

// outage is real programs: a verifier behind a wire that can be cut, authd as a
// host of it, and an authenticator.
type outage struct {
	*testing.T
	dir   string
	wire  *wire
	authd *exec.Cmd
	log   *os.File
	host  string // its label
}

// wire carries connections, unless it is cut.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cut   bool
	conns map[net.Conn]bool
}

func newWire(t *testing.T, to string) *wire {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to, conns: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.carry(c)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); w.set(true) })
	return w
}

func (w *wire) carry(c net.Conn) {
	defer c.Close()
	w.mu.Lock()
	cut := w.cut
	w.mu.Unlock()
	if cut {
		return
	}
	far, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer far.Close()
	w.mu.Lock()
	w.conns[c] = true
	cut = w.cut
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		delete(w.conns, c)
		w.mu.Unlock()
	}()
	if cut {
		return
	}
	go func() { _, _ = io.Copy(far, c); _ = far.Close() }()
	_, _ = io.Copy(c, far)
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for c := range w.conns {
			_ = c.Close()
		}
	}
}

func (o *outage) program(name string) string { return filepath.Join(o.dir, "bin", name) }

// run runs a program to its end and returns what it printed.
func (o *outage) run(name string, args ...string) []byte {
	o.Helper()
	cmd := exec.Command(o.program(name), args...)
	cmd.Env = append(os.Environ(), "SALLYPORT_PROFILE="+filepath.Join(o.dir, "data", "admin.json"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		o.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out, &stderr)
	}
	return out
}

// get runs sallyport with --json and reads what it printed.
func (o *outage) get(into any, args ...string) {
	o.Helper()
	if err := json.Unmarshal(o.run("sallyport", append(args, "--json")...), into); err != nil {
		o.Fatalf("%v: %v", args, err)
	}
}

func newOutage(t *testing.T) *outage {
	o := &outage{T: t, dir: t.TempDir()}
	for _, name := range []string{"sallyport", "sallyport-authd", "sallyport-verifier"} {
		out, err := exec.Command("go", "build", "-o", o.program(name), "github.com/sallyport-mfa/sallyport/cmd/"+name).CombinedOutput()
		if err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	o.wire = newWire(t, address)
	url := "https://" + o.wire.listener.Addr().String()
	data := filepath.Join(o.dir, "data")
	o.run("sallyport-verifier", "init", "--data", data, "--url", url, "--listen", address)
	serve := exec.Command(o.program("sallyport-verifier"), "serve", "--data", data)
	if err := serve.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = serve.Process.Signal(syscall.SIGTERM); _ = serve.Wait() })
	until(t, "the verifier serves", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	o.run("sallyport", "admin", "user", "add", "root")
	var phone struct {
		ID string `json:"phone_id"`
	}
	o.get(&phone, "admin", "phone", "add", "--user", "root")
	var link struct {
		URL string `json:"activation_url"`
	}
	o.get(&link, "admin", "phone", "activate", phone.ID)
	o.run("sallyport", "authenticator", "--dir", filepath.Join(o.dir, "accounts"), "activate", link.URL)
	var token struct{ Token string }
	o.get(&token, "admin", "host", "token")
	o.run("sallyport", "host", "join", url, "--token", token.Token, "--name", "db1.example", "--config-dir", filepath.Join(o.dir, "etc"),
		"--socket-dir", filepath.Join(o.dir, "run"), "--state-dir", filepath.Join(o.dir, "state"))
	path := filepath.Join(o.dir, "etc", "authd.toml")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(config), `fail_mode = "secure"`, `fail_mode = "offline"`, 1) + "\n[timeouts]\nprobe_interval = \"100ms\"\n"
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if o.log, err = os.Create(filepath.Join(o.dir, "authd.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		o.kill()
		_ = o.log.Close()
		if t.Failed() {
			text, _ := os.ReadFile(o.log.Name())
			t.Logf("the last of authd's log:\n%s", text[max(0, len(text)-20_000):])
		}
	})
	return o
}

func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("a minute went by, and not: %s", what)
		}
	}
}

// start starts authd and waits until it serves.
func (o *outage) start() {
	o.Helper()
	o.authd = exec.Command(o.program("sallyport-authd"), "--config", filepath.Join(o.dir, "etc", "authd.toml"), "--log", "text")
	o.authd.Stderr = o.log
	if err := o.authd.Start(); err != nil {
		o.Fatal(err)
	}
	until(o.T, "authd serves", func() bool {
		c, err := o.dial()
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func (o *outage) kill() {
	if o.authd != nil {
		_ = o.authd.Process.Kill()
		_ = o.authd.Wait()
		o.authd = nil
	}
}

func (o *outage) dial() (*net.UnixConn, error) {
	return net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(o.dir, "run", "authd.sock"), Net: "unix"})
}

// login logs root in by one answer. An error means that there was no outcome.
// asked is called when the answer is on its way.
func (o *outage) login(answer string, asked func()) (outcome frames.Outcome, question string, err error) {
	c, err := o.dial()
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	err = frames.WriteFrame(c, &frames.Request{Hook: frames.HookAuthenticate, Version: "test", Service: "sudo", User: "root"})
	if err != nil {
		return 0, "", err
	}
	for {
		f, err := frames.ReadFrame(c)
		if err != nil {
			return 0, question, err
		}
		switch f := f.(type) {
		case *frames.Done:
			return f.Outcome, question, nil
		case *frames.Ask:
			if question != "" {
				return frames.OutcomeDeny, f.Text, nil
			}
			question = f.Text
			if err := frames.WriteFrame(c, &frames.Answer{Text: frames.Secret(answer)}); err != nil {
				return 0, question, err
			}
			if asked != nil {
				asked()
			}
		}
	}
}

// online logs in by way of the verifier and waits for the keys that follow.
func (o *outage) online() {
	o.Helper()
	o.wire.set(false)
	var codes []string
	o.get(&codes, "admin", "bypass-codes", "add", "root", "--count", "1")
	state := func() string {
		all, _ := filepath.Glob(filepath.Join(o.dir, "state", "offline", "*.json"))
		text := ""
		for _, path := range all {
			b, _ := os.ReadFile(path)
			text += string(b)
		}
		return text
	}
	var outcome frames.Outcome
	until(o.T, "a login by way of the verifier", func() (ok bool) {
		var err error
		outcome, _, err = o.login(codes[0], nil)
		return err == nil && outcome == frames.OutcomeAllow
	})
	until(o.T, "keys come", func() bool { return strings.Contains(state(), `"uses_left":100,`) })
}

func (o *outage) code(number int64) string {
	o.Helper()
	var shown struct{ Code, Label string }
	args := []string{"authenticator", "--dir", filepath.Join(o.dir, "accounts"), "offline"}
	if number >= 0 {
		args = append(args, "--number", fmt.Sprint(number))
	}
	o.get(&shown, args...)
	o.host = shown.Label
	return shown.Code
}

// used are the numbers of codes whose use the verifier has in its log, in the
// order in which they happened.
func (o *outage) used() (out []int64) {
	o.Helper()
	var events []struct {
		Result     string
		Factor     string
		HostReport *struct {
			Number *int64
		} `json:"host_report"`
	}
	o.get(&events, "admin", "log", "auth", "--since", "1d")
	for _, e := range events {
		if e.HostReport != nil && e.HostReport.Number != nil {
			out = append(out, *e.HostReport.Number)
		}
	}
	return out
}

// Killed at any moment, between a code and its outcome as well as between a report
// and its acknowledgement, authd takes no code twice, loses no use that it has let
// in, and reports none twice.
func TestKilledInBetween(t *testing.T) {
	o := newOutage(t)
	o.run("sallyport", "admin", "settings", "set", "offline_max_uses=100")
	allowed, lost, replays := map[int64]bool{}, map[int64]bool{}, 0
	for number := range int64(rounds) {
		if number%50 == 0 {
			o.kill()
			o.start()
			o.online()
			o.kill()
		}
		code := o.code(number)
		o.wire.set(true)
		o.start()
		// A third of the rounds run to their end, so that all kinds of ends occur.
		var killed sync.WaitGroup
		outcome, question, err := o.login(code, func() {
			if number%3 == 0 {
				return
			}
			delay := rand.N(6 * time.Millisecond)
			killed.Go(func() {
				time.Sleep(delay)
				_ = o.authd.Process.Kill()
			})
		})
		killed.Wait()
		switch {
		case err != nil:
			lost[number] = true
		case outcome == frames.OutcomeAllow:
			allowed[number] = true
		default:
			t.Fatalf("round %d: %s at %q", number, outcome, question)
		}
		if number%3 != 0 {
			o.kill()
			o.start()
		}
		if number%10 == 9 {
			// The same code again: what was let in is not, and what was lost at most once.
			outcome, question, err := o.login(code, nil)
			if err != nil {
				t.Fatal(err)
			}
			replays++
			if allowed[number] && outcome == frames.OutcomeAllow {
				t.Fatalf("round %d: a code was taken twice", number)
			}
			if outcome == frames.OutcomeAllow {
				allowed[number] = true
				delete(lost, number)
			} else {
				if !strings.Contains(question, "was used before") {
					t.Fatalf("round %d: refused with %q", number, question)
				}
				time.Sleep(1100 * time.Millisecond) // the delay after a failure
			}
		}
		// Some of it is reported, until the next kill.
		o.wire.set(false)
		time.Sleep(rand.N(40 * time.Millisecond))
		o.kill()
	}
	o.start()
	var got []int64
	until(t, "the uses of all who were let in are reported", func() bool {
		time.Sleep(200 * time.Millisecond)
		got = o.used()
		for number := range allowed {
			if !slices.Contains(got, number) {
				return false
			}
		}
		return true
	})
	seen := map[int64]int{}
	last := int64(-1)
	for _, n := range got {
		seen[n]++
		if n <= last {
			t.Errorf("number %d was reported after %d", n, last)
		}
		last = n
		if !allowed[n] && !lost[n] {
			t.Errorf("number %d was never tried", n)
		}
	}
	for n, times := range seen {
		if times != 1 {
			t.Errorf("number %d stands in the log %d times", n, times)
		}
	}
	t.Logf("%d let in, %d without an outcome, %d uses in the log, %d replays", len(allowed), len(lost), len(got), replays)
	if len(allowed) < rounds/3 || len(lost) < rounds/10 {
		t.Errorf("the kills came at too few moments: %d let in, %d lost", len(allowed), len(lost))
	}
}
