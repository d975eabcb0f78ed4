// SPDX-License-Identifier: Apache-2.0

package control

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

type fixture struct {
	*Client
	server *Server
	log    *bytes.Buffer
	ended  []string
	reload error
}

func founded() *fixture {
	f := &fixture{log: &bytes.Buffer{}}
	logger := slog.New(slog.NewTextHandler(f.log, nil))
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	r := roster.New(func() time.Time { return now })
	for _, who := range []struct{ user, session string }{{"alice", "aaaaaaaa11"}, {"alice", "aaaaaaab22"}, {"carol", "cccccccc33"}} {
		r.Add(&identity.Identity{Account: directory.Account{Name: who.user}, SessionID: who.session, Source: netip.MustParseAddrPort("192.0.2.7:1"), Since: now},
			func(why string) { f.ended = append(f.ended, who.session+" "+why) })
	}
	f.server = &Server{Roster: r, Audit: &audit.Log{Logger: logger}, Logger: logger,
		Status: func(context.Context) Status { return Status{Version: "test", Connections: 3} },
		Reload: func(context.Context) error { return f.reload }}
	return f
}

func serve(t *testing.T) *fixture {
	f := founded()
	path := filepath.Join(t.TempDir(), SocketName)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.server.Serve(ctx, l, uint32(os.Getuid()), uint32(os.Getgid()))
	}()
	t.Cleanup(func() { stop(); <-done })
	f.Client = &Client{Path: path}
	return f
}

func TestSessions(t *testing.T) {
	f := serve(t)
	list, err := f.Sessions(t.Context(), "")
	if err != nil || len(list) != 3 {
		t.Fatalf("the list is %+v, %v", list, err)
	}
	if list, err := f.Sessions(t.Context(), "carol"); err != nil || len(list) != 1 || list[0].User != "carol" {
		t.Fatalf("carol's list is %+v, %v", list, err)
	}
	if ended, err := f.End(t.Context(), "cccccccc"); err != nil || len(ended) != 1 || ended[0].User != "carol" {
		t.Errorf("ended %+v, %v", ended, err)
	}
	if _, err := f.End(t.Context(), "nobody"); !errors.Is(err, ErrControl) || !strings.Contains(err.Error(), "no such session") {
		t.Errorf("one that is not there: %v", err)
	}
	if ended, err := f.EndUser(t.Context(), "alice"); err != nil || len(ended) != 2 {
		t.Errorf("ended of alice %+v, %v", ended, err)
	}
	if ended, err := f.EndUser(t.Context(), "nobody"); err != nil || len(ended) != 0 {
		t.Errorf("ended of nobody %+v, %v", ended, err)
	}
	if _, err := f.EndUser(t.Context(), ""); !errors.Is(err, ErrControl) {
		t.Errorf("a user without a name: %v", err)
	}
	if len(f.ended) != 3 || f.ended[0] != "cccccccc33 ended_by_administrator" {
		t.Errorf("ended: %q", f.ended)
	}
	if n := strings.Count(f.log.String(), "event=gw_ended"); n != 3 || !strings.Contains(f.log.String(), "user=carol") || !strings.Contains(f.log.String(), "by_uid=") {
		t.Errorf("%d events in\n%s", n, f.log)
	}
}

func TestStatusAndReload(t *testing.T) {
	f := serve(t)
	if s, err := f.Status(t.Context()); err != nil || s.Version != "test" || s.Connections != 3 {
		t.Errorf("the status is %+v, %v", s, err)
	}
	if _, err := f.Reload(t.Context()); err != nil {
		t.Errorf("reload: %v", err)
	}
	f.reload = errors.New("line 7: no such key")
	if _, err := f.Reload(t.Context()); !errors.Is(err, ErrControl) || !strings.Contains(err.Error(), "line 7: no such key") {
		t.Errorf("a reload that fails: %v", err)
	}
}

func TestPeers(t *testing.T) {
	for _, c := range []struct {
		what string
		peer peer
		want bool
	}{
		{"root", peer{uid: 0, gid: 0}, true},
		{"the gateway", peer{uid: 900, gid: 900}, true},
		{"the group as its own", peer{uid: 1000, gid: 901}, true},
		{"the group among others", peer{uid: 1000, gid: 1000, groups: []uint32{27, 901}}, true},
		{"somebody else", peer{uid: 1000, gid: 1000, groups: []uint32{27}}, false},
	} {
		if got := c.peer.may(900, 901); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
}

// A descriptor of the socket that has come to a stranger, or a mode that is too wide,
// opens nothing: the kernel says who connected.
func TestStrangerAtTheSocket(t *testing.T) {
	f := founded()
	h := f.server.handler()
	for what, ctx := range map[string]context.Context{
		"a stranger": context.WithValue(t.Context(), peerKey{}, peer{uid: 4_000_000, gid: 4_000_000}),
		"nobody":     t.Context(),
	} {
		for _, target := range []string{"GET /sessions", "GET /status", "DELETE /sessions?user=alice", "POST /reload"} {
			method, path, _ := strings.Cut(target, " ")
			req, err := http.NewRequestWithContext(ctx, method, path, nil)
			if err != nil {
				t.Fatal(err)
			}
			w := &answerer{header: http.Header{}}
			h.ServeHTTP(w, req)
			if w.status != http.StatusForbidden || strings.Contains(w.body.String(), "alice") {
				t.Errorf("%s got %d for %s: %s", what, w.status, target, &w.body)
			}
		}
	}
	if len(f.ended) != 0 {
		t.Errorf("a stranger ended %q", f.ended)
	}
}

type answerer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answerer) Header() http.Header         { return a.header }
func (a *answerer) WriteHeader(status int)      { a.status = status }
func (a *answerer) Write(p []byte) (int, error) { return a.body.Write(p) }

func TestPeerOfTheKernel(t *testing.T) {
	f := serve(t)
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := net.Dial("unix", l.Addr().String()); err == nil {
			defer c.Close()
			_, _ = c.Read(make([]byte, 1))
		}
	}()
	c, err := listener{l}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	a := c.RemoteAddr().(address)
	if a.err != nil || a.peer.uid != uint32(os.Getuid()) || a.peer.gid != uint32(os.Getgid()) || a.peer.pid != int32(os.Getpid()) {
		t.Errorf("the peer is %+v, %v", a.peer, a.err)
	}
	own, err := os.Getgroups()
	if err != nil || len(own) != len(a.peer.groups) {
		t.Errorf("groups %v, want %v (%v)", a.peer.groups, own, err)
	}
	if _, err := peerOf(known{}); !errors.Is(err, errNotUnix) {
		t.Errorf("a peer of no socket: %v", err)
	}
	_ = f
}
