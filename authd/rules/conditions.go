// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/match"
)

// login is what the rules are asked about, and what was looked up for it so far.
type login struct {
	Facts
	groups, ldapGroups map[string]Truth
	wall               struct {
		zone   *time.Location
		minute int
		day    time.Weekday
	}
}

func newLogin(f Facts) *login {
	f.Source = f.Source.Unmap().WithZone("")
	return &login{Facts: f}
}

// condition is one condition of a rule.
type condition interface {
	name() string
	want() []string // the rule's values, for people
	truth(ctx context.Context, l *login) Truth
	have(l *login) string // the login's value, for people; after truth
}

// ofTheKey says that the condition is about what sshd names last.
func ofTheKey(c condition) bool {
	switch c.(type) {
	case *keysCondition, *certificatesCondition:
		return true
	}
	return false
}

// oneName is a condition on a single name of the login.
type oneName struct {
	*match.List
	label string
	value func(l *login) (value string, known bool)
}

func (c *oneName) name() string   { return c.label }
func (c *oneName) want() []string { return c.Want() }

func (c *oneName) truth(_ context.Context, l *login) Truth {
	value, known := c.value(l)
	switch {
	case !known:
		return Unknown
	case value == "":
		return c.Fits()
	}
	return c.FitsOne(value)
}

func (c *oneName) have(l *login) string {
	value, known := c.value(l)
	switch {
	case !known:
		return notKnown
	case value == "":
		return "none"
	}
	return value
}

const notKnown = "not known"

func userOf(l *login) (string, bool)    { return l.User, true }
func serviceOf(l *login) (string, bool) { return l.Service, true }
func targetOf(l *login) (string, bool)  { return l.Target, !l.TargetUnknown }
func commandOf(l *login) (string, bool) { return l.Command, !l.CommandUnknown }

type keysCondition struct{ *match.List }

func (c *keysCondition) name() string   { return "keys" }
func (c *keysCondition) want() []string { return c.Want() }

func (c *keysCondition) truth(_ context.Context, l *login) Truth {
	if l.KeysUnknown {
		return Unknown
	}
	return c.Fits(l.Keys...)
}

func (c *keysCondition) have(l *login) string {
	switch {
	case l.KeysUnknown:
		return notKnown
	case len(l.Keys) == 0:
		return "none"
	}
	return strings.Join(l.Keys, ", ")
}

type certificatesCondition struct{ any []certificate }

// certificate is Certificates, compiled.
type certificate struct {
	ca                 string
	principals, keyIDs *match.List // nil: no condition
}

func (c *certificatesCondition) name() string { return "certificates" }

func (c *certificatesCondition) want() []string {
	out := make([]string, 0, len(c.any))
	for _, w := range c.any {
		s := "CA " + w.ca
		if w.principals != nil {
			s += " principals " + strings.Join(w.principals.Want(), " ")
		}
		if w.keyIDs != nil {
			s += " key ids " + strings.Join(w.keyIDs.Want(), " ")
		}
		out = append(out, s)
	}
	return out
}

func (c *certificatesCondition) truth(_ context.Context, l *login) Truth {
	if l.CertificatesUnknown {
		return Unknown
	}
	for i := range l.Certificates {
		if slices.ContainsFunc(c.any, func(w certificate) bool { return w.fits(&l.Certificates[i]) }) {
			return True
		}
	}
	return False
}

func (w certificate) fits(c *Certificate) bool {
	return w.ca == c.CA &&
		(w.principals == nil || w.principals.Fits(c.Principals...) == True) &&
		(w.keyIDs == nil || w.keyIDs.FitsOne(c.KeyID) == True)
}

func (c *certificatesCondition) have(l *login) string {
	switch {
	case l.CertificatesUnknown:
		return notKnown
	case len(l.Certificates) == 0:
		return "none under a CA of authd.toml"
	}
	var out []string
	for _, h := range l.Certificates {
		out = append(out, "CA "+h.CA+" principals "+strings.Join(h.Principals, " ")+" key id "+h.KeyID)
	}
	return strings.Join(out, ", ")
}

type sourcesCondition struct {
	written            []string
	positive, negative []netip.Prefix
}

func (c *sourcesCondition) name() string   { return "sources" }
func (c *sourcesCondition) want() []string { return c.written }

func (c *sourcesCondition) truth(_ context.Context, l *login) Truth {
	if l.SourceUnknown {
		return Unknown
	}
	return match.Of((len(c.positive) == 0 || within(l.Source, c.positive)) && !within(l.Source, c.negative))
}

func (c *sourcesCondition) have(l *login) string {
	switch {
	case l.SourceUnknown:
		return notKnown
	case l.Source.IsValid():
		return l.Source.String()
	}
	return "none (a local login)"
}

// within says whether an address is in one of the networks; no address is in none.
func within(a netip.Addr, nets []netip.Prefix) bool {
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// groupsCondition is a condition on groups of the name service or the directory.
type groupsCondition struct {
	label              string
	written            []string
	positive, negative []string
	ask                func(ctx context.Context, l *login, group string) Truth
	asked              func(l *login) map[string]Truth
}

func (c *groupsCondition) name() string   { return c.label }
func (c *groupsCondition) want() []string { return c.written }

// truth stops asking as soon as the answer cannot change.
func (c *groupsCondition) truth(ctx context.Context, l *login) Truth {
	truth := match.Of(len(c.positive) == 0)
	for _, g := range c.positive {
		if truth = max(truth, c.ask(ctx, l, g)); truth == True {
			break
		}
	}
	for _, g := range c.negative {
		if truth == False {
			break
		}
		truth = min(truth, c.ask(ctx, l, g).Not())
	}
	return truth
}

func (c *groupsCondition) have(l *login) string {
	var out []string
	for _, g := range slices.Concat(c.positive, c.negative) {
		if in, asked := c.asked(l)[g]; asked {
			out = append(out, g+": "+in.String())
		}
	}
	return strings.Join(out, ", ")
}

func inGroup(ctx context.Context, l *login, group string) Truth {
	return memo(ctx, &l.groups, l.InGroup, group)
}

func inLDAPGroup(ctx context.Context, l *login, group string) Truth {
	return memo(ctx, &l.ldapGroups, l.InLDAPGroup, group)
}

// memo asks about each group once: many rules may name it.
func memo(ctx context.Context, known *map[string]Truth, ask func(context.Context, string) Truth, group string) Truth {
	if t, ok := (*known)[group]; ok {
		return t
	}
	t := Unknown
	if ask != nil {
		t = ask(ctx, group)
	}
	if *known == nil {
		*known = map[string]Truth{}
	}
	(*known)[group] = t
	return t
}
