// SPDX-License-Identifier: Apache-2.0

package secondfactor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
)

// ErrBusy is wrapped where a question was not asked because too many are open, most
// often of the same person.
var ErrBusy = errors.New("too many questions are open")

// How many conversations with authd are open at once. All of them together stay below
// its limits.gateway_connections, and an account's below its gateway_connections_user:
// who has one key cannot take the places of others by asking and not answering.
const (
	most        = 224 // questions
	mostOthers  = 160 // of these, all that are not asked at the door
	mostSource  = 128 // of these, from one source
	mostAccount = 8   // of these, about one account; and as many that ask nobody
	mostLookups = 16  // beside all these: which keys the verifier has
)

// How long a question waits for its place. One that would send a second push to the
// same authenticator waits for the first to be answered, which may answer both.
const (
	patience     = 20 * time.Second
	patienceHeld = 75 * time.Second
)

// asks says that a question of this kind may wait for a person.
func (k Kind) asks() bool { return k != Batch && k != Touch && k != StepUpRemembered }

// holds says that a push goes out without a question.
func (k Kind) holds() bool { return k == Hold || k == StepUpHold }

type share struct {
	account string
	asks    bool
}

type pending struct{ account, key string }

// place is what a question takes.
type place struct {
	share   share
	source  netip.Prefix
	other   bool
	holds   bool
	pending pending
}

func placeOf(q Question) place {
	id := q.Identity
	return place{
		share: share{id.Account.Name, q.Kind.asks()}, source: sourceOf(id.Source.Addr()), other: q.Kind != Door && q.Kind != Hold,
		holds: q.Kind.holds(), pending: pending{id.Account.Name, id.Key},
	}
}

// sourceOf is what counts as one source: an IPv4 address, or an IPv6 network of 64 bits.
func sourceOf(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all of these are one source
	}
	return p
}

// places counts the questions that are open.
type places struct {
	mu       sync.Mutex
	open     int
	others   int
	accounts map[share]int
	sources  map[netip.Prefix]int
	held     map[pending]bool
	freed    chan struct{} // closed when a place becomes free
}

// take waits for a place, and returns how to give it back.
func (p *places) take(ctx context.Context, w place) (leave func(), err error) {
	limit := patience
	if w.holds {
		limit = patienceHeld
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		freed, why := p.try(w)
		if why == "" {
			return sync.OnceFunc(func() { p.leave(w) }), nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timer.C:
			return nil, fmt.Errorf("%w: %s for %s", ErrBusy, why, limit)
		}
	}
}

// try takes a place. Where there is none it says why, and when to try again.
func (p *places) try(w place) (freed <-chan struct{}, why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accounts == nil {
		p.accounts, p.sources, p.held, p.freed = map[share]int{}, map[netip.Prefix]int{}, map[pending]bool{}, make(chan struct{})
	}
	switch {
	case w.holds && p.held[w.pending]:
		return p.freed, "another login of this person and key waits for its approval"
	case p.accounts[w.share] >= mostAccount:
		return p.freed, fmt.Sprintf("%d of this person", mostAccount)
	case p.sources[w.source] >= mostSource:
		return p.freed, fmt.Sprintf("%d from this source", mostSource)
	case w.other && p.others >= mostOthers:
		return p.freed, fmt.Sprintf("%d away from the door", mostOthers)
	case p.open >= most:
		return p.freed, fmt.Sprintf("%d in all", most)
	}
	p.open++
	if w.other {
		p.others++
	}
	p.accounts[w.share]++
	p.sources[w.source]++
	if w.holds {
		p.held[w.pending] = true
	}
	return nil, ""
}

func (p *places) leave(w place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open--
	if w.other {
		p.others--
	}
	less(p.accounts, w.share)
	less(p.sources, w.source)
	if w.holds {
		delete(p.held, w.pending)
	}
	close(p.freed)
	p.freed = make(chan struct{})
}

func less[K comparable](counts map[K]int, k K) {
	if counts[k]--; counts[k] <= 0 {
		delete(counts, k)
	}
}

// Lookups calls authd for what is no question: which keys the verifier has. Strangers
// can cause these, so they have places of their own. It is safe for concurrent use.
type Lookups struct {
	Client Caller

	once  sync.Once
	slots chan struct{}
}

// Call implements Caller.
func (l *Lookups) Call(ctx context.Context, req *frames.Request, p conversation.Person) (frames.Outcome, error) {
	l.once.Do(func() { l.slots = make(chan struct{}, mostLookups) })
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-timer.C:
		return 0, fmt.Errorf("%w: %d look-ups of keys for %s", ErrBusy, mostLookups, patience)
	}
	defer func() { <-l.slots }()
	return l.Client.Call(ctx, req, p)
}
