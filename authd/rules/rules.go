// SPDX-License-Identifier: Apache-2.0

// Package rules owns the ordered list of local rules and decides by it: which
// login needs a second factor, which does not, which is refused. It never asks
// anybody, never talks to the verifier, and looks nothing up itself: what is
// known of a login comes in as Facts. docs/explanation/rules.md has the logic.
package rules

import (
	"context"
	"iter"
	"net/netip"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/match"
)

// Truth is a value of Kleene's three-valued logic.
type Truth = match.Truth

// The truth values.
const (
	False   = match.False
	Unknown = match.Unknown
	True    = match.True
)

// Action is what a rule demands of a login.
type Action string

// The actions.
const (
	Require Action = "require" // a second factor
	Bypass  Action = "bypass"  // no second factor
	Deny    Action = "deny"    // no login
)

// Rule is one entry of the list. All conditions that it names must hold; an
// empty list is no condition. A list holds if one of its values fits, or all of
// them are negated, and no negated one (!value) fits.
type Rule struct {
	Name   string `toml:"name"`
	Reason string `toml:"reason"`
	Action Action `toml:"action"`

	Users        []string       `toml:"users"`        // canonical Unix names
	Groups       []string       `toml:"groups"`       // Unix groups
	LDAPGroups   []string       `toml:"ldap_groups"`  // groups of the directory
	Services     []string       `toml:"services"`     // PAM services
	Sources      []string       `toml:"sources"`      // networks or addresses
	Keys         []string       `toml:"keys"`         // fingerprints, SHA256:…
	Certificates []Certificates `toml:"certificates"` // SSH certificates, by who signed them
	Targets      []string       `toml:"targets"`      // accounts that sudo or su turns to, hosts that the gateway opens
	Commands     []string       `toml:"commands"`     // what sudo is to run
	Weekdays     []string       `toml:"weekdays"`     // "mon", "sat-sun"
	Hours        string         `toml:"hours"`        // "22:00-06:00"
	Timezone     string         `toml:"timezone"`     // IANA name; empty: the host's own
	NotAfter     Moment         `toml:"not_after"`    // the zero value: no end

	Broad   bool   `toml:"broad"`   // a bypass may do without user, key and network
	Command string `toml:"command"` // ForceCommand in what `sallyport rules sshd-config` prints

	Options

	// Where the rule stands; for messages.
	Origin string `toml:"-"` // file
	Line   int    `toml:"-"` // of its header, from 1; 0: not known
	Number int    `toml:"-"` // among the rules of its file, from 1
}

// Options is how a require rule wants the second factor; what it leaves out is
// for the service to say.
type Options struct {
	Factors  []string `toml:"factors"`   // of Factors; these and no others
	AutoPush *bool    `toml:"autopush"`  //
	Attempts *int     `toml:"attempts"`  // 1 to 10
	FailMode string   `toml:"fail_mode"` // of FailModes
}

// Certificates is one value of the condition of that name: an SSH certificate
// signed by a CA of authd.toml. Principals and KeyIDs are lists like those of a
// rule; an empty one is no condition.
type Certificates struct {
	CA         string   `toml:"ca"`
	Principals []string `toml:"principals"`
	KeyIDs     []string `toml:"key_ids"`
}

// Certificate is a certificate that a login has proven, and whose signature by
// the CA, validity and critical options have been checked.
type Certificate struct {
	CA         string   `json:"ca"` // its name in authd.toml
	KeyID      string   `json:"key_id"`
	Principals []string `json:"principals"`
}

// Facts is what is known of a login when the rules are asked.
type Facts struct {
	User    string // canonical Unix name of the person who is to prove themselves
	Service string

	// InGroup says whether User is in a Unix group, InLDAPGroup in a group of the
	// directory: Unknown when it did not answer, or there is none to ask (nil).
	// Each is called at most once per group, and only for rules that name one.
	InGroup     func(ctx context.Context, group string) Truth
	InLDAPGroup func(ctx context.Context, group string) Truth

	// Source is the address of the other end; the zero value means that there
	// is none (a local login), unless SourceUnknown is set.
	Source        netip.Addr
	SourceUnknown bool // there is another end, but its address is not known

	// Keys holds the fingerprints of the SSH keys that sshd says were proven.
	Keys        []string
	KeysUnknown bool // whether a key was proven is not known

	Certificates        []Certificate
	CertificatesUnknown bool // what is in Certificates is not the whole truth

	// Target is the account that sudo or su turns to, or the host that the gateway
	// is to open; "" means that the login is no such thing.
	Target        string
	TargetUnknown bool

	// Command is what sudo is to run, its path and arguments; "" means that the
	// service runs no command of the person's.
	Command        string
	CommandUnknown bool

	Time time.Time // the zero value: not known
}

// Decision is the outcome of a list.
type Decision struct {
	Action Action
	Rule   *Rule // nil: no rule matched, so the default, require, holds
	// Doubt says that something unknown had a part in it: more knowledge could
	// change the decision.
	Doubt bool
}

// RuleName is the name of the deciding rule, or "" for the default.
func (d Decision) RuleName() string {
	if d.Rule == nil {
		return ""
	}
	return d.Rule.Name
}

// Set is a checked list of rules, ready to decide. It is immutable and safe
// for concurrent use. The nil Set has no rules.
type Set struct {
	rules   []compiled
	targets bool // a rule names some
	// Rules that name each of their users by name, and those that do not: for a
	// login only the former that name its user, and the latter, are looked at.
	byUser map[string][]int
	others []int
}

// index puts rule i where candidates will look for it.
func (s *Set) index(i int) {
	users := s.rules[i].rule.Users
	if !match.Exact(users) {
		s.others = append(s.others, i)
		return
	}
	for _, u := range users {
		if at := s.byUser[u]; len(at) == 0 || at[len(at)-1] != i {
			s.byUser[u] = append(at, i)
		}
	}
}

// candidates yields, in their order, the rules whose users may include one.
func (s *Set) candidates(user string) iter.Seq[*compiled] {
	return func(yield func(*compiled) bool) {
		if s == nil {
			return
		}
		named, others := s.byUser[user], s.others
		for len(named)+len(others) > 0 {
			from := &others
			if len(others) == 0 || len(named) > 0 && named[0] < others[0] {
				from = &named
			}
			if !yield(&s.rules[(*from)[0]]) {
				return
			}
			*from = (*from)[1:]
		}
	}
}

// NamesTargets says that a rule has a condition on the target account, which has
// to be looked up.
func (s *Set) NamesTargets() bool { return s != nil && s.targets }

// compiled is what deciding needs of a rule: small, so that many of them fit the
// processor's caches.
type compiled struct {
	conditions []condition // cheap ones first, look-ups last
	bypass     bool
	rule       *Rule
}

// Decide finds the first rule that matches. An Unknown bypass does not match;
// an Unknown require or deny does: doubt never opens a door.
func (s *Set) Decide(ctx context.Context, f Facts) Decision {
	return s.decide(ctx, f, false)
}

// MightBypass is Decide for a moment at which a later hook will know more: an
// Unknown bypass whose only unknown conditions are keys and certificates counts
// as a match, and such a require or deny is left for later. It must never be the
// last word on a login.
func (s *Set) MightBypass(ctx context.Context, f Facts) Decision {
	return s.decide(ctx, f, true)
}

func (s *Set) decide(ctx context.Context, f Facts, keysComeLater bool) Decision {
	l := newLogin(f)
	d := Decision{Action: Require}
	for r := range s.candidates(f.User) {
		truth, onlyKey := r.truth(ctx, l)
		if truth == False {
			continue
		}
		d.Doubt = d.Doubt || truth == Unknown
		matches := truth == True || !r.bypass
		if truth == Unknown && onlyKey && keysComeLater {
			matches = r.bypass
		}
		if matches {
			d.Action, d.Rule = r.rule.Action, r.rule
			break
		}
	}
	return d
}

// truth is the AND of the conditions. onlyKey says of an Unknown rule that
// nothing but the login's SSH key has to be found out.
func (r *compiled) truth(ctx context.Context, l *login) (truth Truth, onlyKey bool) {
	truth, onlyKey = True, true
	for _, c := range r.conditions {
		switch c.truth(ctx, l) {
		case False:
			return False, false
		case Unknown:
			truth = Unknown
			onlyKey = onlyKey && ofTheKey(c)
		}
	}
	return truth, onlyKey
}

// Rules returns the rules in order.
func (s *Set) Rules() []Rule {
	out := make([]Rule, 0, len(s.list()))
	for _, r := range s.list() {
		out = append(out, *r.rule)
	}
	return out
}

func (s *Set) list() []compiled {
	if s == nil {
		return nil
	}
	return s.rules
}
