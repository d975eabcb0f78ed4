// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/calendar"
	"github.com/sallyport-mfa/sallyport/internal/match"
)

// login is what the rules are asked about, and what was looked up for it so far.
type login struct {
	*Query
	source netip.Addr
	groups map[string]match.Truth
	wall   struct {
		zone   *time.Location
		minute int
		day    time.Weekday
	}
}

func newLogin(q Query) *login { return &login{Query: &q, source: q.Source.Unmap().WithZone("")} }

// inGroup asks about each group once: many rules may name it.
func (l *login) inGroup(ctx context.Context, group string) match.Truth {
	if t, ok := l.groups[group]; ok {
		return t
	}
	t := match.Unknown
	if l.InGroup != nil {
		if in, err := l.InGroup(ctx, group); err == nil {
			t = match.Of(in)
		}
	}
	if l.groups == nil {
		l.groups = map[string]match.Truth{}
	}
	l.groups[group] = t
	return t
}

// condition is one condition of a rule.
type condition interface {
	name() string
	want() []string // the rule's values, for people
	truth(ctx context.Context, l *login) match.Truth
	have(l *login) string // the login's value, for people; after truth
}

const notKnown = "not known"

type usersCondition struct {
	*match.List
	any bool // the list is "*" alone
}

func (c *usersCondition) name() string   { return "users" }
func (c *usersCondition) want() []string { return c.Want() }

func (c *usersCondition) truth(_ context.Context, l *login) match.Truth {
	if c.any {
		return match.True
	}
	return c.FitsOne(l.Account.Name)
}

func (c *usersCondition) have(l *login) string { return l.Account.Name }

type targetsCondition struct{ *Targets }

func (c *targetsCondition) name() string   { return "targets" }
func (c *targetsCondition) want() []string { return c.Want() }

func (c *targetsCondition) truth(_ context.Context, l *login) match.Truth {
	return match.Of(c.Match(l.Target))
}

func (c *targetsCondition) have(l *login) string {
	out := []string{l.Target.Name}
	for _, g := range l.Target.Groups {
		out = append(out, "group:"+g)
	}
	keys := make([]string, 0, len(l.Target.Labels))
	for k := range l.Target.Labels {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		out = append(out, "label:"+k+"="+l.Target.Labels[k])
	}
	return strings.Join(out, ", ")
}

// loginsCondition is a list of logins, in which %u is the person's own name.
type loginsCondition struct {
	written   []string
	list      *match.List // the rest of the values; nil: none
	own, deny bool        // %u, and !%u
	positive  bool        // there is a positive value
	any       bool        // every login is in it
}

// ownName stands for the person's own name.
const ownName = "%u"

// anyLogin says that the list holds whatever the login is.
func anyLogin(written []string) bool {
	return slices.Contains(written, "*") && !slices.ContainsFunc(written, func(s string) bool { return strings.HasPrefix(s, "!") })
}

func (c *loginsCondition) name() string   { return "logins" }
func (c *loginsCondition) want() []string { return c.written }

func (c *loginsCondition) truth(_ context.Context, l *login) match.Truth {
	if l.Login == "" {
		return match.Unknown
	}
	if c.any {
		return match.True
	}
	own := l.Login == l.Account.Name
	switch {
	case own && c.deny:
		return match.False
	case own && c.own:
		return match.Of(c.list == nil || !c.negated(l.Login))
	case c.list == nil:
		return match.Of(!c.positive)
	case c.own && !c.hasPositive():
		// %u is the one positive value, and it is somebody else.
		return match.False
	}
	return c.list.FitsOne(l.Login)
}

// negated says that a negated value fits.
func (c *loginsCondition) negated(s string) bool {
	for _, w := range c.list.Want() {
		if v, not := match.Split(w); not && match.Glob(v, s) {
			return true
		}
	}
	return false
}

func (c *loginsCondition) hasPositive() bool {
	return slices.ContainsFunc(c.list.Want(), func(s string) bool { return !strings.HasPrefix(s, "!") })
}

func (c *loginsCondition) have(l *login) string {
	if l.Login == "" {
		return notKnown
	}
	return l.Login
}

type keysCondition struct{ *match.List }

func (c *keysCondition) name() string   { return "keys" }
func (c *keysCondition) want() []string { return c.Want() }

func (c *keysCondition) truth(_ context.Context, l *login) match.Truth {
	if l.Key == "" {
		return c.Fits()
	}
	return c.FitsOne(l.Key)
}

func (c *keysCondition) have(l *login) string {
	if l.Key == "" {
		return "none"
	}
	return l.Key
}

type sourcesCondition struct {
	written            []string
	positive, negative []netip.Prefix
}

func (c *sourcesCondition) name() string   { return "sources" }
func (c *sourcesCondition) want() []string { return c.written }

func (c *sourcesCondition) truth(_ context.Context, l *login) match.Truth {
	if !l.source.IsValid() {
		return match.Unknown
	}
	return match.Of((len(c.positive) == 0 || within(l.source, c.positive)) && !within(l.source, c.negative))
}

func (c *sourcesCondition) have(l *login) string {
	if !l.source.IsValid() {
		return notKnown
	}
	return l.source.String()
}

func within(a netip.Addr, nets []netip.Prefix) bool {
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

type weekCondition struct {
	label   string
	written []string
	calendar.Week
	zone *time.Location
}

func (c *weekCondition) name() string   { return c.label }
func (c *weekCondition) want() []string { return c.written }

func (c *weekCondition) truth(_ context.Context, l *login) match.Truth {
	if l.Time.IsZero() {
		return match.Unknown
	}
	if l.wall.zone != c.zone {
		t := l.Time.In(c.zone)
		l.wall.zone, l.wall.minute, l.wall.day = c.zone, t.Hour()*60+t.Minute(), t.Weekday()
	}
	return match.Of(c.Holds(l.wall.minute, l.wall.day))
}

func (c *weekCondition) have(l *login) string {
	if l.Time.IsZero() {
		return notKnown
	}
	return l.Time.In(c.zone).Format("Mon 15:04 MST")
}

type endCondition struct {
	end     time.Time // the first instant at which it does not hold
	written string
	zone    *time.Location
}

func (c *endCondition) name() string   { return "not_after" }
func (c *endCondition) want() []string { return []string{c.written} }

func (c *endCondition) truth(_ context.Context, l *login) match.Truth {
	if l.Time.IsZero() {
		return match.Unknown
	}
	return match.Of(l.Time.Before(c.end))
}

func (c *endCondition) have(l *login) string {
	if l.Time.IsZero() {
		return notKnown
	}
	return l.Time.In(c.zone).Format("2006-01-02 15:04:05 MST")
}

type groupsCondition struct {
	written            []string
	positive, negative []string
}

func (c *groupsCondition) name() string   { return "groups" }
func (c *groupsCondition) want() []string { return c.written }

// truth stops asking as soon as the answer cannot change.
func (c *groupsCondition) truth(ctx context.Context, l *login) match.Truth {
	truth := match.Of(len(c.positive) == 0)
	for _, g := range c.positive {
		if truth = max(truth, l.inGroup(ctx, g)); truth == match.True {
			break
		}
	}
	for _, g := range c.negative {
		if truth == match.False {
			break
		}
		truth = min(truth, l.inGroup(ctx, g).Not())
	}
	return truth
}

func (c *groupsCondition) have(l *login) string {
	var out []string
	for _, g := range slices.Concat(c.positive, c.negative) {
		if in, asked := l.groups[g]; asked {
			out = append(out, g+": "+in.String())
		}
	}
	return strings.Join(out, ", ")
}
