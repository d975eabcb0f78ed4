// SPDX-License-Identifier: Apache-2.0

package sftp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// realServer is OpenSSH's.
const realServer = "/usr/lib/openssh/sftp-server"

// filterEnv makes the test binary an SFTP server: a filter before the real one, with
// the rules in the variable, which writes what was done to a file.
const filterEnv = "SALLYPORT_TEST_SFTP_FILTER"

func TestMain(m *testing.M) {
	if text := os.Getenv(filterEnv); text != "" {
		if err := runAsFilter(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// area is rules by folders: what is in one of them, and the folder itself.
type area struct {
	All         bool
	Read, Write []string
	OpsFile     string
}

func in(folders []string, path string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") })
}

func (a area) MaySFTP() (may, unrestricted bool) { return true, a.All }
func (a area) MayRead(path string) bool          { return in(a.Read, path) }
func (a area) MayWrite(path string) bool         { return in(a.Write, path) }
func (a area) MayReadBelow(path string) bool     { return in(a.Read, path) }
func (a area) MayWriteBelow(path string) bool    { return in(a.Write, path) }

type stdio struct{}

func (stdio) Read(p []byte) (int, error)  { return os.Stdin.Read(p) }
func (stdio) Write(p []byte) (int, error) { return os.Stdout.Write(p) }
func (stdio) Close() error                { return errors.Join(os.Stdin.Close(), os.Stdout.Close()) }

func runAsFilter(text string) error {
	var a area
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		return err
	}
	ops, err := os.Create(a.OpsFile)
	if err != nil {
		return err
	}
	defer ops.Close()
	server, err := startServer("")
	if err != nil {
		return err
	}
	defer server.Close()
	f := &Filter{Rules: a, Report: func(op Op) { _ = json.NewEncoder(ops).Encode(op) }}
	return f.Run(context.Background(), stdio{}, server)
}

// process is a server as a program.
type process struct {
	io.Reader
	in  io.WriteCloser
	cmd *exec.Cmd
}

func (p *process) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p *process) CloseWrite() error           { return p.in.Close() }
func (p *process) Close() error                { p.in.Close(); return p.cmd.Wait() }

func startServer(dir string) (*process, error) {
	cmd := exec.Command(realServer)
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	return &process{out, in, cmd}, cmd.Start()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a filter between a test and a server.
type site struct {
	t      testing.TB
	dir    string // where relative paths begin
	client net.Conn
	in     *packets
	done   chan error
	id     uint32

	mu  sync.Mutex
	ops []Op
}

// unblock is a deadline that only tells a hang from a slow machine.
const unblock = time.Minute

func newSite(t testing.TB, rules Rules, change func(*Filter)) *site {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	must(t, err)
	server, err := startServer(dir)
	must(t, err)
	return siteWith(t, dir, rules, server, change)
}

func siteWith(t testing.TB, dir string, rules Rules, server io.ReadWriteCloser, change func(*Filter)) *site {
	t.Helper()
	here, there := net.Pipe()
	s := &site{t: t, dir: dir, client: here, in: newPackets(here, "the filter"), done: make(chan error, 1)}
	f := &Filter{Rules: rules, Report: func(op Op) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.ops = append(s.ops, op)
	}}
	if change != nil {
		change(f)
	}
	go func() {
		err := f.Run(context.Background(), there, server)
		there.Close()
		server.Close()
		s.done <- err
	}()
	must(t, here.SetDeadline(time.Now().Add(unblock)))
	t.Cleanup(func() { here.Close() })
	return s
}

// raw sends bytes as they are.
func (s *site) raw(p []byte) {
	s.t.Helper()
	_, err := s.client.Write(p)
	must(s.t, err)
}

func (s *site) init() *site {
	s.t.Helper()
	s.raw([]byte{0, 0, 0, 5, fxpInit, 0, 0, 0, 6})
	p, err := s.in.next()
	must(s.t, err)
	if p[4] != fxpVersion {
		s.t.Fatalf("the answer to INIT is of type %d", p[4])
	}
	return s
}

// request is a packet with the fields, which are uint32, uint64, string, or bytes that
// go in as they are.
func (s *site) packet(what byte, fields ...any) []byte {
	s.id++
	p := start(nil, what)
	for _, f := range append([]any{s.id}, fields...) {
		switch v := f.(type) {
		case uint32:
			p = append(p, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
		case uint64:
			for shift := 56; shift >= 0; shift -= 8 {
				p = append(p, byte(v>>shift))
			}
		case string:
			p = addString(p, v)
		case []byte:
			p = append(p, v...)
		default:
			s.t.Fatalf("a field of type %T", f)
		}
	}
	return finish(p)
}

// ask sends a request and returns its answer from the type on.
func (s *site) ask(what byte, fields ...any) []byte {
	s.t.Helper()
	s.raw(s.packet(what, fields...))
	p, err := s.in.next()
	must(s.t, err)
	c := cursor{rest: p[5:]}
	if id := c.u32(); id != s.id {
		s.t.Fatalf("the answer is for %d and not for %d", id, s.id)
	}
	return slices.Clone(p[4:])
}

// code is the status of an answer, -1 if it is none.
func code(p []byte) int {
	if c, ok := statusOf(p); ok {
		return int(c)
	}
	return -1
}

func (s *site) wantCode(want int, what byte, fields ...any) {
	s.t.Helper()
	if got := code(s.ask(what, fields...)); got != want {
		s.t.Errorf("request %d %q: status %d and not %d", what, fields, got, want)
	}
}

// noAttrs are attributes that set nothing.
var noAttrs = []byte{0, 0, 0, 0}

// open returns the handle.
func (s *site) open(path string, flags uint32) string {
	s.t.Helper()
	return s.handle(s.ask(fxpOpen, path, flags, noAttrs))
}

func (s *site) handle(p []byte) string {
	s.t.Helper()
	c := cursor{rest: p[5:]}
	h := c.str()
	if p[0] != fxpHandle || c.bad {
		s.t.Fatalf("no handle, but %q", p)
	}
	return string(h)
}

func (s *site) told() []Op {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ops)
}

func (s *site) close() error {
	s.client.Close()
	return <-s.done
}

func (s *site) put(name, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	must(s.t, os.MkdirAll(filepath.Dir(path), 0o700))
	must(s.t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
