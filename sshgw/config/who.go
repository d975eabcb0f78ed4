// SPDX-License-Identifier: Apache-2.0

package config

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sallyport-mfa/sallyport/internal/match"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// DoorQuery is what is known at the door.
type DoorQuery struct {
	User    string
	InGroup func(ctx context.Context, group string) (bool, error)
	Key     string
	Source  string // an address
}

// who is the conditions that door and batch rules share, compiled.
type who struct {
	users, keys       *match.List
	groups, notGroups []string
	sources, not      []netip.Prefix
}

func newWho(users, groups, keys, sources []string) (who, error) {
	var w who
	var errs []error
	fail := func(name string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	var err error
	w.users, err = match.NewList(users, match.Patterned)
	fail("users", err)
	norm := slices.Clone(keys)
	for i, k := range keys {
		value, negated := match.Split(k)
		value, err := match.ParseFingerprint(value)
		fail("keys", err)
		if norm[i] = value; negated {
			norm[i] = "!" + value
		}
	}
	w.keys, err = match.NewList(norm, match.Free)
	fail("keys", err)
	for _, g := range groups {
		value, negated := match.Split(g)
		fail("groups", match.CheckValue(value, match.PlainOnly))
		if negated {
			w.notGroups = append(w.notGroups, value)
		} else {
			w.groups = append(w.groups, value)
		}
	}
	for _, s := range sources {
		value, negated := match.Split(s)
		p, err := match.ParseNetwork(value)
		fail("sources", err)
		if negated {
			w.not = append(w.not, p)
		} else {
			w.sources = append(w.sources, p)
		}
	}
	return w, errors.Join(errs...)
}

// truth says whether the rule is about these.
func (w *who) truth(ctx context.Context, q *DoorQuery) match.Truth {
	truth := match.True
	if w.users != nil {
		truth = min(truth, w.users.FitsOne(q.User))
	}
	if w.keys != nil && truth != match.False {
		if q.Key == "" {
			truth = min(truth, w.keys.Fits())
		} else {
			truth = min(truth, w.keys.FitsOne(q.Key))
		}
	}
	if truth != match.False && len(w.sources)+len(w.not) > 0 {
		truth = min(truth, w.from(q.Source))
	}
	if truth == match.False || len(w.groups)+len(w.notGroups) == 0 {
		return truth
	}
	in := match.Of(len(w.groups) == 0)
	for _, g := range w.groups {
		if in = max(in, inGroup(ctx, q, g)); in == match.True {
			break
		}
	}
	for _, g := range w.notGroups {
		in = min(in, inGroup(ctx, q, g).Not())
	}
	return min(truth, in)
}

func inGroup(ctx context.Context, q *DoorQuery, group string) match.Truth {
	if q.InGroup == nil {
		return match.Unknown
	}
	in, err := q.InGroup(ctx, group)
	if err != nil {
		return match.Unknown
	}
	return match.Of(in)
}

// from says whether a source is one of the rule's. An address with a port is none.
func (w *who) from(source string) match.Truth {
	addr, err := netip.ParseAddr(source)
	if err != nil {
		return match.Unknown
	}
	addr = addr.Unmap().WithZone("")
	in := func(list []netip.Prefix) bool {
		return slices.ContainsFunc(list, func(p netip.Prefix) bool { return p.Contains(addr) })
	}
	return match.Of((len(w.sources) == 0 || in(w.sources)) && !in(w.not))
}

// Door returns the first door rule that matches, nil for none. One of which something is not
// known matches if it asks, and does not if it asks for less.
func (c *Config) Door(ctx context.Context, q DoorQuery) *Door {
	for i := range c.Doors {
		d := &c.Doors[i]
		switch d.who.truth(ctx, &q) {
		case match.True:
			return d
		case match.Unknown:
			if d.Action == DoorAsk {
				return d
			}
		}
	}
	return nil
}

// Batch returns the first batch rule that matches user, key and source, nil for none.
func (c *Config) Batch(q DoorQuery) *Batch {
	for i := range c.Batches {
		if b := &c.Batches[i]; b.who.truth(context.Background(), &q) == match.True && q.Key != "" {
			return b
		}
	}
	return nil
}

// Reaches says whether a batch rule names the target.
func (b *Batch) Reaches(t *inventory.Target) bool {
	return t != nil && b.targets != nil && b.targets.Match(t)
}
