// SPDX-License-Identifier: Apache-2.0

package throttle

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"
)

var usual = Settings{Free: 3, Delay: 2 * time.Second, SSHDelay: 5 * time.Second, Max: 30 * time.Second, SharedMax: 5 * time.Second,
	ResetAfter: 15 * time.Minute, Entries: 64}

// clock is a time that stands until it is moved.
type clock struct {
	sync.Mutex
	t time.Time
}

func (c *clock) now() time.Time {
	c.Lock()
	defer c.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.Lock()
	defer c.Unlock()
	c.t = c.t.Add(d)
}

func newThrottle() (*Throttle, *clock) {
	c := &clock{t: time.Unix(1_700_000_000, 0)}
	return New(c.now), c
}

func (t *Throttle) fail(k Key, n int) {
	for range n {
		t.Begin(k, usual)
	}
}

var (
	alice = Key{User: "alice", Source: "10.0.4.0/24", SSH: true}
	thief = Key{User: "alice", Source: "192.0.2.0/24", SSH: true}
	root  = Key{User: "root", Source: "10.0.4.0/24", SSH: true, Reserved: true}
)

func want(t *testing.T, what string, got Delay, d time.Duration) {
	t.Helper()
	if got.For != d {
		t.Errorf("%s: a delay of %s, want %s", what, got.For, d)
	}
}

func TestDelayGrows(t *testing.T) {
	for ssh, delays := range map[bool][]int{false: {0, 0, 0, 2, 4, 8, 16, 30, 30}, true: {0, 0, 0, 5, 10, 20, 30, 30}} {
		x, _ := newThrottle()
		k := alice
		k.SSH = ssh
		for n, seconds := range delays {
			d := x.Delay(k, usual)
			want(t, fmt.Sprintf("ssh %t, after %d failures", ssh, n), d, time.Duration(seconds)*time.Second)
			if seconds > 0 && d.Setting != "throttle.max_delay" {
				t.Errorf("setting %q", d.Setting)
			}
			_, begun := x.Begin(k, usual)
			want(t, "a try waits for those before it, not for itself", begun, d.For)
		}
	}
}

func TestSuccessForgets(t *testing.T) {
	x, _ := newThrottle()
	x.fail(alice, 5)
	try, _ := x.Begin(alice, usual)
	try.Success()
	try.Void() // of no effect
	want(t, "afterwards", x.Delay(alice, usual), 0)
	if n := x.Len(); n != 1 {
		t.Errorf("%d counts are left, want that of the source", n)
	}
}

func TestVoidTryCountsNothing(t *testing.T) {
	x, _ := newThrottle()
	for range 100 {
		try, _ := x.Begin(alice, usual)
		try.Void()
	}
	if n := x.Len(); n != 0 {
		t.Errorf("%d counts", n)
	}
}

func TestCountsAge(t *testing.T) {
	x, c := newThrottle()
	x.fail(alice, 6)
	c.pass(usual.ResetAfter)
	want(t, "in time", x.Delay(alice, usual), 30*time.Second)
	c.pass(time.Second)
	want(t, "after reset_after", x.Delay(alice, usual), 0)
	x.fail(alice, 6)
	c.pass(-24 * time.Hour)
	want(t, "the clock was set back", x.Delay(alice, usual), 0)
}

// Whoever fails in somebody's name from elsewhere costs them little.
func TestFailingFromElsewhereLocksNobodyOut(t *testing.T) {
	x, _ := newThrottle()
	x.fail(thief, 10_000)
	want(t, "the thief", x.Delay(thief, usual), usual.Max)
	d := x.Delay(alice, usual)
	want(t, "the owner", d, usual.SharedMax)
	if d.Setting != "throttle.shared_max_delay" {
		t.Errorf("setting %q", d.Setting)
	}
	try, _ := x.Begin(alice, usual)
	try.Success()
	want(t, "the owner, after a success", x.Delay(alice, usual), 0)
	want(t, "the thief, after the owner's success", x.Delay(thief, usual), usual.Max)
}

func TestOneSourceManyPeople(t *testing.T) {
	x, _ := newThrottle()
	for i := range sourceFree + 5 {
		x.fail(Key{User: fmt.Sprint("user", i), Source: alice.Source, SSH: true}, 1)
	}
	want(t, "somebody else from there", x.Delay(alice, usual), usual.SharedMax)
	want(t, "from elsewhere", x.Delay(thief, usual), 0)
	// An office from which most logins are right is soon forgiven.
	for i := range 20 {
		try, _ := x.Begin(Key{User: fmt.Sprint("colleague", i), Source: alice.Source}, usual)
		try.Success()
	}
	want(t, "after successes", x.Delay(alice, usual), 0)
}

// A flood of names costs delay and never memory; it costs root nothing.
func TestFloodIsBounded(t *testing.T) {
	x, c := newThrottle()
	x.fail(root, 4)
	x.fail(alice, 5)
	for i := range 20_000 {
		x.fail(Key{User: fmt.Sprint("u", i), Source: fmt.Sprint("s", i), SSH: true}, 1)
	}
	if n := x.Len(); n > 3*usual.Entries+3 {
		t.Errorf("%d counts", n)
	}
	want(t, "root's count", x.Delay(root, usual), 10*time.Second)
	want(t, "root from elsewhere", x.Delay(Key{User: "root", Source: "s7", SSH: true, Reserved: true}, usual), 0)
	want(t, "a count from before the flood", x.Delay(alice, usual), 20*time.Second)
	d := x.Delay(Key{User: "new", Source: "new", SSH: true}, usual)
	want(t, "a newcomer", d, usual.SharedMax)
	c.pass(usual.ResetAfter + time.Second)
	want(t, "a newcomer, later", x.Delay(Key{User: "new", Source: "new", SSH: true}, usual), 0)
	x.fail(Key{User: "new", Source: "new"}, 1)
	if n := x.Len(); n != 3+3 { // root's room ages when root fails next
		t.Errorf("%d counts after they have aged", n)
	}
}

func TestTriesAtOnceAllCount(t *testing.T) {
	x, _ := newThrottle()
	var all sync.WaitGroup
	var mu sync.Mutex
	free := 0
	for range 64 {
		all.Go(func() {
			_, d := x.Begin(alice, usual)
			mu.Lock()
			defer mu.Unlock()
			if d.For == 0 {
				free++
			}
		})
	}
	all.Wait()
	if free != usual.Free {
		t.Errorf("%d of 64 guesses at once cost nothing, want %d", free, usual.Free)
	}
}

// Whatever happens: no delay is negative or above the limits, and nobody waits
// longer than shared_max_delay who has not failed from where they are.
func TestDelaysAreBounded(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		x, c := newThrottle()
		s := usual
		s.Entries = 1 + random.IntN(40)
		s.Max = time.Duration(random.IntN(60)) * time.Second
		s.SharedMax = time.Duration(random.IntN(10)) * time.Second
		failed := map[Key]bool{}
		var open []*Try
		for range 400 {
			k := Key{User: fmt.Sprint(random.IntN(30)), Source: fmt.Sprint(random.IntN(30)), SSH: random.IntN(2) == 0}
			same := k
			same.SSH = false
			try, d := x.Begin(k, s)
			if d.For < 0 || d.For > s.Max || !failed[same] && d.For > s.SharedMax {
				t.Fatalf("%+v waits %s under %+v; failed before: %t", k, d.For, s, failed[same])
			}
			failed[same] = true
			open = append(open, try)
			switch i := random.IntN(len(open)); random.IntN(5) {
			case 0:
				open[i].Success()
			case 1:
				open[i].Void()
			case 2:
				c.pass(time.Duration(random.IntN(600)) * time.Second)
			}
		}
		if n := x.Len(); n > 3*s.Entries {
			t.Fatalf("%d counts under a limit of %d", n, s.Entries)
		}
	}
}

func TestSource(t *testing.T) {
	for addr, want := range map[string]string{
		"10.0.4.7": "10.0.4.0/24", "10.0.4.255": "10.0.4.0/24", "::ffff:10.0.4.7": "10.0.4.0/24",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := Source(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
	if got := Source(netip.Addr{}); got != Unknown {
		t.Errorf("no address: %s", got)
	}
}
