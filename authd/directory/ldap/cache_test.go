// SPDX-License-Identifier: Apache-2.0

package ldap

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

// clock is set by hand.
type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(0, c.at.Load()) }
func (c *clock) advance(d time.Duration) { c.at.Add(int64(d)) }

// newClient is a client as authd.toml would make it.
func newClient(t testing.TB, clock *clock, settings string, attributes ...string) *Client {
	t.Helper()
	conf, err := config.Parse("authd.toml", "[verifier]\nurls = [\"https://v.example\"]\nintegration_key = \"DI\"\nsecret_key_file = \"unused\"\n[ldap]\nbase_dn = \"dc=example,dc=org\"\n"+settings)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Options{Settings: conf.LDAP, Attributes: attributes, Timeout: conf.Timeouts.LDAP, Now: clock.now, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newClock() *clock {
	c := &clock{}
	c.advance(time.Hour)
	return c
}

// source is what a directory would say.
type source struct {
	asked int
	group groupEntry
	err   error
}

func (s *source) find(context.Context) (groupEntry, error) {
	s.asked++
	return s.group, s.err
}

const noServer = "urls = [\"ldap://127.0.0.1:1\"]\n"

func TestAnswersAge(t *testing.T) {
	clock := newClock()
	c := newClient(t, clock, noServer+"cache_max_age = \"1m\"\ncache_negative = \"10s\"\ncache_stale = \"2m\"\n")
	away := &Away{errs: []error{errors.New("gone")}}
	s := &source{group: groupEntry{"cn=ops"}}
	step := func(name string, wait time.Duration, err error, asked int, want string, fails bool) {
		t.Helper()
		clock.advance(wait)
		s.err = err
		got, gotErr := cached(t.Context(), c.cache, "k", s.find)
		if got.dn != want || (gotErr != nil) != fails || s.asked != asked {
			t.Errorf("%s: got %q, %v after %d questions; want %q, fails %v, %d", name, got.dn, gotErr, s.asked, want, fails, asked)
		}
	}
	step("cold", 0, nil, 1, "cn=ops", false)
	step("kept", 59*time.Second, nil, 1, "cn=ops", false)
	step("kept while the directory is away", 0, away, 1, "cn=ops", false)
	step("too old, asked again, away: stale", time.Second, away, 2, "cn=ops", false)
	step("an answer that helps nobody is no reason for a stale one", 0, errors.New("two groups"), 3, "", true)
	step("stale, the last moment", 2*time.Minute-time.Second, away, 4, "cn=ops", false)
	step("after that unknown", time.Second, away, 5, "", true)
	step("back", 0, nil, 6, "cn=ops", false)
	step("a clock set back trusts nothing", -time.Second, away, 7, "", true)
	s.group = groupEntry{}
	step("the group is gone", time.Minute+time.Second, nil, 8, "", false)
	step("that is kept for less long", 9*time.Second, nil, 8, "", false)
	step("and then asked again", time.Second, nil, 9, "", false)
}

func TestManyAskOnce(t *testing.T) {
	c := newClient(t, newClock(), noServer)
	var asked atomic.Int32
	release := make(chan struct{})
	find := func(context.Context) (groupEntry, error) {
		asked.Add(1)
		<-release
		return groupEntry{"cn=ops"}, nil
	}
	// One who gives up does not take the others' answer away.
	impatient, cancel := context.WithCancelCause(t.Context())
	var all, gone sync.WaitGroup
	gone.Go(func() {
		if _, err := cached(impatient, c.cache, "k", find); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who gave up got %v", err)
		}
	})
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel(context.DeadlineExceeded)
	gone.Wait()
	for range 50 {
		all.Go(func() {
			if g, err := cached(t.Context(), c.cache, "k", find); err != nil || g.dn != "cn=ops" {
				t.Errorf("got %v, %v", g, err)
			}
		})
	}
	close(release)
	all.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("the directory was asked %d times", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c := newClient(t, newClock(), noServer+"cache_size = 10\n")
	s := &source{group: groupEntry{"cn=ops"}}
	for i := range 100 {
		if _, err := cached(t.Context(), c.cache, strings.Repeat("k", i), s.find); err != nil {
			t.Fatal(err)
		}
	}
	if n := c.cache.entries.Len(); n != 10 {
		t.Errorf("%d answers are kept", n)
	}
}

// A server that does not answer is left alone for a while, and then asked by one.
func TestServerThatIsAwayIsLeftAlone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			calls.Add(1)
			_ = conn.Close() // as a server that is killed again and again
		}
	}()
	defer l.Close()
	clock := newClock()
	c := newClient(t, clock, "urls = [\"ldap://"+l.Addr().String()+"\", \"ldap://127.0.0.1:1\"]\n")
	ask := func() {
		t.Helper()
		var away *Away
		if _, err := c.InGroup(t.Context(), "alice", "ops"); !errors.As(err, &away) || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), "127.0.0.1:1") {
			t.Fatalf("got %v, want what is wrong with both servers", err)
		}
	}
	for range 20 {
		ask()
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("asked %d times within a moment", n)
	}
	clock.advance(badFor)
	for range 20 {
		ask()
	}
	if n := calls.Load(); n != 2 {
		t.Errorf("asked %d times in all", n)
	}
	for _, h := range c.Health() {
		if h.Err == nil || h.Asked.IsZero() {
			t.Errorf("health of %s: %+v", h.URL, h)
		}
	}
}

// A question that takes too long says nothing of the next one; a connection that
// cannot be made does.
func TestOneSlowQuestionIsNoOutage(t *testing.T) {
	c := newClient(t, newClock(), noServer)
	s := c.servers[0]
	late := &slow{errors.New("search: ldap_timeout ran out")}
	limit := goldap.NewError(goldap.LDAPResultAdminLimitExceeded, errors.New("too much"))
	for _, err := range []error{late, limit, goldap.NewError(goldap.LDAPResultNoSuchObject, errors.New("no base")), nil} {
		s.report(c.opt.Now(), err)
		if away := s.passOver(c.opt.Now()); away != nil {
			t.Errorf("after %v it is left alone: %v", err, away)
		}
	}
	for _, err := range []error{errors.New("connect: refused"), &refusal{errors.New("bind_dn")}, goldap.NewError(goldap.LDAPResultUnavailable, errors.New("closing"))} {
		s.report(c.opt.Now(), nil)
		s.report(c.opt.Now(), err)
		if s.passOver(c.opt.Now()) == nil {
			t.Errorf("after %v it is asked again at once", err)
		}
		s.report(c.opt.Now(), late)
		if s.passOver(c.opt.Now()) == nil {
			t.Errorf("a slow answer ends the outage of %v", err)
		}
	}
	for _, err := range []error{late, limit} {
		if !isOutage(err) {
			t.Errorf("%v is no reason to ask another server", err)
		}
	}
}

// What a user may call themselves stays a value, whatever it looks like.
func TestNamesAreOnlyValues(t *testing.T) {
	c := newClient(t, newClock(), noServer)
	for _, name := range []string{"alice", "*", "*)(uid=*", "a)(|(uid=*", `a\2a`, "a\x00b", "ä", "(", "\\"} {
		req := c.request(c.set.UserBase, c.set.UserFilter, equals("uid", name), 2)
		packet, err := goldap.CompileFilter(req.Filter)
		if err != nil {
			t.Errorf("%q: %v", name, err)
			continue
		}
		// An AND of the class and of one equality with exactly this value.
		if len(packet.Children) != 2 || packet.Children[1].Tag != goldap.FilterEqualityMatch || packet.Children[1].Children[1].Data.String() != name {
			t.Errorf("%q: the filter is %s", name, req.Filter)
		}
	}
	for _, name := range []string{"", "a\x00b", "a\nb"} {
		if _, err := c.lookupName(name); err == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

func TestDomains(t *testing.T) {
	c := newClient(t, newClock(), noServer+"schema = \"ad\"\ndomains = [\"EXAMPLE\", \"example.org\"]\n")
	for name, want := range map[string]string{
		"alice": "alice", `EXAMPLE\alice`: "alice", `example\alice`: "alice", "alice@EXAMPLE.org": "alice",
		`OTHER\alice`: `OTHER\alice`, "alice@other.org": "alice@other.org",
	} {
		if got, err := c.lookupName(name); got != want || err != nil {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestGroupsByDN(t *testing.T) {
	for name, want := range map[string]bool{
		"ops": false, "a=b": false, "cn=ops,dc=example,dc=org": true, "CN=Ops\\, all, DC=example,DC=org": true, "": false, "a,b": false,
	} {
		if got := isDN(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
	if canonical(`CN=Ops\, all, DC=Example,DC=org`) != canonical(`cn=ops\2C all,dc=example,dc=org`) {
		t.Error("two spellings of one DN differ")
	}
}
