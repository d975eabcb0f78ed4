// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	sys "golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// terminal is a command on a pseudo terminal.
type terminal struct {
	*testing.T
	cmd  *exec.Cmd
	file *os.File

	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

// onTerminal starts a command on a terminal that is wide enough for a QR code.
func onTerminal(t *testing.T, c *exec.Cmd) *terminal {
	t.Helper()
	file, err := pty.StartWithSize(c, &pty.Winsize{Rows: 60, Cols: 160})
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{T: t, cmd: c, file: file, more: make(chan struct{}, 1)}
	go term.read()
	t.Cleanup(func() { file.Close() })
	return term
}

func (t *terminal) read() {
	buf := make([]byte, 4096)
	for {
		n, err := t.file.Read(buf)
		t.mu.Lock()
		t.text.Write(buf[:n])
		t.mu.Unlock()
		select {
		case t.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (t *terminal) screen() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.ReplaceAll(t.text.String(), "\r\n", "\n")
}

// expect waits until text stands on the screen, and forgets the screen up to it.
func (t *terminal) expect(text string) string {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		if before, _, ok := strings.Cut(t.screen(), text); ok {
			t.mu.Lock()
			raw := t.text.String()
			i := strings.Index(strings.ReplaceAll(raw, "\r\n", "\n"), text) + len(text)
			rest := strings.ReplaceAll(raw, "\r\n", "\n")[i:]
			t.text.Reset()
			t.text.WriteString(rest)
			t.mu.Unlock()
			return before + text
		}
		select {
		case <-t.more:
		case <-deadline:
			t.Fatalf("%q does not come; the screen is\n%s", text, t.screen())
		}
	}
}

func (t *terminal) typeLine(line string) {
	t.Helper()
	if _, err := t.file.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
}

// typeHidden types a line as soon as the terminal does not echo it.
func (t *terminal) typeHidden(line string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if !t.echoes() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the terminal goes on to echo; the screen is\n%s", t.screen())
		}
	}
	t.typeLine(line)
}

func (t *terminal) echoes() (on bool) {
	t.Helper()
	conn, err := t.file.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		mode, err := sys.IoctlGetTermios(int(fd), sys.TCGETS)
		if failed = err; err == nil {
			on = mode.Lflag&sys.ECHO != 0
		}
	})
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return on
}

// interrupt is Ctrl-C; the command must end by itself.
func (t *terminal) interrupt() {
	t.Helper()
	if err := t.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := t.cmd.Wait(); err != nil {
		t.Errorf("after the interrupt: %v", err)
	}
}

// person is alice at a verifier of her own, with an authenticator in home.
type person struct {
	*verifier
	home, phone string
	api         *duoapi.Client
}

func newPerson(t *testing.T) *person {
	t.Helper()
	v, err := startVerifier(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.stop(); err != nil {
			t.Error(err)
		}
	})
	p := &person{verifier: v, home: t.TempDir()}
	p.run(t, p.home, "admin", "user", "add", "alice")
	made := p.run(t, p.home, "admin", "integration", "add", "--type", "authapi", "--name", "sshd", "--allow-plain-push", "--json")
	if p.api, err = v.api(p.get(t, made, "integration_key"), p.get(t, made, "secret_key")); err != nil {
		t.Fatal(err)
	}
	p.phone = p.get(t, p.run(t, p.home, "admin", "phone", "add", "--user", "alice", "--json"), "phone_id")
	link := p.get(t, p.run(t, p.home, "admin", "phone", "activate", p.phone, "--json"), "activation_url")
	p.run(t, p.home, "authenticator", "activate", link)
	return p
}

func (p *person) get(t *testing.T, text, path string) string {
	t.Helper()
	value, err := field(text, path)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func (p *person) push(t *testing.T, verified bool) (txid, code string) {
	t.Helper()
	txid, code, err := startPush(t.Context(), p.api, "alice", verified)
	if err != nil {
		t.Fatal(err)
	}
	return txid, code
}

func (p *person) wantOutcome(t *testing.T, txid, result, status string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := outcome(ctx, p.api, txid)
	if err != nil || out.Result != result || out.Status != status {
		t.Errorf("the login ended in %s, %s (%s), %v; want %s, %s", out.Result, out.Status, out.StatusMsg, err, result, status)
	}
}

func scrub(text string) string {
	for _, s := range scrubbed {
		text = s.pattern.ReplaceAllString(text, s.with)
	}
	return text
}

const (
	askDigits = "Digits that the login shows to approve, d to deny, Enter to leave it: "
	askPlain  = "a to approve, d to deny, Enter to leave it: "
)

// What a person sees and types who keeps the authenticator open.
func TestWatchOnTerminal(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	c := p.command(t, p.home, "authenticator", "watch")
	c.Env = append(c.Env, "NO_COLOR=1")
	term := onTerminal(t, c)
	term.expect("waiting for login requests to alice at " + p.URL)

	txid, code := p.push(t, true)
	got := scrub(term.expect(askDigits))
	want := `
Login request TXIDTXIDTXIDTXIDTXIDTXIDTX
  user         alice
  application  sshd
  what         SSH login
  host         db1.example
  from         192.0.2.7
  command      ls -l
  since        2026-01-01 00:00:00Z
  until        2026-01-01 00:00:00Z
` + askDigits
	if got != want {
		t.Errorf("the request looks like\n%q\nwant\n%q", got, want)
	}
	term.typeLine("what?")
	term.expect(askDigits)
	term.typeLine(code[:3] + " " + code[3:])
	term.expect("\napproved\n")
	p.wantOutcome(t, txid, "allow", "allow")

	// Wrong digits cost a try; the same request is asked about again.
	txid, code = p.push(t, true)
	term.expect(askDigits)
	wrong := "000000"
	if code == wrong {
		wrong = "000001"
	}
	term.typeLine(wrong)
	term.expect("the verifier refused: 40334")
	term.expect(askDigits)
	term.typeLine(code)
	term.expect("\napproved\n")
	p.wantOutcome(t, txid, "allow", "allow")

	// After the last try the login is denied, and there is nothing left to ask.
	txid, code = p.push(t, true)
	if wrong = "000000"; code == wrong {
		wrong = "000001"
	}
	for range 3 {
		term.expect(askDigits)
		term.typeLine(wrong)
	}
	term.expect("the login was denied")
	p.wantOutcome(t, txid, "deny", "deny")

	txid, _ = p.push(t, false)
	term.expect(askPlain)
	term.typeLine("123456") // digits are no answer to a plain push
	term.expect(askPlain)
	term.typeLine("d")
	term.expect(whose)
	term.typeLine("")
	term.expect(askPlain)
	term.typeLine("D")
	term.expect(whose)
	term.typeLine("y")
	term.expect("\ndenied\n")
	p.wantOutcome(t, txid, "deny", "deny")

	// Answered elsewhere, the question ends by itself.
	txid, _ = p.push(t, false)
	term.expect(askPlain)
	p.run(t, p.home, "authenticator", "approve", "--txid", txid)
	term.expect("the request is over: answered elsewhere")
	p.wantOutcome(t, txid, "allow", "allow")

	// Left open, a request can be answered elsewhere.
	txid, _ = p.push(t, false)
	term.expect(askPlain)
	term.typeLine("")
	term.expect("left open")
	p.run(t, p.home, "authenticator", "approve", "--txid", txid)
	p.wantOutcome(t, txid, "allow", "allow")

	txid, _ = p.push(t, false)
	term.expect(askPlain)
	term.typeLine("f")
	term.expect("denied and reported as not yours")
	p.wantOutcome(t, txid, "deny", "fraud")
	term.interrupt()
}

// What was typed before a request was shown is no answer to it: neither lines nor half a
// line.
func TestWatchForgetsWhatWasTyped(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	term := onTerminal(t, p.command(t, p.home, "authenticator", "watch"))
	term.expect("waiting for login requests to alice at " + p.URL)
	ahead := func() {
		for _, line := range []string{"f", "a", "a", "f"} {
			term.typeLine(line)
			term.expect(line + "\n") // its echo
		}
	}
	ahead()
	txid, _ := p.push(t, false)
	term.expect(askPlain)
	term.typeLine("d")
	term.expect(whose)
	term.typeLine("y")
	term.expect("\ndenied\n")
	p.wantOutcome(t, txid, "deny", "deny")

	// Half of "a" is there when the question comes; the other half leaves it open.
	ahead()
	if _, err := term.file.WriteString("a"); err != nil {
		t.Fatal(err)
	}
	txid, _ = p.push(t, false)
	term.expect(askPlain)
	term.typeLine("")
	term.expect("left open")
	p.run(t, p.home, "authenticator", "deny", "--mistake", "--txid", txid)
	p.wantOutcome(t, txid, "deny", "deny")
	term.interrupt()
}

// approve asks for the digits on a terminal.
func TestApproveOnTerminal(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	txid, code := p.push(t, true)
	term := onTerminal(t, p.command(t, p.home, "authenticator", "approve"))
	screen := term.expect("Digits that the login shows: ")
	if !strings.Contains(screen, "\x1b[1mLogin request ") {
		t.Errorf("no bold head on a terminal: %q", screen)
	}
	term.typeLine("12")
	term.expect("the digits are needed")
	term.expect("Digits that the login shows: ")
	term.typeLine(code)
	term.expect("approved")
	p.wantOutcome(t, txid, "allow", "allow")
}

// deny asks whose login it was, as the two answers come to different things.
func TestDenyOnTerminal(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	txid, _ := p.push(t, false)
	term := onTerminal(t, p.command(t, p.home, "authenticator", "deny"))
	term.expect(whose)
	term.typeLine("perhaps")
	term.expect(whose)
	term.typeLine("y")
	term.expect("\ndenied\n")
	p.wantOutcome(t, txid, "deny", "deny")
	txid, _ = p.push(t, false)
	term = onTerminal(t, p.command(t, p.home, "authenticator", "deny"))
	term.expect(whose)
	term.typeLine("n")
	term.expect("denied and reported as not yours")
	p.wantOutcome(t, txid, "deny", "fraud")
}

// A passphrase is asked for without echo, and again when it is new.
func TestPassphraseOnTerminal(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	v := &verifier{}
	term := onTerminal(t, v.command(t, home, "authenticator", "passphrase"))
	term.expect("New passphrase: ")
	term.typeHidden("correct horse battery")
	term.expect("The same again: ")
	term.typeHidden("correct horse")
	term.expect("the two differ: nothing was changed")
	term = onTerminal(t, v.command(t, home, "authenticator", "passphrase"))
	term.expect("New passphrase: ")
	term.typeHidden("correct horse battery")
	term.expect("The same again: ")
	term.typeHidden("correct horse battery")
	if screen := term.expect("need the passphrase now"); strings.Contains(screen, "battery") {
		t.Errorf("the passphrase is on the screen: %q", screen)
	}
	term = onTerminal(t, v.command(t, home, "authenticator", "totp", "add", "--name", "router"))
	term.expect("(it is not shown): ")
	term.typeHidden("GEZD GNBV")
	term.expect("Passphrase of the authenticator: ")
	term.typeHidden("correct horse battery")
	if screen := term.expect("router is kept; its code"); strings.Contains(screen, "GEZD") {
		t.Errorf("the secret is on the screen: %q", screen)
	}
	// The codes are renewed in place.
	term = onTerminal(t, v.command(t, home, "authenticator", "totp", "code", "--watch"))
	term.expect("Passphrase of the authenticator: ")
	term.typeHidden("correct horse battery")
	term.expect("CODE")
	term.expect("router")
	term.expect("\x1b[2F\x1b[J")
	term.expect("router")
	term.interrupt()
}

// An authenticator is not removed by a slip of the finger.
func TestRemoveDeviceOnTerminal(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	term := onTerminal(t, p.command(t, p.home, "authenticator", "devices", "rm", p.phone))
	term.expect("Remove " + p.phone + ", which is this one? It can answer for alice no more [y/N]: ")
	term.typeLine("")
	term.expect("not confirmed: nothing was changed")
	term = onTerminal(t, p.command(t, p.home, "authenticator", "devices", "rm", p.phone))
	term.expect("[y/N]: ")
	term.typeLine("y")
	term.expect(p.phone + " is removed")
}

// A QR code is drawn on a terminal, and only there.
func TestQR(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	blocks := regexp.MustCompile(`[█▀▄]{10}`)
	add := []string{"admin", "token", "add", "--user", "alice"}
	if out := p.run(t, p.home, add...); blocks.MatchString(out) {
		t.Errorf("a QR code without a terminal:\n%s", out)
	}
	term := onTerminal(t, p.command(t, p.home, add...))
	if screen := term.expect("otpauth://totp/"); !blocks.MatchString(screen) {
		t.Errorf("no QR code on a terminal:\n%s", screen)
	}
	term = onTerminal(t, p.command(t, p.home, "authenticator", "move"))
	if screen := term.expect("/sallyport/activate#sa1."); !blocks.MatchString(screen) {
		t.Errorf("no QR code of the link to move by:\n%s", screen)
	}
	term = onTerminal(t, p.command(t, p.home, append(add, "--json")...))
	if screen := term.expect(`"uri"`); blocks.MatchString(screen) {
		t.Errorf("a QR code among JSON:\n%s", screen)
	}
}

// watch survives a verifier that is away for a while.
func TestWatchWaitsOutAnOutage(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	c := p.command(t, p.home, "authenticator", "watch", "--json")
	var stderr syncBuffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stderr.wait(t, "waiting for login requests")
	restart := p.restart(t)
	stderr.wait(t, "lost the connection to "+p.URL)
	restart()
	stderr.wait(t, "connected to "+p.URL+" again")
	txid, _ := p.push(t, false)
	line := make([]byte, 4096)
	n, err := out.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.get(t, string(line[:n]), "txid"); got != txid {
		t.Errorf("request %s, want %s", got, txid)
	}
	if got := p.get(t, string(line[:n]), "context.hostname"); got != "db1.example" {
		t.Errorf("hostname %s", got)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// log auth --follow shows what comes.
func TestFollow(t *testing.T) {
	t.Parallel()
	p := newPerson(t)
	c := p.command(t, p.home, "admin", "log", "auth", "--follow", "--user", "alice")
	var stdout syncBuffer
	c.Stdout = &stdout
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if allowed, err := loginByPasscode(t.Context(), p.api, "alice", "999999"); allowed || err != nil {
			t.Fatal(allowed, err)
		}
		stdout.wait(t, "denied")
		stdout.reset()
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Error(err)
	}
}

// syncBuffer is a buffer that one process writes and the test reads.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf.Reset()
}

func (b *syncBuffer) wait(t *testing.T, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		b.mu.Lock()
		got := b.buf.String()
		b.mu.Unlock()
		if strings.Contains(got, text) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q does not come: %q", text, got)
		}
	}
}

// restart stops the verifier and returns how to start it again.
func (p *person) restart(t *testing.T) func() {
	t.Helper()
	if err := p.stop(); err != nil {
		t.Fatal(err)
	}
	p.stop = func() error { return nil }
	return func() {
		t.Helper()
		stop, err := serveVerifier(filepath.Dir(p.Profile))
		if err != nil {
			t.Fatal(err)
		}
		p.stop = stop
		if err := p.wait(); err != nil {
			t.Fatal(err)
		}
	}
}
