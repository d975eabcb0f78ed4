// SPDX-License-Identifier: Apache-2.0

package login

import (
	"container/list"
	"sync"
	"time"
)

// Grants remembers which processes were let in, for the hooks that follow
// authenticate. It holds a bounded number of processes; the oldest goes first.
// It is safe for concurrent use.
type Grants struct {
	now func() time.Time

	mu     sync.Mutex
	order  *list.List // of *grant, oldest first
	byProc map[ProcessID]*list.Element
	// byParent holds the latest grant of a child.
	byParent map[ProcessID]*list.Element
}

type grant struct {
	proc          Process
	service, user string
	conn          string // of what the gate let through: sshd's SSH_CONNECTION
	authenticated bool   // else the gate let it through
	proof         string // the txid by which the login is to be remembered; empty: it is not
	at            time.Time
}

// NewGrants makes an empty memory.
func NewGrants(now func() time.Time) *Grants {
	return &Grants{now: now, order: list.New(), byProc: map[ProcessID]*list.Element{}, byParent: map[ProcessID]*list.Element{}}
}

// Add remembers that authenticate allowed user for service in p. proof is the
// transaction by which the login is to be remembered, empty if it is not.
func (g *Grants) Add(p Process, service, user, proof string, limit int) {
	g.add(&grant{proc: p, service: service, user: user, authenticated: true, proof: proof}, limit)
}

// Pass remembers that the account hook let p through without authenticate. user
// and conn may be empty where the session hook need not find them again.
func (g *Grants) Pass(p Process, service, user, conn string, limit int) {
	g.add(&grant{proc: p, service: service, user: user, conn: conn}, limit)
}

func (g *Grants) add(n *grant, limit int) {
	if n.proc.ID == (ProcessID{}) || n.proc.ID.Start == 0 {
		return // a process that cannot be told from another is granted nothing
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	n.at = g.now()
	g.remove(g.byProc[n.proc.ID])
	for g.order.Len() >= limit {
		g.remove(g.order.Front())
	}
	e := g.order.PushBack(n)
	g.byProc[n.proc.ID] = e
	if n.proc.Parent.Start != 0 {
		g.byParent[n.proc.Parent] = e
	}
}

// Authenticated says whether authenticate allowed this user and service in this
// very process, at most ttl ago.
func (g *Grants) Authenticated(p ProcessID, service, user string, ttl time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.fresh(g.byProc[p], service, ttl)
	return n != nil && n.authenticated && n.user == user
}

// Session is Authenticated for the session hook: a child's grant counts too, and
// an empty user stands for any.
func (g *Grants) Session(p ProcessID, service, user string, ttl time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range []*list.Element{g.byProc[p], g.byParent[p]} {
		if n := g.fresh(e, service, ttl); n != nil && n.authenticated && (user == "" || n.user == user) {
			return true
		}
	}
	return false
}

// TakeProof returns the proof of the grant by which Session says yes, once.
func (g *Grants) TakeProof(p ProcessID, service, user string, ttl time.Duration) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range []*list.Element{g.byProc[p], g.byParent[p]} {
		if n := g.fresh(e, service, ttl); n != nil && n.authenticated && n.user == user && n.proof != "" {
			proof := n.proof
			n.proof = ""
			return proof
		}
	}
	return ""
}

// Passed says whether the account hook let this very process through, with these
// values, at most ttl ago.
func (g *Grants) Passed(p ProcessID, service, user, conn string, ttl time.Duration) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := g.fresh(g.byProc[p], service, ttl)
	return n != nil && !n.authenticated && n.user == user && n.conn == conn
}

// Drop forgets what p and its children were granted.
func (g *Grants) Drop(p ProcessID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.remove(g.byProc[p])
	g.remove(g.byParent[p])
}

// Len is how many processes are remembered.
func (g *Grants) Len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.order.Len()
}

func (g *Grants) fresh(e *list.Element, service string, ttl time.Duration) *grant {
	if e == nil {
		return nil
	}
	n := e.Value.(*grant)
	if n.service != service || g.now().Sub(n.at) > ttl {
		return nil
	}
	return n
}

func (g *Grants) remove(e *list.Element) {
	if e == nil {
		return
	}
	n := g.order.Remove(e).(*grant)
	delete(g.byProc, n.proc.ID)
	if g.byParent[n.proc.Parent] == e {
		delete(g.byParent, n.proc.Parent)
	}
}
