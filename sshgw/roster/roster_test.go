// SPDX-License-Identifier: Apache-2.0

package roster

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
)

var now = time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)

func who(user, session string, since time.Time) *identity.Identity {
	return &identity.Identity{Account: directory.Account{Name: user}, SessionID: session, Source: netip.MustParseAddrPort("192.0.2.7:4711"),
		Method: identity.PublicKey, Key: "SHA256:x", Factor: identity.Asked, Since: since}
}

func TestConnectionsAndChannels(t *testing.T) {
	r := New(func() time.Time { return now })
	var ended []string
	a := r.Add(who("alice", "aaaaaaaaaaaa1", now), func(why string) { ended = append(ended, "a "+why) })
	b := r.Add(who("alice", "aaaaaaaaaaaa2", now.Add(-time.Minute)), func(why string) { ended = append(ended, "b "+why) })
	c := r.Add(who("carol", "cccccccccccc", now), func(why string) { ended = append(ended, "c "+why) })
	if a.ID() != "aaaaaaaa" || b.ID() != "aaaaaaaaa" || c.ID() != "cccccccc" {
		t.Fatalf("ids %q %q %q", a.ID(), b.ID(), c.ID())
	}
	shell := a.Open(Opening{Kind: "shell", Way: Terminated, Target: "db1", Login: "root", Rule: "dba"})
	shell.In(3)
	shell.Out(5)
	shell.Recorded("x.cast")
	jump := a.Open(Opening{Kind: "jump", Way: Raw, Target: "db1", Login: "root"})
	jump.In(10)
	jump.Close()
	jump.Close() // once more counts nothing
	got := r.List("")
	if len(got) != 3 || got[0].ID != b.ID() {
		t.Fatalf("the list is %+v", got)
	}
	i := slices.IndexFunc(got, func(s Connection) bool { return s.ID == a.ID() })
	if s := got[i]; s.BytesIn != 13 || s.BytesOut != 5 || len(s.Channels) != 1 || s.ChannelsTotal != 2 || s.Channels[0].Recording != "x.cast" ||
		!slices.Equal(s.Targets, []string{"root@db1"}) || s.Source != "192.0.2.7" {
		t.Errorf("the connection is %+v", s)
	}
	if conns, channels := r.Len(); conns != 3 || channels != 1 {
		t.Errorf("%d connections with %d channels", conns, channels)
	}
	if _, ok := r.End("nobody", "x"); ok {
		t.Error("one that is not there was ended")
	}
	if list := r.EndUser("alice", "by root"); len(list) != 2 || !slices.Equal(ended, []string{"b by root", "a by root"}) {
		t.Errorf("ended %v, and returned %+v", ended, list)
	}
	a.Remove()
	a.Remove()
	b.Remove()
	if list := r.List("alice"); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
	if in, out := r.Bytes(); in != 13 || out != 5 {
		t.Errorf("%d and %d bytes in all", in, out)
	}
}

func TestWithoutRoster(t *testing.T) {
	e := From(t.Context())
	c := e.Open(Opening{Kind: "shell"})
	c.In(1)
	c.Out(1)
	c.Recorded("x")
	c.Close()
	e.Remove()
	if e.ID() != "" {
		t.Error("a connection of no roster has a name")
	}
	r := New(func() time.Time { return now })
	if e := r.Add(who("a", "abcdefghij", now), nil); From(With(t.Context(), e)) != e {
		t.Error("the context lost the entry")
	}
}

func TestManyAtOnce(t *testing.T) {
	r := New(func() time.Time { return now })
	var all sync.WaitGroup
	for n := range 50 {
		all.Go(func() {
			e := r.Add(who("alice", string(rune('a'+n%26))+"bcdefghijklmnop"+string(rune('a'+n)), now), func(string) {})
			for range 20 {
				c := e.Open(Opening{Kind: "exec", Target: "db1"})
				c.Out(1)
				r.List("alice")
				c.Close()
			}
			e.Remove()
		})
	}
	all.Wait()
	if conns, channels := r.Len(); conns != 0 || channels != 0 {
		t.Errorf("%d connections and %d channels are left", conns, channels)
	}
	if _, out := r.Bytes(); out != 1000 {
		t.Errorf("%d bytes, want 1000", out)
	}
}
