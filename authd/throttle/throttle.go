// SPDX-License-Identifier: Apache-2.0

// Package throttle owns the counts of failed second factors, by person and by
// where they came from, and how long the next try waits. It makes people wait; it
// never refuses anybody, and it never waits itself.
// docs/explanation/throttling.md says why the numbers are what they are.
package throttle

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"
)

// Settings is the table [throttle] of the configuration.
type Settings struct {
	Free       int           `toml:"free_failures"`    // failures that cost nothing
	Delay      time.Duration `toml:"delay"`            // after the first that does; it doubles with each further one
	SSHDelay   time.Duration `toml:"sshd_delay"`       // the same under sshd, which strangers reach
	Max        time.Duration `toml:"max_delay"`        // the longest delay, 0: none at all
	SharedMax  time.Duration `toml:"shared_max_delay"` // the longest delay that the failures of others can cause
	ResetAfter time.Duration `toml:"reset_after"`      // without a failure, a count is forgotten
	Entries    int           `toml:"entries"`          // counts kept apart, of each kind
}

// The counts of a person alone and of a source alone are shared by people who have
// nothing to do with each other, so more is free.
const (
	userFree   = 10
	sourceFree = 30
)

// Delay is how long a try has to wait, and the setting that bounds it.
type Delay struct {
	For     time.Duration
	Setting string
}

// Key says whose failures are meant.
type Key struct {
	User   string // their name at the verifier
	Source string // as Source or a caller of its own makes it
	// Reserved are root's tries: they have a room of their own, so that the
	// failures of others neither push them out nor slow them down.
	Reserved bool
	SSH      bool
}

// Throttle counts. It is safe for concurrent use.
type Throttle struct {
	now func() time.Time

	mu       sync.Mutex
	open     room
	reserved room
}

// room is the counts of all people, or of root alone.
type room struct {
	pairs, users, sources table
}

// New makes a throttle that has seen nothing.
func New(now func() time.Time) *Throttle {
	t := &Throttle{now: now}
	for _, r := range []*room{&t.open, &t.reserved} {
		for _, x := range []*table{&r.pairs, &r.users, &r.sources} {
			*x = table{seed: maphash.MakeSeed(), byName: map[string]*list.Element{}, order: list.New()}
		}
	}
	return t
}

func (t *Throttle) room(k Key) *room {
	if k.Reserved {
		return &t.reserved
	}
	return &t.open
}

// reservedEntries bounds root's room.
const reservedEntries = 256

func (k Key) entries(s Settings) int {
	if k.Reserved {
		return min(s.Entries, reservedEntries)
	}
	return s.Entries
}

func (k Key) pair() string { return k.User + "\x00" + k.Source }

// Delay is how long the next try of k has to wait.
func (t *Throttle) Delay(k Key, s Settings) Delay {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.delay(k, s, 0)
}

// delay reckons without the last own failures, which are those of tries that have
// been counted and not yet checked.
func (t *Throttle) delay(k Key, s Settings, own int) Delay {
	now, r := t.now(), t.room(k)
	pair, exact := r.pairs.count(k.pair(), now, s)
	user, _ := r.users.count(k.User, now, s)
	source, _ := r.sources.count(k.Source, now, s)
	shared := Delay{max(grow(user-own-userFree, k, s, s.SharedMax), grow(source-own-sourceFree, k, s, s.SharedMax)), "throttle.shared_max_delay"}
	d := Delay{grow(pair-own-s.Free, k, s, s.Max), "throttle.max_delay"}
	if !exact {
		d = Delay{min(d.For, s.SharedMax), shared.Setting} // the count may be another's
	}
	if shared.For > d.For {
		return shared
	}
	return d
}

// grow is the delay after n failures more than are free, up to a limit.
func grow(over int, k Key, s Settings, limit time.Duration) time.Duration {
	d := s.Delay
	if k.SSH {
		d = s.SSHDelay
	}
	limit = min(limit, s.Max)
	switch {
	case over < 0:
		return 0
	case over >= 32:
		return limit
	}
	for range over {
		if d *= 2; d >= limit {
			return limit
		}
	}
	return min(d, limit)
}

// Try is a try under way. It counts as a failure until Success or Void says
// otherwise: so tries that run at once all see one another.
type Try struct {
	t     *Throttle
	k     Key
	ended bool
	// shared says which of its counts went to a counter that others share.
	shared struct{ pair, user, source bool }
}

// Begin counts a try before it is checked, and says how long it has to wait for
// those before it, the ones still under way included.
func (t *Throttle) Begin(k Key, s Settings) (*Try, Delay) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now, r := t.now(), t.room(k)
	x := &Try{t: t, k: k}
	x.shared.pair = r.pairs.add(k.pair(), now, s, k.entries(s))
	x.shared.user = r.users.add(k.User, now, s, k.entries(s))
	x.shared.source = r.sources.add(k.Source, now, s, k.entries(s))
	return x, t.delay(k, s, 1)
}

// Success forgets the failures of this person from this source, and of the person
// as such; of the source, which others may share, it forgets this try and one
// failure more. Failures of the same person from elsewhere stay: those were
// somebody else's.
func (x *Try) Success() {
	x.end(all, all, 2)
}

// Void takes the try back: it came to no check.
func (x *Try) Void() {
	x.end(1, 1, 1)
}

// all of a count is taken.
const all = maxCount

// end lets the first of Success and Void count.
func (x *Try) end(pair, user, source int) {
	x.t.mu.Lock()
	defer x.t.mu.Unlock()
	if x.ended {
		return
	}
	x.ended = true
	r := x.t.room(x.k)
	r.pairs.take(x.k.pair(), pair, x.shared.pair)
	r.users.take(x.k.User, user, x.shared.user)
	r.sources.take(x.k.Source, source, x.shared.source)
}

// Len is how many counts are kept, shared ones not included.
func (t *Throttle) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, r := range []*room{&t.open, &t.reserved} {
		n += r.pairs.order.Len() + r.users.order.Len() + r.sources.order.Len()
	}
	return n
}

// table counts failures by name. A name has a count of its own while there is
// room. No count makes place for another before it has aged, or an attacker would
// have theirs forgotten; beyond that, names share counters, and wait for one
// another.
type table struct {
	seed   maphash.Seed
	byName map[string]*list.Element
	order  *list.List // of *counter, the one that failed longest ago first
	shared [1024]counter
}

type counter struct {
	name string
	n    int
	last time.Time
}

// fresh is the count as far as it has not aged.
func (c *counter) fresh(now time.Time, s Settings) int {
	// A clock that was set back makes no count eternal.
	if age := now.Sub(c.last); age > s.ResetAfter || age < -s.ResetAfter {
		return 0
	}
	return c.n
}

func (t *table) bucket(name string) *counter {
	return &t.shared[maphash.String(t.seed, name)%uint64(len(t.shared))]
}

// count is how often name has failed. exact says that the count is its own.
func (t *table) count(name string, now time.Time, s Settings) (n int, exact bool) {
	if e := t.byName[name]; e != nil {
		return e.Value.(*counter).fresh(now, s), true
	}
	n = t.bucket(name).fresh(now, s)
	return n, n == 0
}

// maxCount keeps a count from growing without end.
const maxCount = 1 << 20

// add counts a failure. shared says that name has no counter of its own.
func (t *table) add(name string, now time.Time, s Settings, limit int) (shared bool) {
	e := t.byName[name]
	if e == nil {
		t.age(now, s)
		if t.order.Len() >= limit {
			hit(t.bucket(name), now, s)
			return true
		}
		e = t.order.PushBack(&counter{name: name})
		t.byName[name] = e
	}
	hit(e.Value.(*counter), now, s)
	t.order.MoveToBack(e)
	return false
}

func hit(c *counter, now time.Time, s Settings) {
	c.n = min(c.fresh(now, s)+1, maxCount)
	c.last = now
}

// age drops the counts that mean nothing any more.
func (t *table) age(now time.Time, s Settings) {
	for e := t.order.Front(); e != nil && e.Value.(*counter).fresh(now, s) == 0; e = t.order.Front() {
		t.drop(e)
	}
}

func (t *table) drop(e *list.Element) {
	delete(t.byName, t.order.Remove(e).(*counter).name)
}

// take lowers a count by n. A shared counter only gives back what the try itself
// has put there.
func (t *table) take(name string, n int, shared bool) {
	if b := t.bucket(name); shared && b.n > 0 {
		b.n--
	}
	e := t.byName[name]
	if shared || e == nil {
		return
	}
	if c := e.Value.(*counter); n < c.n {
		c.n -= n
		return
	}
	t.drop(e)
}
