// SPDX-License-Identifier: Apache-2.0

// Package roster is who is connected right now and what each connection carries, for
// those who look after the gateway. It ends a connection when told to; it decides
// nothing, and keeps nothing of a connection that is over.
package roster

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-mfa/sallyport/sshgw/identity"
)

// Roster is the connections of a gateway. It is safe for concurrent use.
type Roster struct {
	now func() time.Time

	mu      sync.Mutex
	entries map[string]*Entry
	in, out int64 // of connections that are over
}

// New makes an empty roster.
func New(now func() time.Time) *Roster { return &Roster{now: now, entries: map[string]*Entry{}} }

// Entry is one connection. Its methods are safe for concurrent use, and do nothing on a
// nil Entry: who serves a connection outside of a gateway needs no roster.
type Entry struct {
	roster   *Roster
	id       string
	identity *identity.Identity
	end      func(reason string)

	mu       sync.Mutex
	next     int
	channels map[int]*Channel
	in, out  int64 // of channels that are closed
}

// Add puts a connection on the roster until Remove. end closes the connection.
func (r *Roster) Add(id *identity.Identity, end func(reason string)) *Entry {
	e := &Entry{roster: r, identity: id, end: end, channels: map[int]*Channel{}}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.id = r.name(id.SessionID)
	r.entries[e.id] = e
	return e
}

// shortest is how many hex digits name a connection, more where two are alike.
const shortest = 8

// Short is how a connection is named as a rule, and one that never came onto a roster.
func Short(session string) string { return session[:min(shortest, len(session))] }

// name is the shortest beginning of a session's id that nobody has. The caller holds mu.
func (r *Roster) name(session string) string {
	for n := shortest; n < len(session); n++ {
		if _, taken := r.entries[session[:n]]; !taken {
			return session[:n]
		}
	}
	return session
}

// Remove takes the connection off the roster.
func (e *Entry) Remove() {
	if e == nil {
		return
	}
	in, out := e.bytes()
	e.roster.mu.Lock()
	defer e.roster.mu.Unlock()
	if e.roster.entries[e.id] == e {
		delete(e.roster.entries, e.id)
		e.roster.in, e.roster.out = e.roster.in+in, e.roster.out+out
	}
}

// ID names the connection for people and for [Roster.End].
func (e *Entry) ID() string {
	if e == nil {
		return ""
	}
	return e.id
}

// Way is how a channel is carried.
type Way string

// The ways.
const (
	Raw        Way = "raw"
	Terminated Way = "terminated"
)

// Opening is what a channel is for.
type Opening struct {
	Kind          string // shell, exec, subsystem, jump, forward, listen, agent, …
	Way           Way
	Target, Login string // canonical name, "" where it is none of the inventory
	Detail        string // command, or destination
	Rule          string
}

// Channel is one channel of a connection. Its methods do nothing on a nil Channel.
type Channel struct {
	entry   *Entry
	number  int
	opening Opening
	since   time.Time
	in, out atomic.Int64

	mu        sync.Mutex
	recording string
}

// Open puts a channel on the roster until Close.
func (e *Entry) Open(o Opening) *Channel {
	if e == nil {
		return nil
	}
	c := &Channel{entry: e, opening: o, since: e.roster.now()}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.next++
	c.number = e.next
	e.channels[c.number] = c
	return c
}

// In counts bytes from the client to the target.
func (c *Channel) In(n int64) {
	if c != nil {
		c.in.Add(n)
	}
}

// Out counts bytes from the target to the client.
func (c *Channel) Out(n int64) {
	if c != nil {
		c.out.Add(n)
	}
}

// Recorded says which recording the channel is written to.
func (c *Channel) Recorded(name string) {
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.recording = name
	}
}

// Close takes the channel off the roster.
func (c *Channel) Close() {
	if c == nil {
		return
	}
	c.entry.mu.Lock()
	defer c.entry.mu.Unlock()
	if c.entry.channels[c.number] == c {
		delete(c.entry.channels, c.number)
		c.entry.in, c.entry.out = c.entry.in+c.in.Load(), c.entry.out+c.out.Load()
	}
}

func (e *Entry) bytes() (in, out int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	in, out = e.in, e.out
	for _, c := range e.channels {
		in, out = in+c.in.Load(), out+c.out.Load()
	}
	return in, out
}

// Connection is an entry as it stands, with the field names of the control socket.
type Connection struct {
	ID            string    `json:"id"`
	User          string    `json:"user"`
	Source        string    `json:"source"`
	Method        string    `json:"method"`
	Key           string    `json:"key,omitempty"`
	CA            string    `json:"ca,omitempty"`
	KeyID         string    `json:"key_id,omitempty"`
	Factor        string    `json:"factor"`
	DoorRule      string    `json:"door_rule,omitempty"`
	Client        string    `json:"client"`
	Session       string    `json:"session"`
	Since         time.Time `json:"since"`
	BytesIn       int64     `json:"bytes_in"`
	BytesOut      int64     `json:"bytes_out"`
	Targets       []string  `json:"targets"` // of the open channels, each once: login@target
	Channels      []Open    `json:"channels"`
	ChannelsTotal int       `json:"channels_total"`
}

// Open is a channel as it stands.
type Open struct {
	Kind      string    `json:"kind"`
	Way       Way       `json:"way,omitempty"`
	Target    string    `json:"target,omitempty"`
	Login     string    `json:"login,omitempty"`
	Detail    string    `json:"detail,omitempty"`
	Rule      string    `json:"rule,omitempty"`
	Recording string    `json:"recording,omitempty"`
	Since     time.Time `json:"since"`
	BytesIn   int64     `json:"bytes_in"`
	BytesOut  int64     `json:"bytes_out"`
}

func (e *Entry) snapshot() Connection {
	in, out := e.bytes()
	i := e.identity
	s := Connection{
		ID: e.id, User: i.Account.Name, Source: i.Source.Addr().String(), Method: string(i.Method), Key: i.Key, CA: i.CA, KeyID: i.KeyID,
		Factor: string(i.Factor), DoorRule: i.DoorRule, Client: i.Client, Session: i.SessionID, Since: i.Since,
		BytesIn: in, BytesOut: out, Targets: []string{}, Channels: []Open{},
	}
	e.mu.Lock()
	s.ChannelsTotal = e.next
	channels := make([]*Channel, 0, len(e.channels))
	for _, c := range e.channels {
		channels = append(channels, c)
	}
	e.mu.Unlock()
	slices.SortFunc(channels, func(a, b *Channel) int { return cmp.Compare(a.number, b.number) })
	for _, c := range channels {
		c.mu.Lock()
		recording := c.recording
		c.mu.Unlock()
		o := c.opening
		s.Channels = append(s.Channels, Open{Kind: o.Kind, Way: o.Way, Target: o.Target, Login: o.Login, Detail: o.Detail, Rule: o.Rule,
			Recording: recording, Since: c.since, BytesIn: c.in.Load(), BytesOut: c.out.Load()})
		where := o.Target
		if o.Login != "" {
			where = o.Login + "@" + o.Target
		}
		if where != "" && !slices.Contains(s.Targets, where) {
			s.Targets = append(s.Targets, where)
		}
	}
	return s
}

// List is the connections, the oldest first; of one user unless user is empty.
func (r *Roster) List(user string) []Connection {
	r.mu.Lock()
	entries := make([]*Entry, 0, len(r.entries))
	for _, e := range r.entries {
		if user == "" || e.identity.Account.Name == user {
			entries = append(entries, e)
		}
	}
	r.mu.Unlock()
	list := make([]Connection, 0, len(entries))
	for _, e := range entries {
		list = append(list, e.snapshot())
	}
	slices.SortFunc(list, func(a, b Connection) int { return cmp.Or(a.Since.Compare(b.Since), strings.Compare(a.ID, b.ID)) })
	return list
}

// Len is how many connections there are, and how many channels they have open.
func (r *Roster) Len() (connections, channels int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		e.mu.Lock()
		channels += len(e.channels)
		e.mu.Unlock()
	}
	return len(r.entries), channels
}

// Recordings is how many open channels are recorded.
func (r *Roster) Recordings() int {
	n := 0
	for _, c := range r.List("") {
		for _, o := range c.Channels {
			if o.Recording != "" {
				n++
			}
		}
	}
	return n
}

// Bytes is what all connections have carried since the start.
func (r *Roster) Bytes() (in, out int64) {
	r.mu.Lock()
	in, out = r.in, r.out
	entries := make([]*Entry, 0, len(r.entries))
	for _, e := range r.entries {
		entries = append(entries, e)
	}
	r.mu.Unlock()
	for _, e := range entries {
		i, o := e.bytes()
		in, out = in+i, out+o
	}
	return in, out
}

// End closes the connection of an id, and returns it as it was; false where there is none.
func (r *Roster) End(id, reason string) (Connection, bool) {
	r.mu.Lock()
	e := r.entries[id]
	r.mu.Unlock()
	if e == nil {
		return Connection{}, false
	}
	s := e.snapshot()
	e.end(reason)
	return s, true
}

// EndUser closes all connections of a user, and returns them as they were.
func (r *Roster) EndUser(user, reason string) []Connection {
	var ended []Connection
	for _, s := range r.List(user) {
		if s, ok := r.End(s.ID, reason); ok {
			ended = append(ended, s)
		}
	}
	return ended
}

type key struct{}

// With is a context that leads to the entry of a connection.
func With(ctx context.Context, e *Entry) context.Context { return context.WithValue(ctx, key{}, e) }

// From is the entry of the connection that a context belongs to, nil for none.
func From(ctx context.Context) *Entry {
	e, _ := ctx.Value(key{}).(*Entry)
	return e
}
