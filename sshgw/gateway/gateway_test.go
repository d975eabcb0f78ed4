// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/sshgw/control"
)

// log is a buffer for several goroutines.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// started is a gateway that runs in this process.
type started struct {
	*control.Client
	t       *testing.T
	dir     string
	config  string // what sshgw.toml says beside the folders
	address string
	log     *log
	reload  chan os.Signal
	stop    context.CancelFunc
	done    chan error
}

const targets = `
[[target]]
name = "db1"
host = "127.0.0.1"
`

func (s *started) write(more string) {
	s.t.Helper()
	text := fmt.Sprintf("listen = [\"127.0.0.1:0\"]\nstate_dir = %q\nsocket_dir = %q\n%s\n[targets]\nfiles = [%q]\n%s",
		filepath.Join(s.dir, "state"), filepath.Join(s.dir, "run"), s.config, filepath.Join(s.dir, "targets.toml"), more)
	for name, text := range map[string]string{"sshgw.toml": text, "targets.toml": targets} {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
			s.t.Fatal(err)
		}
	}
}

func start(t *testing.T, top string) *started {
	t.Helper()
	dir := t.TempDir()
	s := &started{t: t, dir: dir, config: top, log: &log{}, reload: make(chan os.Signal, 1), done: make(chan error, 1)}
	s.Client = &control.Client{Path: filepath.Join(dir, "run", control.SocketName)}
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("")
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	ready := make(chan []net.Addr, 1)
	go func() {
		s.done <- Run(ctx, Options{ConfigPath: filepath.Join(dir, "sshgw.toml"), Version: "test", Log: slog.New(slog.NewTextHandler(s.log, nil)),
			Reload: s.reload, Ready: func(a []net.Addr) { ready <- a }})
	}()
	select {
	case a := <-ready:
		s.address = a[0].String()
	case err := <-s.done:
		t.Fatalf("it ended at its start: %v\n%s", err, s.log)
	case <-time.After(time.Minute):
		t.Fatal("it does not start")
	}
	t.Cleanup(func() {
		stop()
		if err := s.over(); err != nil {
			t.Errorf("it ended with %v", err)
		}
		if t.Failed() {
			t.Logf("its log:\n%s", s.log)
		}
	})
	return s
}

func (s *started) over() error {
	s.t.Helper()
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(time.Minute):
		s.t.Fatal("it does not end")
		return nil
	}
}

func (s *started) until(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("a minute went by, and not: %s\n%s", what, s.log)
		}
	}
}

// replace changes a word of sshgw.toml.
func (s *started) replace(old, with string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "sshgw.toml")
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), old) {
		s.t.Fatalf("%q is not in %s: %v", old, text, err)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, with, 1)), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// knock asks to be let in as nobody, and returns the host key that was shown.
func (s *started) knock() (string, error) {
	var key string
	_, err := ssh.Dial("tcp", s.address, &ssh.ClientConfig{User: "nobody-here", Timeout: 30 * time.Second,
		HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { key = ssh.FingerprintSHA256(k); return nil }})
	return key, err
}

func TestLife(t *testing.T) {
	s := start(t, `metrics = ""`)
	key, err := s.knock()
	if err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Fatalf("nobody came in: %v", err)
	}
	st, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(st.HostKeys, func(k string) bool { return strings.HasPrefix(k, key+" ") }) {
		t.Errorf("%s was shown, and the status says %v", key, st.HostKeys)
	}
	if st.Version != "test" || st.Config.Targets != 1 || !slices.Equal(st.Listen, []string{s.address}) || st.Limit == 0 || st.Authd == "" {
		t.Errorf("the status is %+v", st)
	}
	if again, err := s.knock(); again != key {
		t.Errorf("another key at the next connection: %s, %v", again, err)
	}
}

func TestReloadKeepsWhatIsInForce(t *testing.T) {
	s := start(t, "")
	s.write("[limits]\nconnections = 7\n")
	s.reload <- unix.SIGHUP
	s.until("the new limit is in force", func() bool {
		st, err := s.Status(t.Context())
		return err == nil && st.Limit == 7 && st.Config.ReloadError == ""
	})
	s.write("[limits]\nconections = 8\n")
	s.reload <- unix.SIGHUP
	s.until("the error is said", func() bool {
		st, err := s.Status(t.Context())
		return err == nil && st.Limit == 7 && strings.Contains(st.Config.ReloadError, "conections")
	})
	if text := s.log.String(); !strings.Contains(text, "event=gw_reload") || !strings.Contains(text, "result=failed") || !strings.Contains(text, "conections") {
		t.Errorf("the log says\n%s", text)
	}
	if _, err := s.Reload(t.Context()); !errors.Is(err, control.ErrControl) || !strings.Contains(err.Error(), "conections") {
		t.Errorf("by the control socket: %v", err)
	}
	// What takes a restart is named, and changes nothing.
	s.config = `metrics = "127.0.0.1:9"`
	s.write("")
	if st, err := s.Reload(t.Context()); err != nil || !slices.Equal(st.Config.Restart, []string{"metrics"}) || st.Config.ReloadError != "" {
		t.Errorf("%+v, %v", st.Config, err)
	}
	// So do the folders: sockets and files are where they were.
	s.config = ""
	s.write("")
	s.replace(`state_dir = "`+filepath.Join(s.dir, "state"), `state_dir = "`+filepath.Join(s.dir, "elsewhere"))
	s.replace(`socket_dir = "`+filepath.Join(s.dir, "run"), `socket_dir = "`+filepath.Join(s.dir, "elsewhere"))
	if st, err := s.Reload(t.Context()); err != nil || !slices.Equal(st.Config.Restart, []string{"state_dir", "socket_dir"}) || !strings.Contains(st.Authd, filepath.Join(s.dir, "run")) {
		t.Errorf("%+v, %v", st, err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "elsewhere")); err == nil {
		t.Error("a reload went elsewhere")
	}
	s.write("[record]\ndir = \"" + s.dir + "/tapes\"\n[keys]\ndir = \"" + s.dir + "/other\"\n")
	if st, err := s.Reload(t.Context()); err != nil || !slices.Equal(st.Config.Restart, []string{"record.dir", "keys.dir"}) {
		t.Errorf("%+v, %v", st.Config, err)
	}
	// A key that is gone is no reason to serve without one.
	keys := filepath.Join(s.dir, "state", "keys")
	if err := os.Rename(keys, keys+".gone"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Reload(t.Context()); err == nil {
		t.Error("a reload without keys")
	}
	if _, err := s.knock(); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("after that: %v", err)
	}
	if err := os.Rename(keys+".gone", keys); err != nil {
		t.Fatal(err)
	}
}

func TestAFailedReloadChangesNoKey(t *testing.T) {
	s := start(t, "")
	before, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A host key that a restart would take, and a credential without its key.
	keys := filepath.Join(s.dir, "state", "keys")
	if err := os.Remove(filepath.Join(keys, "ssh_host_ecdsa_key")); err != nil {
		t.Fatal(err)
	}
	s.write("[[credential]]\nname = \"old\"\nkind = \"key\"\nkey_file = \"" + s.dir + "/none\"\n")
	if _, err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "old") {
		t.Fatalf("a reload without the key of a credential: %v", err)
	}
	if after, err := s.Status(t.Context()); err != nil || !slices.Equal(before.HostKeys, after.HostKeys) {
		t.Errorf("the host keys were %v and are %v: %v", before.HostKeys, after.HostKeys, err)
	}
	if strings.Contains(s.log.String(), "event=gw_keys ") {
		t.Errorf("the log says that keys have changed:\n%s", s.log)
	}
}

func TestStopEndsHandshakes(t *testing.T) {
	s := start(t, "[timeouts]\ndrain = \"1s\"\n")
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s.until("the handshake is counted", func() bool {
		st, err := s.Status(t.Context())
		return err == nil && st.Handshakes == 1
	})
	s.stop()
	if err := s.over(); err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", s.address); err == nil {
		t.Error("it still takes connections")
	}
	if _, err := os.Stat(s.Path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its control socket is left: %v", err)
	}
	if !strings.Contains(s.log.String(), "setting=timeouts.drain") {
		t.Errorf("the log does not name the setting:\n%s", s.log)
	}
}

func TestSecondGatewayIsKeptOut(t *testing.T) {
	s := start(t, "")
	err := Run(t.Context(), Options{ConfigPath: filepath.Join(s.dir, "sshgw.toml"), Log: slog.New(slog.DiscardHandler)})
	if err == nil || !strings.Contains(err.Error(), "another gateway answers") {
		t.Errorf("a second one: %v", err)
	}
	if _, err := s.Status(t.Context()); err != nil {
		t.Errorf("the first one after that: %v", err)
	}
}

func TestMetricsOnTheLoopback(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	start(t, fmt.Sprintf("metrics = %q", address))
	res, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(res.Body); err != nil || !strings.Contains(text.String(), "sallyport_sshgw_targets 1\n") {
		t.Errorf("%v\n%s", err, &text)
	}
}
