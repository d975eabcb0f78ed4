// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/match"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// Rules returns the rules in order.
func (s *Set) Rules() []Rule {
	if s == nil {
		return nil
	}
	out := make([]Rule, 0, len(s.rules))
	for i := range s.rules {
		out = append(out, *s.rules[i].rule)
	}
	return out
}

// Ended says that no query after now can match rule i.
func (s *Set) Ended(i int, now time.Time) bool {
	return slices.ContainsFunc(s.rules[i].conditions, func(c condition) bool {
		end, ok := c.(*endCondition)
		return ok && !now.Before(end.end)
	})
}

// Reaches says whether rule i is about a target.
func (s *Set) Reaches(i int, t *inventory.Target) bool {
	for _, c := range s.rules[i].conditions {
		if targets, ok := c.(*targetsCondition); ok {
			return targets.Match(t)
		}
	}
	return true
}

// Shadowed returns the first rule before rule i that matches whatever rule i matches, so that
// rule i is never asked; -1 for none. It compares what is written, so it finds what is plain
// to see, and is never wrong.
func (s *Set) Shadowed(i int) int {
	later := s.rules[i].rule
	for j := range i {
		if covers(s.rules[j].rule, later) {
			return j
		}
	}
	return -1
}

// covers says that whatever b matches a matches as well.
func covers(a, b *Rule) bool {
	if !a.NotAfter.IsZero() && !(a.Timezone == b.Timezone && a.NotAfter.Equal(b.NotAfter.Time) && a.NotAfter.Location().String() == b.NotAfter.Location().String()) {
		return false
	}
	if (len(a.Weekdays) > 0 || a.Hours != "") && !(slices.Equal(a.Weekdays, b.Weekdays) && a.Hours == b.Hours && a.Timezone == b.Timezone) {
		return false
	}
	// An allow rule of which a group is not known does not match; the one behind it might.
	if len(a.Groups) > 0 && !sameList(a.Groups, b.Groups) {
		return false
	}
	logins := func(r *Rule) []string {
		if len(r.Logins) == 0 && r.Action != Deny {
			return []string{ownName}
		}
		return r.Logins
	}
	return wider(a.Users, b.Users, match.Glob) && wider(a.Keys, b.Keys, equal) && wider(a.Sources, b.Sources, networkHolds) &&
		wider(logins(a), logins(b), match.Glob) && wider(a.Targets, b.Targets, targetHolds)
}

func equal(a, b string) bool { return a == b }

// wider says that list a holds for whatever list b holds for.
func wider(a, b []string, holds func(pattern, value string) bool) bool {
	if len(a) == 0 || slices.Contains(a, "*") && !slices.ContainsFunc(a, negated) || sameList(a, b) {
		return true
	}
	if slices.ContainsFunc(a, negated) || slices.ContainsFunc(b, negated) || len(b) == 0 {
		return false
	}
	for _, v := range b {
		if !slices.ContainsFunc(a, func(p string) bool { return p == v || !match.IsPattern(v) && !strings.Contains(v, "%") && holds(p, v) }) {
			return false
		}
	}
	return true
}

func negated(s string) bool { return strings.HasPrefix(s, "!") }

func sameList(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(slices.Compact(a), slices.Compact(b))
}

func networkHolds(a, b string) bool {
	x, errX := match.ParseNetwork(a)
	y, errY := match.ParseNetwork(b)
	return errX == nil && errY == nil && x.Bits() <= y.Bits() && x.Contains(y.Addr())
}

func targetHolds(pattern, value string) bool {
	if strings.Contains(pattern, ":") || strings.Contains(value, ":") {
		return pattern == value
	}
	p, okP := inventory.Canonical(pattern)
	v, okV := inventory.Canonical(value)
	if !match.IsPattern(pattern) {
		return okP && okV && p == v
	}
	// An alias is not compared with patterns, so a name that may be one is not covered.
	return false
}
