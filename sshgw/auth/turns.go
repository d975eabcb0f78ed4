// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// How many conversations with PAM there are at once: below MaxConnections of
// sallyport-sshgw-pam.socket, beyond which systemd closes connections without a word. A
// source has its share, so that one that guesses leaves room for others.
const (
	maxPAM     = 48
	maxPAMFrom = 4
	waitForPAM = 10 * time.Second
)

var errTurn = errors.New("too many passwords are being checked already")

// turns hands out the places at PAM.
type turns struct {
	places chan struct{}
	wait   time.Duration

	mu      sync.Mutex
	sources map[netip.Prefix]*share
}

// share is the places of one source; it is forgotten when nobody has one or waits for one.
type share struct {
	places chan struct{}
	users  int
}

func newTurns() *turns {
	return &turns{places: make(chan struct{}, maxPAM), wait: waitForPAM, sources: map[netip.Prefix]*share{}}
}

// take waits for a place. leave gives it up.
func (t *turns) take(ctx context.Context, addr netip.Addr) (leave func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.wait, errTurn)
	defer cancel()
	source := Source(addr)
	t.mu.Lock()
	mine := t.sources[source]
	if mine == nil {
		mine = &share{places: make(chan struct{}, maxPAMFrom)}
		t.sources[source] = mine
	}
	mine.users++
	t.mu.Unlock()
	forget := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if mine.users--; mine.users == 0 {
			delete(t.sources, source)
		}
	}
	// The share first: who waits for it keeps no place from others.
	select {
	case mine.places <- struct{}{}:
	case <-ctx.Done():
		forget()
		return nil, context.Cause(ctx)
	}
	select {
	case t.places <- struct{}{}:
	case <-ctx.Done():
		<-mine.places
		forget()
		return nil, context.Cause(ctx)
	}
	return func() {
		<-t.places
		<-mine.places
		forget()
	}, nil
}

// Source is the network that counts as one source: an IPv4 address, or 64 bits of IPv6,
// since whoever has one address there has them all.
func Source(addr netip.Addr) netip.Prefix {
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all of these are one source
	}
	return p
}
