// SPDX-License-Identifier: Apache-2.0

package session_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/record"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
	"github.com/sallyport-mfa/sallyport/sshgw/session"
	"github.com/sallyport-mfa/sallyport/sshgw/target"
)

// rig is a gateway with a target behind it, and what it was seen to do.
type rig struct {
	t       *testing.T
	dir     string
	address string // of the gateway
	target  *farServer
	config  atomic.Pointer[config.Config]
	service *session.Service
	key     ssh.Signer // alice's
	log     *lines
	roster  *roster.Roster

	mu     sync.Mutex
	asked  []secondfactor.Question // at targets
	answer func(context.Context, secondfactor.Question, conversation.Person) error
	tapes  []*memoryTape
	begin  func(record.Meta) (session.Recording, error) // nil: in memory
	names  map[string][]netip.Addr                      // what resolves
	dials  int
	// dialled is where raw ways led.
	dialled []netip.AddrPort
	more    string // targets, beside those that are always there
}

func signer(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rule is a rule for everybody, at all targets unless it names some.
func rule(name, body string) string {
	if !strings.Contains(body, "targets =") {
		body += "\ntargets = [\"*\"]"
	}
	return fmt.Sprintf("[[rule]]\nname = %q\nusers = [\"*\"]\nlogins = [\"*\"]\n%s\n", name, body)
}

// everything is a rule without any limit.
var everything = rule("all", "")

// newRig starts a gateway under these rules. options are those of alice's key.
func newRig(t *testing.T, rules string, options ...string) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir(), key: signer(t), log: &lines{}, roster: roster.New(time.Now), names: map[string][]netip.Addr{}}
	r.target = newFarServer(t)
	keys := string(ssh.MarshalAuthorizedKey(r.key.PublicKey()))
	if len(options) > 0 {
		keys = strings.Join(options, ",") + " " + keys
	}
	r.write("alice.keys", keys)
	r.rules(rules)
	log := slog.New(slog.NewJSONHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	events := &audit.Log{Logger: log}
	var srv *server.Server
	r.service = &session.Service{
		Config: r.config.Load, People: people{}, Targets: r, Factor: r, Record: r.record,
		Host:  func(...string) (ssh.Signer, error) { return signer(t), nil },
		Inner: func(ctx context.Context, ch ssh.Channel, in server.Inner) error { return srv.ServeInner(ctx, ch, in) },
		Audit: events, Now: time.Now, Random: rand.Reader,
	}
	door := auth.New(auth.Options{
		Policy: func() auth.Policy {
			p := auth.FromConfig(r.config.Load())
			p.Accounts = auth.AccountsAny
			return p
		},
		Accounts: people{}, Second: yes{}, Log: log,
	})
	srv = server.New(server.Options{
		Settings: func() server.Settings {
			c := r.config.Load()
			return server.Settings{Limits: c.Limits, Timeouts: c.Timeouts}
		},
		Keys: hostKeys{signer(t)}, Door: door, Handler: r.service.Serve, Roster: r.roster, Events: events, Log: log,
	})
	l, err := server.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.address = l.Addr().String()
	go func() { _ = srv.Serve(t.Context(), l) }()
	return r
}

func (r *rig) write(name, text string) string {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// rules puts a configuration in force.
func (r *rig) rules(text string) {
	r.t.Helper()
	targets := r.write("targets.toml", fmt.Sprintf(`
[[target]]
name = "db1"
aliases = ["database"]
host = "127.0.0.1"
port = %d
logins = ["root"]

[[target]]
name = "web1"
host = "127.0.0.2"
port = %[1]d
labels = { env = "prod" }
`, r.target.port)+r.more)
	path := r.write("sshgw.toml", fmt.Sprintf(`
state_dir = %q
name = "gw.example.org"
contact = "the help desk"
[timeouts]
target = "2s"
[limits]
penalty_exempt = ["127.0.0.0/8"]
[first_factor]
authorized_keys = [%q]
[targets]
files = [%q]
%s`, r.dir, filepath.Join(r.dir, "%u.keys"), targets, text))
	c, err := config.LoadWithoutTrust(path)
	if err != nil {
		r.t.Fatal(err)
	}
	r.config.Store(c)
}

// Dial implements session.Targets.
func (r *rig) Dial(ctx context.Context, q target.Request) (*target.Conn, error) {
	r.mu.Lock()
	r.dials++
	r.mu.Unlock()
	if q.Login == "wanted" { // no proof but the agent
		if q.Agent == nil {
			return nil, errors.New("no agent")
		}
		if _, err := q.Agent.List(); err != nil {
			return nil, err
		}
	}
	conn, err := net.Dial("tcp", netip.AddrPortFrom(q.Addrs[0], q.Target.Port).String())
	if err != nil {
		return nil, err
	}
	cc, channels, requests, err := ssh.NewClientConn(conn, "target", &ssh.ClientConfig{
		User: q.Login, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Auth: []ssh.AuthMethod{ssh.Password("")},
	})
	if err != nil {
		return nil, err
	}
	return &target.Conn{SSH: cc, Channels: channels, Requests: requests}, nil
}

// Resolve implements session.Targets.
func (r *rig) Resolve(_ context.Context, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a, ok := r.names[host]; ok {
		return a, nil
	}
	return nil, errors.New("no such host")
}

// DialAddrs implements session.Targets.
func (r *rig) DialAddrs(ctx context.Context, addrs []netip.Addr, port uint16) (net.Conn, error) {
	at := netip.AddrPortFrom(addrs[0], port)
	r.mu.Lock()
	r.dialled = append(r.dialled, at)
	r.mu.Unlock()
	return (&net.Dialer{}).DialContext(ctx, "tcp", at.String())
}

// Ask implements session.Factor.
func (r *rig) Ask(ctx context.Context, q secondfactor.Question, p conversation.Person) error {
	r.mu.Lock()
	r.asked = append(r.asked, q)
	answer := r.answer
	r.mu.Unlock()
	if answer == nil {
		return secondfactor.ErrRefused
	}
	return answer(ctx, q, p)
}

func (r *rig) record(m record.Meta) (session.Recording, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.begin != nil {
		return r.begin(m)
	}
	t := &memoryTape{meta: m, failed: make(chan struct{})}
	r.tapes = append(r.tapes, t)
	return t, nil
}

// client connects as alice, with what follows the percent sign.
func (r *rig) client(to string) *ssh.Client {
	r.t.Helper()
	user := "alice"
	if to != "" {
		user += "%" + to
	}
	c, err := ssh.Dial("tcp", r.address, &ssh.ClientConfig{
		User: user, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second,
		Auth: []ssh.AuthMethod{ssh.PublicKeys(r.key), ssh.KeyboardInteractive(
			func(string, string, []string, []bool) ([]string, error) { return nil, nil })},
	})
	if err != nil {
		r.t.Fatalf("connect as %s: %v\n%s", user, err, r.log)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// run runs a command, and returns both outputs and the exit status.
func run(t *testing.T, c *ssh.Client, command, input string) (stdout, stderr string, status int) {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatalf("open a session: %v", err)
	}
	defer s.Close()
	var out, errs bytes.Buffer
	s.Stdout, s.Stderr, s.Stdin = &out, &errs, strings.NewReader(input)
	err = s.Run(command)
	var exit *ssh.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		status = exit.ExitStatus()
	default:
		t.Fatalf("run %q: %v (stderr %q)", command, err, errs.String())
	}
	return out.String(), errs.String(), status
}

// lines keeps what is logged.
type lines struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.all.String()
}

// events are those of a code so far.
func (l *lines) events(code audit.Code) (out []map[string]any) {
	for line := range strings.Lines(l.String()) {
		var e map[string]any
		if json.Unmarshal([]byte(line), &e) == nil && e["event"] == string(code) {
			out = append(out, e)
		}
	}
	return out
}

// event waits for an event with these fields.
func (r *rig) event(code audit.Code, fields map[string]any) map[string]any {
	r.t.Helper()
	var found map[string]any
	r.eventually(fmt.Sprintf("event %s with %v", code, fields), func() bool {
		for _, e := range r.log.events(code) {
			fits := true
			for k, v := range fields {
				if n, ok := e[k].(float64); ok {
					e[k] = int64(n)
				}
				fits = fits && fmt.Sprint(e[k]) == fmt.Sprint(v)
			}
			if fits {
				found = e
				return true
			}
		}
		return false
	})
	return found
}

func (r *rig) eventually(what string, holds func() bool) {
	r.t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("never came: %s\n%s", what, r.log)
}

type people struct{}

func (people) ByName(_ context.Context, name string) (directory.Account, error) {
	return directory.Account{Name: name, UID: 1000, GID: 1000}, nil
}

func (people) ByUID(context.Context, uint32) (directory.Account, error) {
	return directory.Account{}, directory.ErrNoSuchUser
}

func (people) InGroup(_ context.Context, a directory.Account, group string) (bool, error) {
	return group == "staff" && a.Name == "alice", nil
}

type yes struct{}

func (yes) Ask(context.Context, secondfactor.Question, conversation.Person) error { return nil }

type hostKeys struct{ key ssh.Signer }

func (k hostKeys) HostSigners() []ssh.Signer { return []ssh.Signer{k.key} }
func (k hostKeys) Announced() []ssh.Signer   { return []ssh.Signer{k.key} }

// memoryTape is a recording in memory.
type memoryTape struct {
	meta   record.Meta
	failed chan struct{}

	mu      sync.Mutex
	out, in bytes.Buffer
	sizes   [][2]int
	err     error
	closed  bool
}

func (m *memoryTape) Name() string { return "recording-" + m.meta.Channel }

func (m *memoryTape) Output(p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out.Write(p)
	return m.err
}

func (m *memoryTape) Typed(p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.meta.Input {
		m.in.Write(p)
	}
	return m.err
}

func (m *memoryTape) Resize(w, h int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sizes = append(m.sizes, [2]int{w, h})
	return m.err
}

func (m *memoryTape) Failed() <-chan struct{} { return m.failed }

func (m *memoryTape) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func (m *memoryTape) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return m.err
}

// fail breaks the recording.
func (m *memoryTape) fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		m.err = err
		close(m.failed)
	}
}

func (m *memoryTape) state() (out, in string, sizes [][2]int, closed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.out.String(), m.in.String(), slices.Clone(m.sizes), m.closed
}

// farServer is a target: an SSH server that does what its commands say.
type farServer struct {
	t    *testing.T
	port int
	key  ssh.Signer

	mu    sync.Mutex
	conns []*ssh.ServerConn
	seen  []string // requests and channels, by their names
	agent chan error
}

func newFarServer(t *testing.T) *farServer {
	t.Helper()
	f := &farServer{t: t, key: signer(t), agent: make(chan error, 16)}
	// 127.0.0.2 is another target on the same port.
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f.port = l.Addr().(*net.TCPAddr).Port
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(c)
		}
	}()
	return f
}

func (f *farServer) saw(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = append(f.seen, what)
}

func (f *farServer) has(what string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Contains(f.seen, what)
}

func (f *farServer) serve(c net.Conn) {
	cfg := &ssh.ServerConfig{PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil }}
	cfg.AddHostKey(f.key)
	sc, channels, requests, err := ssh.NewServerConn(c, cfg)
	if err != nil {
		return
	}
	f.mu.Lock()
	f.conns = append(f.conns, sc)
	f.mu.Unlock()
	go f.global(sc, requests)
	for ch := range channels {
		f.saw("channel " + ch.ChannelType())
		switch ch.ChannelType() {
		case "session":
			s, requests, err := ch.Accept()
			if err == nil {
				go f.session(sc, s, requests)
			}
		case "direct-tcpip":
			go f.dial(ch)
		default:
			_ = ch.Reject(ssh.UnknownChannelType, "no")
		}
	}
}

func (f *farServer) dial(nc ssh.NewChannel) {
	var m struct {
		Host       string
		Port       uint32
		Origin     string
		OriginPort uint32
	}
	_ = ssh.Unmarshal(nc.ExtraData(), &m)
	f.saw("to " + m.Host)
	c, err := net.DialTimeout("tcp", net.JoinHostPort(m.Host, fmt.Sprint(m.Port)), time.Second)
	if err != nil {
		_ = nc.Reject(ssh.ConnectionFailed, "\x1b[31mno\n")
		return
	}
	ch, requests, err := nc.Accept()
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	go func() {
		_, _ = io.Copy(c, ch)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(ch, c)
	_ = ch.CloseWrite()
	_ = ch.Close()
	_ = c.Close()
}
