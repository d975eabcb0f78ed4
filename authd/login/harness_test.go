// SPDX-License-Identifier: Apache-2.0

package login_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/clock"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/failmode"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

var update = flag.Bool("update", false, "rewrite the golden sessions")

const (
	// A key of a test, as sshd hands it on, and its fingerprint.
	sshKey         = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTbjiPOlWxyimKlMK7MrCYpBsmbgovsLetfmledD7TI"
	sshFingerprint = "SHA256:OcLVv1k6GIum2ikHPCk2aArKmww1FIzYD7yCwq8reVA"
	// Another key.
	otherKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB9VnmRW2oEu2QMtrSkGs9YxhSjD0GSVxt9Rqhcbzxih"
)

// accounts is a name service with three accounts.
type accounts struct {
	err error // of every look-up
}

func (d accounts) ByName(_ context.Context, name string) (directory.Account, error) {
	for i, n := range []string{"root", "alice", "backup"} {
		if strings.EqualFold(n, name) && d.err == nil {
			return directory.Account{Name: n, UID: uint32(i) * 1000}, nil
		}
	}
	return directory.Account{}, d.unknown()
}

func (d accounts) ByUID(_ context.Context, uid uint32) (directory.Account, error) {
	for i, n := range []string{"root", "alice", "backup"} {
		if uint32(i)*1000 == uid && d.err == nil {
			return directory.Account{Name: n, UID: uid}, nil
		}
	}
	return directory.Account{}, d.unknown()
}

func (d accounts) InGroup(_ context.Context, a directory.Account, group string) (bool, error) {
	if group == "ghosts" {
		return false, errors.New("the name service does not know it")
	}
	return a.Name == "alice" && group == "ops", d.err
}

// withLDAP is a configuration that may name attributes; who answers is book.
const withLDAP = "[ldap]\nurls = [\"ldaps://ldap.example\"]\nbase_dn = \"dc=example\"\n"

// book is a directory in which alice has one address and is in one group.
type book struct{}

func (book) Attribute(_ context.Context, user, attribute string) (string, error) {
	switch {
	case attribute == "away":
		return "", errors.New("the directory does not answer")
	case user == "alice" && attribute == "mail":
		return "Alice.Smith@example.org", nil
	}
	return "", directory.ErrNoValue
}

func (book) InGroup(_ context.Context, user, group string) (bool, error) {
	if group == "away" {
		return false, errors.New("the directory does not answer")
	}
	return user == "alice" && group == "staff", nil
}

func (d accounts) unknown() error {
	if d.err != nil {
		return d.err
	}
	return directory.ErrNoSuchUser
}

// host is an authd without sockets, and its verifier.
type host struct {
	*testing.T
	verifier *verifiertest.Server
	engine   *login.Engine
	log      *lockedBuffer
	clock    atomic.Pointer[func() time.Time]
	loginUID *uint32 // of every process; nil: none is set
	state    *login.State
	client   *upstream.Client
}

// setNow sets the clock, which what goes on beside a login reads too.
func (h *host) setNow(now func() time.Time) { h.clock.Store(&now) }

type lockedBuffer struct {
	sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.Lock()
	defer b.Unlock()
	return b.Buffer.Write(p)
}

func newHost(t *testing.T, settings string) *host {
	t.Helper()
	h := &host{T: t, verifier: verifiertest.NewInMemory(t), log: &lockedBuffer{}}
	h.setNow(time.Now)
	text := fmt.Sprintf("state_dir = %q\ncontact = \"the help desk\"\nhostname = \"web1.example\"\n[verifier]\nurls = [%q]\nintegration_key = %q\nsecret_key_file = \"unused\"\nca_file = %q\n%s",
		t.TempDir(), h.verifier.URL, verifiertest.IntegrationKey, h.verifier.CAFile, settings)
	cfg, err := config.Parse("authd.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	now := func() time.Time { return (*h.clock.Load())() }
	gate := failmode.New(failmode.Options{Dir: cfg.StateDir, Clock: clock.Clock{Now: now, Boot: clock.System().Boot}, Log: log})
	t.Cleanup(gate.Close)
	gate.Contact(true) // the verifier was there until a moment ago
	client, err := upstream.New(upstream.Options{
		Endpoints: cfg.Verifier.Endpoints(), IntegrationKey: cfg.Verifier.IntegrationKey, Secret: []byte(verifiertest.Secret),
		CAFile: cfg.Verifier.CAFile, ConnectTimeout: cfg.Timeouts.Connect, RequestTimeout: cfg.Timeouts.Request,
		ProbeInterval: time.Hour, Dial: h.verifier.Dial, HostKey: testKey, Now: time.Now, Log: log, Contact: gate.Contact, Refused: gate.Refused, Back: gate.Back,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	h.engine = &login.Engine{
		People: accounts{}, UserPeople: accounts{}, Grants: login.NewGrants(now), UserGrants: login.NewGrants(now), FailMode: gate, Now: now,
		NewID: func() string { return "id" }, Log: log, Command: func(int32) string { return "sudo rm -rf /" },
	}
	h.engine.Grace = login.NewGrace(clock.Clock{Now: now, Boot: clock.System().Boot})
	h.engine.LoginUID = func(login.ProcessID) (uint32, error) {
		if h.loginUID == nil {
			return 0, errors.New("no loginuid is set")
		}
		return *h.loginUID, nil
	}
	state := &login.State{Config: cfg, Verifier: client}
	h.state, h.client = state, client
	if cfg.LDAP.Configured() {
		state.LDAP, state.UserLDAP = book{}, book{}
	}
	h.engine.Use(state)
	return h
}

// person is the other end of the conversation: each answer belongs to one
// question. A function may do something first.
type human struct {
	h       *host
	answers []any // string, error, or func() any
	script  bytes.Buffer
	asked   int
	waits   []time.Duration
}

func (p *human) Show(style frames.Style, text string) error {
	fmt.Fprintf(&p.script, "[%s] %s\n", map[frames.Style]string{frames.StyleInfo: "info", frames.StyleError: "error"}[style], text)
	return nil
}

func (p *human) Wait(d time.Duration) error {
	p.waits = append(p.waits, d)
	return nil
}

func (p *human) Ask(ctx context.Context, text string) (frames.Secret, error) {
	p.script.WriteString(text)
	if p.asked >= len(p.answers) {
		fmt.Fprintln(&p.script, "<nobody there>")
		return "", login.ErrAborted
	}
	a := p.answers[p.asked]
	p.asked++
	if f, ok := a.(func() any); ok {
		a = f()
	}
	switch a := a.(type) {
	case string:
		fmt.Fprintln(&p.script, "«"+a+"»")
		return frames.Secret(a), nil
	case error:
		fmt.Fprintln(&p.script, "<"+a.Error()+">")
		return "", a
	}
	// nil: the person never answers.
	<-ctx.Done()
	fmt.Fprintln(&p.script, "<no answer>")
	return "", context.Cause(ctx)
}

func process(n int32) login.Process {
	return login.Process{ID: login.ProcessID{PID: n, Start: uint64(n)}, Parent: login.ProcessID{PID: n - 1, Start: uint64(n) - 1}}
}

func rootPeer(pid int32) login.Peer {
	return login.Peer{Socket: login.RootSocket, Process: process(pid)}
}

// sshRequest is a login by sshd with a key done.
func sshRequest(hook frames.Hook, user string) *frames.Request {
	return &frames.Request{Hook: hook, Version: "test", Service: "sshd", User: user, TTY: "ssh", RHost: "10.0.4.7",
		PAMEnv: map[string]string{"SSH_AUTH_INFO_0": "publickey " + sshKey + "\n", "SSH_CONNECTION": "10.0.4.7 4711 10.0.0.1 22"}}
}

func sudoRequest(hook frames.Hook) *frames.Request {
	return &frames.Request{Hook: hook, Version: "test", Service: "sudo", User: "alice", TTY: "/dev/pts/1", RUser: "alice"}
}

// run handles one call and returns the outcome and the transcript.
func (h *host) run(peer login.Peer, req *frames.Request, answers ...any) (frames.Outcome, *human) {
	h.Helper()
	p := &human{h: h, answers: answers}
	outcome := h.engine.Handle(h.Context(), peer, req, p)
	fmt.Fprintf(&p.script, "=> %s\n", outcome)
	if p.asked < len(p.answers) {
		h.Errorf("asked %d questions, expected %d:\n%s", p.asked, len(p.answers), &p.script)
	}
	return outcome, p
}

// ssh is run for authenticate of alice by sshd.
func (h *host) ssh(answers ...any) (frames.Outcome, *human) {
	h.Helper()
	return h.run(rootPeer(100), sshRequest(frames.HookAuthenticate, "alice"), answers...)
}

// events returns the log events "login" so far.
func (h *host) events() []map[string]any {
	h.Helper()
	h.log.Lock()
	defer h.log.Unlock()
	var out []map[string]any
	for line := range strings.Lines(h.log.String()) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			h.Fatal(err)
		}
		if e["event"] == "login" {
			out = append(out, e)
		}
	}
	return out
}

// event is the one log event; more or fewer is an error.
func (h *host) event() map[string]any {
	h.Helper()
	all := h.events()
	if len(all) != 1 {
		h.Fatalf("%d login events, want 1: %v", len(all), all)
	}
	return all[0]
}

func (h *host) wantEvent(fields map[string]any) {
	h.Helper()
	e := h.event()
	for k, v := range fields {
		if fmt.Sprint(e[k]) != fmt.Sprint(v) {
			h.Errorf("event field %s is %v, want %v; event: %v", k, e[k], v, e)
		}
	}
}

func golden(t *testing.T, p *human) {
	t.Helper()
	path := filepath.Join("testdata", strings.ReplaceAll(strings.TrimPrefix(t.Name(), "TestSessions/"), "/", "_")+".txt")
	if *update {
		if err := os.WriteFile(path, p.script.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if p.script.String() != string(want) {
		t.Errorf("the session differs from %s:\n%s\nwant:\n%s", path, &p.script, want)
	}
}
