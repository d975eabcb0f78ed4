// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"cmp"
	"slices"
	"time"
)

// Selection says in which order the addresses that are up are asked.
type Selection string

// The selections.
const (
	// InOrder asks the addresses as they are listed.
	InOrder Selection = "order"
	// ByHealth stays with the address that answered last, for as long as it
	// answers; another one is chosen by how fast its last probe was answered.
	ByHealth Selection = "health"
)

// AddressHealth is what is known of one address.
type AddressHealth struct {
	Address     string        // HOST or HOST:PORT
	Up          bool          // not known to be down; before the first probe has ended, taken to be up
	Since       time.Time     // of this state; zero before the first probe has ended
	Cause       Cause         // while down
	Error       string        // while down, for people
	LastContact time.Time     // the last good answer, of a probe or a call; zero: none yet
	Latency     time.Duration // of the last probe that was answered; 0: none yet
	First       bool          // the address that is asked first now
}

// Health is the state of each address, in the order of the configuration. It
// asks nobody.
func (c *Client) Health() []AddressHealth {
	var first *endpoint
	for _, e := range c.candidates() {
		if e.down() == nil {
			first = e
			break
		}
	}
	out := make([]AddressHealth, 0, len(c.endpoints))
	for _, e := range c.endpoints {
		h := e.health()
		h.First = e == first
		out = append(out, h)
	}
	return out
}

func (e *endpoint) health() AddressHealth {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := AddressHealth{Address: e.api.BaseURL.Host, Up: e.cause == nil, Since: e.since, LastContact: e.contact, Latency: e.latency}
	if e.cause != nil {
		h.Cause, h.Error = e.cause.Cause, e.cause.Error()
	}
	return h
}

// candidates are the addresses in the order in which they are asked.
func (c *Client) candidates() []*endpoint {
	if c.opt.Selection != ByHealth {
		return c.endpoints
	}
	type ranked struct {
		*endpoint
		rank time.Duration
	}
	preferred := c.preferred.Load()
	list := make([]ranked, 0, len(c.endpoints))
	for _, e := range c.endpoints {
		rank := e.health().Latency
		switch {
		case e == preferred:
			rank = -1
		case rank == 0:
			rank = 1<<63 - 1 // never measured: last
		}
		list = append(list, ranked{e, rank})
	}
	slices.SortStableFunc(list, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	out := make([]*endpoint, 0, len(list))
	for _, r := range list {
		out = append(out, r.endpoint)
	}
	return out
}
