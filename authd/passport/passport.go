// SPDX-License-Identifier: Apache-2.0

// Package passport owns remembered logins on the host: which login a process
// belongs to, as the kernel says, and the calls by which the verifier makes, uses
// and ends a session for it. It never decides a login, and keeps nothing by
// which somebody could be let in: each use is the verifier's answer.
package passport

import (
	"container/list"
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
)

// Host makes calls to the verifier that the host's key signs. Package upstream
// has it.
type Host interface {
	Host(ctx context.Context, again bool, call func(context.Context, *agentapi.Client) error) error
}

// maxAnchors bounds what is remembered of open logins; the oldest goes first, and
// its session then ends by expiry.
const maxAnchors = 8192

// Passport makes, uses and ends sessions. It is safe for concurrent use.
type Passport struct {
	proc Proc
	born uint64 // start time of this process: what is older may have opened a login before

	mu      sync.Mutex
	order   *list.List // of opened, oldest first
	anchors map[process.ID]*list.Element
}

type opened struct {
	anchor  process.ID
	binding Binding
}

// New makes a Passport that reads proc.
func New(proc Proc) *Passport {
	born, _, err := proc.stat(int32(os.Getpid()))
	if err != nil {
		born = 0 // sessions of an earlier run then end by expiry
	}
	return &Passport{proc: proc, born: born, order: list.New(), anchors: map[process.ID]*list.Element{}}
}

// Login is what a session is made of.
type Login struct {
	Process process.ID // that opens the login: its anchor
	UID     uint32     // of the account that logs in
	TxID    string     // of the event that proved the second factor
	Service string
	TTY     string
}

// Bind is the binding of a login that is being opened, at open_session.
func (p *Passport) Bind(l Login) (Binding, error) { return p.proc.Opened(l.Process, l.UID) }

// Create asks the verifier to remember the login with that binding.
func (p *Passport) Create(ctx context.Context, host Host, l Login, b Binding) (out agentapi.Session, err error) {
	// Asked twice, the verifier gives the same session.
	err = host.Host(ctx, true, func(ctx context.Context, c *agentapi.Client) error {
		out, err = c.CreateSession(ctx, agentapi.NewSession{
			TxID: l.TxID, Binding: b.String(), Service: clip(l.Service), TTY: clip(l.TTY),
		})
		return err
	})
	if err != nil {
		return out, fmt.Errorf("remember the login: %w", err)
	}
	p.note(opened{l.Process, b})
	return out, nil
}

// maxLabel bounds a label for people, in bytes.
const maxLabel = 64

func clip(s string) string {
	if len(s) > maxLabel {
		return ""
	}
	return s
}

func (p *Passport) note(o opened) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e := p.anchors[o.anchor]; e != nil {
		p.order.Remove(e)
	}
	for p.order.Len() >= maxAnchors {
		delete(p.anchors, p.order.Remove(p.order.Front()).(opened).anchor)
	}
	p.anchors[o.anchor] = p.order.PushBack(o)
}

// Use is a login in which somebody has to prove themselves.
type Use struct {
	Process  process.ID // that asks
	UID      uint32     // of the account of the person
	Username string     // their name at the verifier
	Service  string
	Factors  []string // of the auth call; none: all that the verifier's policy accepts
}

// Above is what a use is looked up by.
func (p *Passport) Above(u Use) ([]Binding, error) { return p.proc.Above(u.Process, u.UID) }

// Use asks the verifier for a session of the person with one of the bindings.
func (p *Passport) Use(ctx context.Context, host Host, u Use, bindings []Binding) (out agentapi.SessionUsed, err error) {
	q := agentapi.SessionUse{Username: u.Username, Service: clip(u.Service), Factors: u.Factors}
	for _, b := range bindings {
		q.Bindings = append(q.Bindings, b.String())
	}
	err = host.Host(ctx, true, func(ctx context.Context, c *agentapi.Client) error {
		out, err = c.UseSession(ctx, q)
		return err
	})
	if err != nil {
		return agentapi.SessionUsed{}, fmt.Errorf("ask for a remembered login: %w", err)
	}
	return out, nil
}

// Closed forgets the login that a process has opened and returns its binding, if
// it may have been remembered: by this authd, or by one before it.
func (p *Passport) Closed(anchor process.ID) (Binding, bool) {
	p.mu.Lock()
	e := p.anchors[anchor]
	if e != nil {
		delete(p.anchors, anchor)
		p.order.Remove(e)
	}
	p.mu.Unlock()
	if e != nil {
		return e.Value.(opened).binding, true
	}
	if anchor.Start == 0 || anchor.Start >= p.born {
		return Binding{}, false
	}
	uid, err := p.proc.auditID(anchor.PID, "loginuid")
	if err != nil {
		return Binding{}, false
	}
	b, err := p.proc.Opened(anchor, uid)
	return b, err == nil
}

// End tells the verifier that a login is over.
func (p *Passport) End(ctx context.Context, host Host, b Binding) (ended bool, err error) {
	err = host.Host(ctx, true, func(ctx context.Context, c *agentapi.Client) error {
		ended, err = c.EndSession(ctx, b.String())
		return err
	})
	if err != nil {
		return false, fmt.Errorf("end the remembered login: %w", err)
	}
	return ended, nil
}
