// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// site is a daemon that runs, with its files.
type site struct {
	testing.TB
	dir      string
	verifier *verifiertest.Server
	log      *lockedBuilder
	reload   chan os.Signal
	stop     context.CancelFunc
	done     chan error
}

type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (s *site) write(settings string) {
	s.Helper()
	text := fmt.Sprintf("socket_dir = %q\nstate_dir = %q\n%s\n[verifier]\nurls = [%q]\nintegration_key = %q\nsecret_key_file = %q\nca_file = %q\n",
		filepath.Join(s.dir, "run"), filepath.Join(s.dir, "state"), settings, s.verifier.URL, verifiertest.IntegrationKey, filepath.Join(s.dir, "secret"), s.verifier.CAFile)
	for name, content := range map[string]string{"authd.toml": text, "secret": verifiertest.Secret + "\n"} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(content), 0o600); err != nil {
			s.Fatal(err)
		}
	}
}

func newSite(t testing.TB, settings string) *site {
	t.Helper()
	s := &site{TB: t, dir: t.TempDir(), verifier: verifiertest.New(t), log: &lockedBuilder{}, reload: make(chan os.Signal), done: make(chan error, 1)}
	s.verifier.Codes = []string{"123456", "234567", "345678"}
	s.write(settings)
	return s
}

// start runs the daemon until stop or the end of the test.
func (s *site) start() *site {
	s.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	ready := make(chan struct{})
	go func() {
		s.done <- Run(ctx, Options{ConfigPath: filepath.Join(s.dir, "authd.toml"), Version: "test", Log: slog.New(slog.NewTextHandler(s.log, nil)),
			Reload: s.reload, Ready: func() { close(ready) }})
	}()
	select {
	case <-ready:
	case err := <-s.done:
		s.Fatalf("did not start: %v", err)
	}
	s.Cleanup(func() {
		cancel()
		<-s.done
		close(s.done)
	})
	return s
}

func (s *site) dial(name string) *net.UnixConn {
	s.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(s.dir, "run", name), Net: "unix"})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

func (s *site) send(c *net.UnixConn, f frames.Frame) {
	s.Helper()
	if err := frames.WriteFrame(c, f); err != nil {
		s.Fatal(err)
	}
}

// until reads frames up to one of the kind of want.
func until[F frames.Frame](s *site, c *net.UnixConn) F {
	s.Helper()
	for {
		f, err := frames.ReadFrame(c)
		if err != nil {
			s.Fatalf("waiting for a frame: %v\n%s", err, s.log)
		}
		if want, ok := f.(F); ok {
			return want
		}
		if d, ok := f.(*frames.Done); ok {
			s.Fatalf("the call ended early: %s\n%s", d, s.log)
		}
	}
}

// request is a sudo by root, the one account that every machine has.
func request() *frames.Request {
	return &frames.Request{Hook: frames.HookAuthenticate, Version: "test", Service: "sudo", User: "root"}
}

func (s *site) login(code string) frames.Outcome {
	s.Helper()
	c := s.dial(RootSocketName)
	s.send(c, request())
	until[*frames.Ask](s, c)
	s.send(c, &frames.Answer{Text: frames.Secret(code)})
	return until[*frames.Done](s, c).Outcome
}

func TestLoginOverTheSocket(t *testing.T) {
	s := newSite(t, "").start()
	for name, mode := range map[string]os.FileMode{RootSocketName: 0o600, UserSocketName: 0o666} {
		info, err := os.Lstat(filepath.Join(s.dir, "run", name))
		if err != nil || info.Mode().Perm() != mode || info.Mode().Type() != os.ModeSocket {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if got := s.login("123456"); got != frames.OutcomeAllow {
		t.Errorf("%s\n%s", got, s.log)
	}
	if n := strings.Count(s.log.String(), "msg=login"); n != 1 {
		t.Errorf("%d events\n%s", n, s.log)
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
	s.done <- nil
	if _, err := os.Lstat(filepath.Join(s.dir, "run", RootSocketName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestStaleSocketsAndLinksAreReplaced(t *testing.T) {
	s := newSite(t, "")
	run := filepath.Join(s.dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(s.dir, "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, filepath.Join(run, RootSocketName)); err != nil {
		t.Fatal(err)
	}
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(run, UserSocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	_ = stale.Close()
	s.start()
	if got := s.login("123456"); got != frames.OutcomeAllow {
		t.Errorf("%s", got)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "precious" {
		t.Errorf("what the link named: %q, %v", b, err)
	}
}

func TestSecondDaemonIsKeptOut(t *testing.T) {
	s := newSite(t, "").start()
	err := s.refusesToStart()
	if err == nil || !strings.Contains(err.Error(), "another authd") {
		t.Errorf("got %v", err)
	}
	if got := s.login("123456"); got != frames.OutcomeAllow {
		t.Errorf("the first one: %s", got)
	}
}

// refusesToStart runs a daemon that is expected to end at once.
func (s *site) refusesToStart() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return Run(ctx, Options{ConfigPath: filepath.Join(s.dir, "authd.toml"), Log: slog.New(slog.DiscardHandler)})
}

func TestSocketDirOfOthersIsRefused(t *testing.T) {
	s := newSite(t, "")
	run := filepath.Join(s.dir, "run")
	if err := os.Mkdir(run, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(run, 0o777); err != nil {
		t.Fatal(err)
	}
	err := s.refusesToStart()
	if err == nil || !strings.Contains(err.Error(), "can be written by others") {
		t.Errorf("got %v", err)
	}
}

func TestFloodOnOneSocketLeavesTheOtherAlone(t *testing.T) {
	s := newSite(t, "[limits]\nuser_connections_uid = 2\n").start()
	for range 2 {
		s.dial(UserSocketName) // says nothing
	}
	// The server counts a connection when it accepts it, which is in order.
	if got := until[*frames.Done](s, s.dial(UserSocketName)).Outcome; got != frames.OutcomeUnavailable {
		t.Errorf("the third: %s", got)
	}
	if !strings.Contains(s.log.String(), "event=refused") {
		t.Errorf("not logged: %s", s.log)
	}
	if got := s.login("123456"); got != frames.OutcomeAllow {
		t.Errorf("on authd.sock: %s", got)
	}
}

// One user's sudo must not take the places of everybody's sshd.
func TestFloodOfOneUsersSudoLeavesOthersIn(t *testing.T) {
	s := newSite(t, "[limits]\nroot_connections_uid = 2\n").start()
	sudo := func() *net.UnixConn {
		c, r := s.dial(RootSocketName), request()
		r.RUID = 1000
		s.send(c, r)
		return c
	}
	held := []*net.UnixConn{sudo(), sudo()}
	for _, c := range held {
		until[*frames.Ask](s, c)
	}
	if got := until[*frames.Done](s, sudo()).Outcome; got != frames.OutcomeUnavailable {
		t.Errorf("the third: %s", got)
	}
	if !strings.Contains(s.log.String(), "too many connections of one user") {
		t.Errorf("not logged: %s", s.log)
	}
	if got := s.login("123456"); got != frames.OutcomeAllow {
		t.Errorf("of root: %s", got)
	}
	s.send(held[0], &frames.Answer{Text: "234567"})
	if got := until[*frames.Done](s, held[0]).Outcome; got != frames.OutcomeAllow {
		t.Errorf("the first: %s", got)
	}
	until[*frames.Ask](s, retry(s, sudo))
}

// All users together cannot take the places that are kept for root's own logins.
func TestFloodOfManyUsersSudoLeavesRootIn(t *testing.T) {
	s := newSite(t, "[limits]\nroot_connections = 8\n").start()
	for uid := range uint32(6) {
		c, r := s.dial(RootSocketName), request()
		r.RUID = 1000 + uid
		s.send(c, r)
		until[*frames.Ask](s, c)
	}
	c, r := s.dial(RootSocketName), request()
	r.RUID = 2000
	s.send(c, r)
	if got := until[*frames.Done](s, c).Outcome; got != frames.OutcomeUnavailable {
		t.Errorf("the seventh user: %s", got)
	}
	if got := s.login("123456"); got != frames.OutcomeAllow {
		t.Errorf("of root: %s", got)
	}
}

// retry calls again while a place is on its way back.
func retry(s *site, dial func() *net.UnixConn) *net.UnixConn {
	s.Helper()
	for {
		c := dial()
		f, err := frames.ReadFrame(c)
		if err != nil {
			s.Fatal(err)
		}
		if _, refused := f.(*frames.Done); !refused {
			return c
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestBrokenPeers(t *testing.T) {
	s := newSite(t, "").start()
	for name, bytes := range map[string]string{
		"not a frame":     "GET / HTTP/1.1\r\n\r\n",
		"another version": "SP\x02\x01\x00\x00\x00\x00",
		"huge":            "SP\x01\x01\xff\xff\xff\xff",
		"not a request":   "SP\x01\x02\x00\x00\x00\x04\x10\x00\x01x",
	} {
		c := s.dial(RootSocketName)
		if _, err := c.Write([]byte(bytes)); err != nil {
			t.Fatal(err)
		}
		if f, err := frames.ReadFrame(c); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: got %v, %v, want the end", name, f, err)
		}
	}

	c := s.dial(RootSocketName)
	s.send(c, request())
	until[*frames.Ask](s, c)
	s.send(c, &frames.Answer{Text: "push"})
	s.verifier.Started(t)
	s.send(c, &frames.Answer{Text: "unasked"})
	s.send(c, &frames.Answer{Text: "unasked"})
	s.waitLog("reason=protocol_error")

	c = s.dial(RootSocketName)
	s.send(c, request())
	until[*frames.Ask](s, c)
	_ = c.Close()
	s.waitLog("reason=peer_gone")

	// A push waits: the hang-up is noticed although nothing is asked.
	c = s.dial(RootSocketName)
	s.send(c, request())
	until[*frames.Ask](s, c)
	s.send(c, &frames.Answer{Text: "push"})
	s.verifier.Started(t)
	_ = c.Close()
	s.waitLog("reason=peer_gone", "factor=push")
	if got := s.login("123456"); got != frames.OutcomeAllow {
		t.Errorf("afterwards: %s", got)
	}
}

// waitLog waits for a line with all of the words.
func (s *site) waitLog(words ...string) {
	s.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		for line := range strings.Lines(s.log.String()) {
			found := true
			for _, w := range words {
				found = found && strings.Contains(line, w)
			}
			if found {
				return
			}
		}
		if time.Now().After(deadline) {
			s.Fatalf("no log line with %q:\n%s", words, s.log)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func TestStopEndsConversations(t *testing.T) {
	s := newSite(t, "[timeouts]\nstop_timeout = \"100ms\"\n").start()
	c := s.dial(RootSocketName)
	s.send(c, request())
	until[*frames.Ask](s, c)
	s.stop()
	if got := until[*frames.Done](s, c).Outcome; got != frames.OutcomeUnavailable {
		t.Errorf("got %s", got)
	}
	s.waitLog("reason=shutdown", "setting=stop_timeout")
}

func TestReload(t *testing.T) {
	s := newSite(t, "").start()
	// A conversation goes on over a reload.
	c := s.dial(RootSocketName)
	s.send(c, request())
	until[*frames.Ask](s, c)

	s.write("[services.default]\nattempts = 1\n")
	s.reload <- syscall.SIGHUP
	s.waitLog("event=reload")
	s.send(c, &frames.Answer{Text: "123456"})
	if got := until[*frames.Done](s, c).Outcome; got != frames.OutcomeAllow {
		t.Errorf("begun before: %s", got)
	}
	if got := s.login("000000"); got != frames.OutcomeMaxTries {
		t.Errorf("one attempt: %s", got)
	}

	s.write("nonsense = 1\n")
	s.reload <- syscall.SIGHUP
	s.waitLog("event=reload_failed", "unknown key nonsense")
	if got := s.login("000000"); got != frames.OutcomeMaxTries {
		t.Errorf("after a broken file: %s", got)
	}
}

func TestGatewaySocketServesNobodyByDefault(t *testing.T) {
	e := &login.Engine{}
	cfg, err := config.Parse("authd.toml", "[verifier]\nurls = [\"https://v.example\"]\nintegration_key = \"DI\"\nsecret_key_file = \"x\"\n")
	if err != nil {
		t.Fatal(err)
	}
	e.Use(&login.State{Config: cfg})
	s := newServer(login.GatewaySocket, GatewaySocketName, e, nil, slog.New(slog.DiscardHandler))
	if err := s.admit(t.Context(), 0); err == nil {
		t.Error("uid 0 was let in")
	}
	root := newServer(login.RootSocket, RootSocketName, e, nil, slog.New(slog.DiscardHandler))
	if err := root.admit(t.Context(), 1000); err == nil {
		t.Error("uid 1000 was let in on authd.sock")
	}
}

func TestCheck(t *testing.T) {
	s := newSite(t, "[services.default]\nfail_mode = \"open\"\n")
	path := filepath.Join(s.dir, "authd.toml")
	if warnings, err := Check(path); err != nil || len(warnings) != 1 {
		t.Errorf("got %q, %v", warnings, err)
	}
	if err := os.Remove(s.verifier.CAFile); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(path); err == nil || !strings.Contains(err.Error(), "verifier.ca_file") {
		t.Errorf("without CA: %v", err)
	}
}

func TestSocketsFromSystemd(t *testing.T) {
	dir := t.TempDir()
	open := func(network, name string) net.Listener {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), network, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		return l
	}
	root, user := open("unix", filepath.Join(dir, "r")), open("unix", filepath.Join(dir, "u"))
	tcp := open("tcp", "127.0.0.1:0")
	for name, tc := range map[string]struct {
		passed map[string][]net.Listener
		want   string
	}{
		"both":            {map[string][]net.Listener{RootSocketName: {root}, UserSocketName: {user}}, ""},
		"unknown name":    {map[string][]net.Listener{RootSocketName: {root}, "sallyport.socket": {user}}, "FileDescriptorName="},
		"two of one name": {map[string][]net.Listener{RootSocketName: {root, user}}, "one each"},
		"no authd.sock":   {map[string][]net.Listener{UserSocketName: {user}}, "no authd.sock"},
		"TCP":             {map[string][]net.Listener{RootSocketName: {tcp}}, "no Unix stream socket"},
	} {
		l, err := takePassed(tc.passed)
		if tc.want == "" {
			if err != nil || len(l.byName) != 2 || len(l.paths) != 0 {
				t.Errorf("%s: %+v, %v", name, l, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
