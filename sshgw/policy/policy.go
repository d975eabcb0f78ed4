// SPDX-License-Identifier: Apache-2.0

// Package policy decides who reaches which target as whom, and what they may do
// there. The first rule that matches decides alone; no rule, no way. It never asks
// for a factor and never looks at a packet.
package policy

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/match"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// Query is what a decision rests on.
type Query struct {
	Account directory.Account
	// InGroup asks the name service. An error is unknown: an allow rule then does not
	// match, a deny rule does. nil: nothing is known.
	InGroup func(ctx context.Context, group string) (bool, error)
	Key     string // SHA256:…, "" for a password
	Source  netip.Addr
	Time    time.Time
	Target  *inventory.Target
	// Login is whom the person wants to be at the target. "" is not known yet: what a
	// jump asks for stands inside it. See Grant.Unsettled.
	Login string
}

// Set is compiled rules. It is safe for concurrent use. The nil Set has none.
type Set struct {
	rules []compiled
	// Rules that name each of their users by name, and those that do not: for a
	// person only the former that name them, and the latter, are looked at.
	byUser map[string][]int
	others []int
}

// Reasons of a Grant.
const (
	ReasonRule    = "rule"     // the rule allows it
	ReasonNoRule  = "no_rule"  // no rule matches, and that is a no
	ReasonDenied  = "denied"   // a deny rule matches
	ReasonUnknown = "unknown"  // a deny rule matches, as it does when something is not known
	ReasonLogin   = "by_login" // it depends on the login, which is not known yet
)

// Decide returns what the first matching rule grants. Without one, or when that is a
// deny rule, Grant.Allowed is false and Grant.Reason says why, for the log.
func (s *Set) Decide(ctx context.Context, q Query) Grant {
	if s == nil || q.Target == nil {
		return Grant{Reason: ReasonNoRule}
	}
	l := newLogin(q)
	unsettled := false
	named, others := s.byUser[q.Account.Name], s.others
	for len(named)+len(others) > 0 {
		from := &others
		if len(others) == 0 || len(named) > 0 && named[0] < others[0] {
			from = &named
		}
		r := &s.rules[(*from)[0]]
		*from = (*from)[1:]
		truth, byLogin := r.truth(ctx, l)
		switch {
		case truth == match.False:
		case truth == match.Unknown && byLogin:
			// It may decide, once the login is known. That something may be allowed is
			// enough for a look at what is asked for.
			if r.rule.Action == Allow {
				return Grant{Allowed: true, Unsettled: true, Rule: r.rule.Name, Reason: ReasonLogin, Record: RecordRequired}
			}
			unsettled = true
		case truth == match.Unknown && r.rule.Action == Allow:
		default:
			g := r.grant(l, truth)
			if q.Login == "" && g.Raw && len(r.rule.Logins) == 0 {
				// In a raw jump the rule leaves logins to the target; one that a later rule
				// denies by name is denied all the same.
				unsettled = unsettled || s.deniesLogin(ctx, l, slices.Concat(named, others))
			}
			if unsettled && g.Allowed {
				return Grant{Allowed: true, Unsettled: true, Rule: g.Rule, Reason: ReasonLogin, Record: RecordRequired}
			}
			return g
		}
	}
	return Grant{Reason: ReasonNoRule}
}

// deniesLogin says that one of these rules denies some login to the person at the target.
func (s *Set) deniesLogin(ctx context.Context, l *login, rules []int) bool {
	for _, i := range rules {
		if r := &s.rules[i]; r.rule.Action == Deny && len(r.rule.Logins) > 0 {
			if truth, _ := r.truth(ctx, l); truth != match.False {
				return true
			}
		}
	}
	return false
}

// Record says what a rule wants recorded.
type Record string

// What a rule wants recorded.
const (
	RecordOff      Record = "off"
	RecordOn       Record = "on"       // recorded; a session goes on if it cannot be
	RecordRequired Record = "required" // no record, no session
)
