// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/control"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

// gatewayAt serves a control socket with two people connected.
func gatewayAt(t *testing.T, status control.Status, reload error) (socket string, r *roster.Roster) {
	t.Helper()
	now := time.Unix(1_800_000_000, 0)
	r = roster.New(func() time.Time { return now })
	add := func(user, session string, since time.Time) *roster.Entry {
		var e *roster.Entry
		e = r.Add(&identity.Identity{Account: directory.Account{Name: user}, SessionID: session, Source: netip.MustParseAddrPort("192.0.2.7:1"),
			Factor: identity.Asked, Since: since}, func(string) { e.Remove() })
		return e
	}
	alice := add("alice", "3f2a91c0ff", now)
	add("mal\x1b[31mlory", "77777777ff", now.Add(time.Second))
	for range 2 {
		alice.Open(roster.Opening{Kind: "shell", Target: "db1", Login: "root"}).Out(3 << 20)
	}
	alice.Open(roster.Opening{Kind: "jump", Target: "web1"}).Recorded("x.cast")
	socket = filepath.Join(t.TempDir(), "c.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	s := &control.Server{Roster: r, Audit: &audit.Log{Logger: log}, Logger: log,
		Status: func(context.Context) control.Status { return status }, Reload: func(context.Context) error { return reload }}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(ctx, l, uint32(os.Getuid()), uint32(os.Getgid()))
	}()
	t.Cleanup(func() { stop(); <-done })
	return socket, r
}

func gateway(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	var text bytes.Buffer
	a := &app{Terminal: &cli.Terminal{Out: &text, Err: &text, Now: time.Now}, env: func(string) string { return "" }}
	root := newRoot(a)
	root.SetArgs(append([]string{"gateway"}, args...))
	err = root.ExecuteContext(t.Context())
	return text.String(), err
}

func TestGatewaySessions(t *testing.T) {
	socket, r := gatewayAt(t, control.Status{}, nil)
	out, err := gateway(t, "sessions", "list", "--socket", socket)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != 3 || strings.Join(strings.Fields(lines[1])[:6], " ") != "3f2a91c0 alice 192.0.2.7 root@db1, web1 shell×2," ||
		!strings.Contains(lines[1], "6.0M") || !strings.HasSuffix(lines[1], "authd   1") || !strings.Contains(lines[2], `mal\x1b[31mlory`) {
		t.Errorf("the list is\n%s", out)
	}
	if out, err := gateway(t, "sessions", "list", "--socket", socket, "--user", "alice", "--json"); err != nil || !strings.Contains(out, `"recording": "x.cast"`) || strings.Contains(out, "mal") {
		t.Errorf("as JSON: %v\n%s", err, out)
	}
	// What is connected completes an id and a name.
	for _, c := range []struct{ args, want string }{
		{"__complete gateway sessions end --socket " + socket + " ", "3f2a91c0\talice from 192.0.2.7 root@db1, web1"},
		{"__complete gateway sessions list --socket " + socket + " --user ", "alice"},
	} {
		var text bytes.Buffer
		root := newRoot(&app{Terminal: &cli.Terminal{Out: &text, Err: &bytes.Buffer{}, Now: time.Now}, env: func(string) string { return "" }})
		root.SetArgs(strings.Split(c.args, " "))
		if err := root.ExecuteContext(t.Context()); err != nil || !strings.Contains(text.String(), c.want) {
			t.Errorf("%q completes to %q, %v", c.args, text.String(), err)
		}
	}
	if out, err := gateway(t, "sessions", "end", "--socket", socket, "3f2a91c0"); err != nil || out != "ended: 1\n" {
		t.Errorf("end: %q, %v", out, err)
	}
	if n, _ := r.Len(); n != 1 {
		t.Errorf("%d are connected after that", n)
	}
	if _, err := gateway(t, "sessions", "end", "--socket", socket, "3f2a91c0"); !errors.Is(err, control.ErrControl) {
		t.Errorf("once more: %v", err)
	}
	if out, err := gateway(t, "sessions", "end", "--socket", socket, "--user", "alicia"); err == nil || out != "" || !strings.Contains(err.Error(), `nobody by the name of "alicia"`) {
		t.Errorf("a name that nobody has: %q, %v", out, err)
	}
	for _, args := range [][]string{{"sessions", "end"}, {"sessions", "end", ""}, {"sessions", "end", "--user", ""}, {"sessions", "end", "x", "--user", "y"}, {"sessions", "list", "--watch", "--every", "0s"}} {
		var usage *cli.UsageError
		if _, err := gateway(t, append(args, "--socket", socket)...); !errors.As(err, &usage) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestGatewayStatus(t *testing.T) {
	well, ill := "", "no such file"
	for _, c := range []struct {
		what   string
		status control.Status
		want   string
		bad    bool
	}{
		{"well", control.Status{Version: "1.2", Connections: 3, Limit: 100, Password: &well}, "3 of 100", false},
		{"one rule", control.Status{Config: control.Config{Rules: 1, Targets: 2}}, ": 1 rule, 2 targets", false},
		{"a wrong file", control.Status{Config: control.Config{ReloadError: "line 7"}}, "what was in force before still is: line 7", true},
		{"no authd", control.Status{Authd: "connection refused"}, "down: connection refused", true},
		{"no helper", control.Status{Password: &ill}, "down: no such file", true},
		{"draining", control.Status{Draining: time.Unix(1_800_000_000, 0)}, "may stay until", false},
	} {
		socket, _ := gatewayAt(t, c.status, nil)
		out, err := gateway(t, "status", "--socket", socket)
		if (err != nil) != c.bad || !strings.Contains(out, c.want) {
			t.Errorf("%s: %v\n%s", c.what, err, out)
		}
	}
	socket, _ := gatewayAt(t, control.Status{}, errors.New("sshgw.toml:7: no such key"))
	if _, err := gateway(t, "reload", "--socket", socket); err == nil || !strings.Contains(err.Error(), "sshgw.toml:7: no such key") {
		t.Errorf("a reload that fails: %v", err)
	}
	if _, err := gateway(t, "status", "--socket", filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "systemctl start sallyport-sshgw") {
		t.Errorf("no gateway: %v", err)
	}
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1.0K", 1536 << 10: "1.5M", 5 << 40: "5.0T", 3 << 60: "3072.0P"} {
		if got := size(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
