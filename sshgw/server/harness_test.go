// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
	"github.com/sallyport-mfa/sallyport/sshgw/server"
)

// limit bounds every wait of these tests; none asserts how long something takes.
const limit = 20 * time.Second

func newSigner(t testing.TB) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

type hostKeys []ssh.Signer

func (h hostKeys) HostSigners() []ssh.Signer { return h[:1] }
func (h hostKeys) Announced() []ssh.Signer   { return h }

// people is a name service.
type people map[string]uint32

func (p people) ByName(_ context.Context, name string) (directory.Account, error) {
	if uid, ok := p[name]; ok {
		return directory.Account{Name: name, UID: uid, GID: uid}, nil
	}
	return directory.Account{}, directory.ErrNoSuchUser
}

func (p people) ByUID(context.Context, uint32) (directory.Account, error) {
	return directory.Account{}, directory.ErrNoSuchUser
}

func (p people) InGroup(context.Context, directory.Account, string) (bool, error) { return false, nil }

// asker stands for authd.
type asker struct {
	mu     sync.Mutex
	asked  []secondfactor.Question
	answer func(context.Context, secondfactor.Question, conversation.Person) error
}

func (a *asker) Ask(ctx context.Context, q secondfactor.Question, p conversation.Person) error {
	a.mu.Lock()
	a.asked = append(a.asked, q)
	answer := a.answer
	a.mu.Unlock()
	if answer == nil {
		return nil
	}
	return answer(ctx, q, p)
}

func (a *asker) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.asked)
}

// passcode is an authd that takes one passcode.
func passcode(ctx context.Context, _ secondfactor.Question, p conversation.Person) error {
	code, err := p.Ask(ctx, "Passcode: ", true)
	switch {
	case err != nil:
		return err
	case code.Reveal() != "123456":
		return secondfactor.ErrRefused
	}
	return nil
}

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// gateway is a server on loopback, with what tests may set before start.
type gateway struct {
	t        testing.TB
	dir      string
	keys     hostKeys
	settings server.Settings
	policy   auth.Policy
	people   people
	asker    *asker
	pam      secondfactor.Caller
	authd    secondfactor.Caller // for keys
	handler  server.Handler
	log      *journal
	roster   *roster.Roster

	server  *server.Server
	address string
}

func newGateway(t testing.TB) *gateway {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	uid := uint32(os.Getuid())
	g := &gateway{
		t: t, dir: dir, keys: hostKeys{newSigner(t), newSigner(t)}, people: people{"alice": uid, "bob": uid}, asker: &asker{answer: passcode},
		handler: echo, log: &journal{}, roster: roster.New(time.Now),
		settings: server.Settings{
			Limits: config.Limits{Connections: 100, Unauthenticated: 50, UnauthenticatedFrom: 50, ConnectionsFrom: 100, ConnectionsUser: 100,
				Channels: 10, AuthTries: 10},
			Timeouts: config.Timeouts{Handshake: limit, Banner: time.Second},
		},
	}
	g.policy = auth.Policy{
		First: config.FirstFactor{AuthorizedKeys: []string{filepath.Join(dir, "%u.keys")}}, AuthTry: 10, Banner: time.Second, Contact: "the help desk",
		Door:  func(context.Context, config.DoorQuery) *config.Door { return nil },
		Batch: func(config.DoorQuery) *config.Batch { return nil },
	}
	return g
}

// authorize writes a line of authorized keys.
func (g *gateway) authorize(user, options string, key ssh.PublicKey) {
	g.t.Helper()
	line := string(ssh.MarshalAuthorizedKey(key))
	if options != "" {
		line = options + " " + line
	}
	f, err := os.OpenFile(filepath.Join(g.dir, user+".keys"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = io.WriteString(f, line)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		g.t.Fatal(err)
	}
}

// write writes a file and returns its path.
func (g *gateway) write(name, text string) string {
	g.t.Helper()
	path := filepath.Join(g.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

func (g *gateway) start() *gateway {
	g.t.Helper()
	log := slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	door := auth.New(auth.Options{
		Policy: func() auth.Policy { return g.policy }, Accounts: g.people, Second: g.asker, PAM: g.pam, Authd: g.authd, Log: log,
	})
	g.server = server.New(server.Options{
		Settings: func() server.Settings { return g.settings }, Keys: g.keys, Door: door, Handler: g.handler, Roster: g.roster,
		Events: &audit.Log{Logger: log}, Log: log,
	})
	ctx, cancel := context.WithCancel(context.Background())
	l, err := server.Listen(ctx, "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	g.address = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- g.server.Serve(ctx, l) }()
	g.t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			g.t.Errorf("serve: %v", err)
		}
		over, stop := context.WithCancel(context.Background())
		stop()
		g.server.Drain(over, "")
		if g.t.Failed() {
			g.t.Logf("the log:\n%s", g.log)
		}
	})
	return g
}

// client is a connection of x/crypto's client. questions answers keyboard-interactive.
func (g *gateway) client(user string, questions ssh.KeyboardInteractiveChallenge, auths ...ssh.AuthMethod) (*ssh.Client, error) {
	if questions != nil {
		auths = append(auths, ssh.KeyboardInteractive(questions))
	}
	return ssh.Dial("tcp", g.address, &ssh.ClientConfig{
		User: user, Auth: auths, HostKeyCallback: ssh.FixedHostKey(g.keys[0].PublicKey()), Timeout: limit,
	})
}

// code answers each question with a passcode.
func code(answer string) ssh.KeyboardInteractiveChallenge {
	return func(_, _ string, questions []string, _ []bool) ([]string, error) {
		answers := make([]string, len(questions))
		for i := range answers {
			answers[i] = answer
		}
		return answers, nil
	}
}

// echo serves sessions that send back what they get, and says who they are for "exec".
func echo(ctx context.Context, c *server.Conn, channels <-chan ssh.NewChannel, requests <-chan *ssh.Request) {
	c.Go(func() { answers(c, requests) })
	for n := range channels {
		if n.ChannelType() != "session" {
			_ = n.Reject(ssh.UnknownChannelType, "no")
			continue
		}
		ch, in, err := n.Accept()
		if err != nil {
			continue
		}
		c.Go(func() { session(c, ch, in) })
	}
}

// answers answers the requests of a connection, one after the other.
func answers(c *server.Conn, requests <-chan *ssh.Request) {
	for r := range requests {
		if !c.Answer(r) {
			_ = r.Reply(false, nil)
		}
	}
}

func session(c *server.Conn, ch ssh.Channel, in <-chan *ssh.Request) {
	defer func() { _ = ch.Close() }()
	for r := range in {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		var command struct{ Text string }
		_ = ssh.Unmarshal(r.Payload, &command)
		_ = r.Reply(true, nil)
		switch command.Text {
		case "panic":
			panic("as authd")
		case "whoami":
			id := c.Identity
			_, _ = fmt.Fprintf(ch, "%s %s %s %s", id.Account.Name, id.Method, id.Factor, id.Limits.Command)
		default:
			_, _ = io.Copy(ch, ch)
		}
		_, _ = ch.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{7}))
		go ssh.DiscardRequests(in)
		return
	}
}

// whoami is what a connection is to the gateway.
func whoami(t testing.TB, c *ssh.Client) string {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatalf("open a session: %v", err)
	}
	defer func() { _ = s.Close() }()
	out, err := s.Output("whoami")
	var status *ssh.ExitError
	if !errors.As(err, &status) || status.ExitStatus() != 7 {
		t.Fatalf("whoami: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if so() {
			return
		}
	}
	t.Fatalf("not so in the end: %s", what)
}

func mustDial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func chmod(t testing.TB, path string, mode os.FileMode) {
	check(t, os.Chmod(path, mode))
	t.Cleanup(func() { _ = os.Chmod(path, 0o700) })
}

func remove(t testing.TB, path string) { check(t, os.Remove(path)) }
func mkdir(t testing.TB, path string)  { check(t, os.Mkdir(path, 0o755)) }
func mkfifo(t testing.TB, path string) { check(t, unix.Mkfifo(path, 0o600)) }

// pamStub is a PAM that knows passwords by user.
type pamStub map[string]string

func (s pamStub) Call(ctx context.Context, req *frames.Request, p conversation.Person) (frames.Outcome, error) {
	answer, err := p.Ask(ctx, "Password: ", false)
	if err != nil {
		return 0, err
	}
	if want, ok := s[req.User]; !ok || want != answer.Reveal() {
		return frames.OutcomeDeny, nil
	}
	return frames.OutcomeAllow, nil
}
