// SPDX-License-Identifier: Apache-2.0

package pam

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// built holds what TestMain makes of the C sources: the module as it is shipped
// but for the uid that it expects, and the program that uses it.
var built struct {
	dir     string
	module  string // expects sockets of the uid that runs the tests
	foreign string // expects sockets of another uid
	host    string // test/host.c
	preload string // test/preload.c
}

func TestMain(m *testing.M) {
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sallyport-pam")
	if err != nil {
		fmt.Fprintln(os.Stderr, "pam:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	// A child under another uid loads the module from here.
	if err := os.Chmod(dir, 0o755); err != nil {
		fmt.Fprintln(os.Stderr, "pam:", err)
		return 1
	}
	built.dir = dir
	built.module = filepath.Join(dir, "pam_sallyport.so")
	built.foreign = filepath.Join(dir, "pam_foreign.so")
	built.host = filepath.Join(dir, "host")
	built.preload = filepath.Join(dir, "preload.so")
	module := func(out string, uid int) []string {
		return []string{"-std=gnu11", "-O2", "-fPIC", "-shared", "-fvisibility=hidden",
			"-fstack-protector-strong", "-D_FORTIFY_SOURCE=2", "-Wall", "-Wextra", "-Werror",
			"-Wl,-z,relro,-z,now,-z,defs,--version-script=pam_sallyport.map",
			"-DSALLYPORT_SERVER_UID=" + strconv.Itoa(uid), `-DSALLYPORT_VERSION="test"`,
			"-o", out, "module.c", "client.c", "frame.c", "-lpam"}
	}
	for _, args := range [][]string{
		module(built.module, os.Getuid()),
		module(built.foreign, os.Getuid()+1),
		{"-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-rdynamic", "-pthread", "-o", built.host, "test/host.c", "-lpam", "-ldl"},
		{"-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-o", built.preload, "test/preload.c", "-ldl"},
	} {
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "pam: gcc %s: %v\n%s", strings.Join(args, " "), err, out)
			return 1
		}
	}
	return m.Run()
}

// hostRun is one run of the test host.
type hostRun struct {
	service string   // name of the stack, "test" if empty
	args    []string // of the module
	module  string   // built.module if empty
	socket  string   // the folder of the socket, given as socket_dir unless empty
	env     []string
	shell   string // what a shell does before it becomes the host
	steps   []string
}

// run gives the lines that the host reported.
func (h hostRun) run(t *testing.T) []string {
	t.Helper()
	confdir := t.TempDir()
	if h.module == "" {
		h.module = built.module
	}
	if h.service == "" {
		h.service = "test"
	}
	if h.socket != "" {
		h.args = append([]string{"socket_dir=" + h.socket}, h.args...)
	}
	var stack strings.Builder
	for _, typ := range []string{"auth", "account", "session", "password"} {
		fmt.Fprintf(&stack, "%s required %s %s\n", typ, h.module, strings.Join(h.args, " "))
	}
	for _, name := range []string{h.service, "other"} {
		if err := os.WriteFile(filepath.Join(confdir, name), []byte(stack.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	args := append([]string{confdir, h.service}, h.steps...)
	cmd := exec.CommandContext(ctx, built.host, args...)
	if h.shell != "" {
		cmd = exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", h.shell + `; exec "$0" "$@"`, built.host}, args...)...)
	}
	cmd.Env = h.env
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("test host: %v, reported\n%s", err, out)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}

// rawSteps calls every hook of the module, in the order of the documented table.
func rawSteps(module string, args []string) []string {
	var steps []string
	for _, hook := range hookNames {
		steps = append(steps, "raw="+strings.Join(append([]string{hook, module}, args...), ","))
	}
	return steps
}

// daemon is a stand-in for authd on a socket of its own.
type daemon struct {
	dir      string
	listener *net.UnixListener
	mu       sync.Mutex
	requests []*frames.Request
}

// socketDir makes a short path, as socket addresses are short.
func socketDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serve answers each connection with handle, until the test ends.
func serve(t testing.TB, handle func(*conn)) *daemon {
	t.Helper()
	dir := socketDir(t)
	d := listen(t, SocketPath(dir), handle)
	d.dir = dir
	return d
}

// listen is serve on a socket of any path.
func listen(t testing.TB, path string, handle func(*conn)) *daemon {
	t.Helper()
	d := &daemon{}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	d.listener = l
	var wg sync.WaitGroup
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				handle(&conn{UnixConn: c, daemon: d})
			})
		}
	})
	return d
}

// socket is the daemon's socket by its path.
func (d *daemon) socket() string { return SocketPath(d.dir) }

func (d *daemon) lastRequest(t *testing.T) *frames.Request {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.requests) == 0 {
		t.Fatal("the daemon got no request")
	}
	return d.requests[len(d.requests)-1]
}

// conn is the daemon's end of one call.
type conn struct {
	*net.UnixConn
	daemon *daemon
}

// request reads REQUEST. Without one it gives a request of no hook.
func (c *conn) request() *frames.Request {
	f, err := frames.ReadFrame(c)
	r, ok := f.(*frames.Request)
	if err != nil || !ok {
		return &frames.Request{}
	}
	c.daemon.mu.Lock()
	defer c.daemon.mu.Unlock()
	c.daemon.requests = append(c.daemon.requests, r)
	return r
}

// say sends frames; after a question it reads the reply, which it returns last.
func (c *conn) say(list ...frames.Frame) frames.Frame {
	var reply frames.Frame
	for _, f := range list {
		if err := frames.WriteFrame(c, f); err != nil {
			return nil
		}
		switch f.(type) {
		case *frames.Ask, *frames.AskSecret:
			var err error
			if reply, err = frames.ReadFrame(c); err != nil {
				return nil
			}
		}
	}
	return reply
}

// linger keeps the connection open until the module has closed its end.
func (c *conn) linger() {
	buf := make([]byte, 256)
	for {
		if _, err := c.Read(buf); err != nil {
			return
		}
	}
}

// script is a daemon that reads the request, says the same in each call, and lingers.
func script(list ...frames.Frame) func(*conn) {
	return func(c *conn) {
		c.request()
		c.say(list...)
		c.linger()
	}
}

func done(o frames.Outcome) frames.Frame { return &frames.Done{Outcome: o} }

// want asserts that the report holds these lines, in this order, others between.
func want(t *testing.T, report []string, lines ...string) {
	t.Helper()
	rest := report
	for _, line := range lines {
		i := 0
		for i < len(rest) && rest[i] != line {
			i++
		}
		if i == len(rest) {
			t.Fatalf("no line %q (in this order) in the report\n%s", line, strings.Join(report, "\n"))
		}
		rest = rest[i+1:]
	}
}

// unwanted asserts that no line of the report starts with prefix.
func unwanted(t *testing.T, report []string, prefix string) {
	t.Helper()
	for _, line := range report {
		if strings.HasPrefix(line, prefix) {
			t.Fatalf("unwanted line %q in the report\n%s", line, strings.Join(report, "\n"))
		}
	}
}
