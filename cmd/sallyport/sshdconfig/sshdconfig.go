// SPDX-License-Identifier: Apache-2.0

// Package sshdconfig puts bypass rules into words of sshd_config(5), so that
// sshd lets the logins in that they name without asking. It never makes sshd
// let in more than the rules do: what sshd cannot match, the account and
// session hooks decide, and what it would match too widely is left out and said.
package sshdconfig

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// service is the PAM service of sshd.
const service = "sshd"

// Methods is what a login without a bypass goes through, for require rules
// that stand before a bypass.
const Methods = "publickey,keyboard-interactive:pam"

// restrictions stand in every block. DisableForwarding is not used: before
// OpenSSH 10.0 it left X11 and agent forwarding on (CVE-2025-32728).
var restrictions = []string{
	"PermitTTY no",
	"AllowTcpForwarding no",
	"AllowStreamLocalForwarding no",
	"AllowAgentForwarding no",
	"X11Forwarding no",
	"PermitTunnel no",
	"PermitUserRC no",
}

// Config is the text for sshd_config and what it could not say.
type Config struct {
	Text     string
	Blocks   int // Match blocks of bypass rules
	Warnings []string
}

// Write puts the rules for sshd into Match blocks, in their order: sshd, like
// the rules, takes the first that matches.
func Write(list []rules.Rule) Config {
	w := &writer{}
	w.line("# Made by: sallyport rules sshd-config. Make it again when the rules change.")
	w.line("# Put it at the end of sshd_config, or in a file of its own in sshd_config.d, and check with: sshd -t")
	w.line("# sshd cannot match keys. Every login that a block names is by key alone; Sallyport's account and")
	w.line("# session hooks then refuse it unless the key is one of the rule's.")
	list = relevant(list)
	for i, r := range list {
		if !w.rule(r, list[i+1:]) {
			break
		}
	}
	if w.Blocks > 0 {
		w.line("")
		w.line("# What follows holds for everyone again.")
		w.line("Match all")
	} else {
		w.line("#")
		w.line("# No bypass rule is for sshd: nothing to add.")
	}
	w.Text = w.text.String()
	return w.Config
}

// relevant are the rules that have a say about sshd. Deny rules are not among
// them: the hooks deny however sshd came to ask.
func relevant(list []rules.Rule) []rules.Rule {
	return slices.DeleteFunc(slices.Clone(list), func(r rules.Rule) bool {
		return r.Action == rules.Deny || !rules.Fits(r.Services, service)
	})
}

// overlapping are the bypass rules that may match a login that r matches.
func overlapping(r rules.Rule, list []rules.Rule) []rules.Rule {
	var out []rules.Rule
	for _, b := range list {
		disjoint := usersDisjoint(r.Users, b.Users) || usersDisjoint(b.Users, r.Users) ||
			len(r.Sources) > 0 && len(b.Sources) > 0 && !networksOverlap(r.Sources, b.Sources)
		if b.Action == rules.Bypass && !disjoint {
			out = append(out, b)
		}
	}
	return out
}

// usersDisjoint says that list names each of its users, and that none of them is
// for other. Two patterns may always have somebody in common.
func usersDisjoint(list, other []string) bool {
	exact := len(list) > 0 && !slices.ContainsFunc(list, func(u string) bool { return strings.ContainsAny(u, "!*?") })
	return exact && !slices.ContainsFunc(list, func(u string) bool { return rules.Fits(other, u) })
}

func names(list []rules.Rule) string {
	quoted := make([]string, 0, len(list))
	for _, r := range list {
		quoted = append(quoted, strconv.Quote(r.Name))
	}
	return strings.Join(quoted, ", ")
}

func networksOverlap(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool {
		return slices.ContainsFunc(b, func(y string) bool {
			p, q := network(x), network(y)
			return !p.IsValid() || !q.IsValid() || p.Overlaps(q)
		})
	})
}

// network is what a source is, or might be: all that a negated one leaves.
func network(s string) netip.Prefix {
	if addr, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{} // not valid: overlaps with everything
	}
	return p
}

type writer struct {
	Config
	text strings.Builder
}

func (w *writer) line(s string) { w.text.WriteString(s + "\n") }

func (w *writer) warn(r rules.Rule, format string, args ...any) {
	w.Warnings = append(w.Warnings, fmt.Sprintf("rule %q: ", r.Name)+fmt.Sprintf(format, args...))
}

// rule writes one rule; false says that none after it can match.
func (w *writer) rule(r rules.Rule, after []rules.Rule) bool {
	criteria, err := match(r)
	if r.Action == rules.Require {
		return w.require(r, criteria, err, overlapping(r, after))
	}
	switch {
	case err != nil:
		w.warn(r, "left out: %v", err)
	case criteria == "" && len(unmatched(r)) > 0:
		w.warn(r, "left out: it names %s alone, which sshd cannot match; a block for everyone would refuse all other logins by key. Add users or sources", strings.Join(unmatched(r), " and "))
	case criteria == "":
		w.warn(r, "left out: it is for everyone; if that is meant, set AuthenticationMethods publickey for all and remove the rules")
		return false
	case !quotable(r.Command):
		w.warn(r, "left out: sshd cannot read its command, a quotation mark is not closed; put the command into a script")
	default:
		if len(r.Users) == 0 && len(r.Groups) == 0 && len(r.Keys)+len(r.Certificates) > 0 {
			w.warn(r, "everyone from its sources gets in by its keys only, nobody by a second factor; add users if that is not meant")
		}
		if passing := slices.DeleteFunc(unmatched(r), func(s string) bool { return s == "keys" || s == "certificates" }); len(passing) > 0 {
			w.warn(r, "sshd cannot match its %s; logins of its users and sources for which they do not hold are refused instead of asked", strings.Join(passing, " and "))
		}
		other := slices.DeleteFunc(overlapping(r, after), func(b rules.Rule) bool { return b.Command == r.Command })
		if len(other) > 0 {
			w.warn(r, "sshd forces one command on the logins that it and %s both match, whatever their keys; give the rules other users or sources", names(other))
		}
		w.bypass(r, criteria)
	}
	return true
}

// require keeps sshd asking those whom a later block would let in by key alone
// and the hooks then refuse. The block cannot undo the rest of a later one: it
// would have to know what the site has set.
func (w *writer) require(r rules.Rule, criteria string, err error, overlap []rules.Rule) bool {
	if len(overlap) == 0 {
		return true
	}
	later := names(overlap)
	switch {
	case err != nil:
		w.warn(r, "%v; logins that it and %s both match are refused instead of asked", err, later)
	case len(unmatched(r)) > 0:
		w.warn(r, "sshd cannot match its %s; logins that it and %s both match are refused instead of asked", strings.Join(unmatched(r), " and "), later)
	case criteria == "":
		w.warn(r, "it is for everyone, so %s is never reached", later)
		return false
	default:
		w.warn(r, "logins that it and %s both match are asked, but still have no terminal and no forwarding, and any command is forced; make the later rule narrower if that is not meant", later)
		w.head(r, criteria)
		w.line("    AuthenticationMethods " + Methods)
	}
	return true
}

func (w *writer) head(r rules.Rule, criteria string) {
	w.line("")
	w.line("# rule: " + comment(r.Name))
	if r.Reason != "" {
		w.line("# reason: " + comment(r.Reason))
	}
	for _, k := range r.Keys {
		w.line("# key: " + k)
	}
	for _, c := range r.Certificates {
		w.line("# certificate of CA: " + comment(c.CA))
	}
	w.line("Match " + criteria)
}

func (w *writer) bypass(r rules.Rule, criteria string) {
	w.Blocks++
	w.head(r, criteria)
	w.line("    AuthenticationMethods publickey")
	for _, s := range restrictions {
		w.line("    " + s)
	}
	if r.Command != "" {
		w.line("    ForceCommand " + strings.TrimSpace(r.Command))
	}
}

// comment is text that cannot leave its line.
func comment(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

// unmatched are the conditions of a rule that a Match line cannot hold.
func unmatched(r rules.Rule) []string {
	var out []string
	for _, c := range []struct {
		name  string
		given bool
	}{
		{"keys", len(r.Keys) > 0},
		{"certificates", len(r.Certificates) > 0},
		{"ldap_groups", len(r.LDAPGroups) > 0},
		{"weekdays", len(r.Weekdays) > 0},
		{"hours", r.Hours != ""},
		{"not_after", !r.NotAfter.IsZero()},
	} {
		if c.given {
			out = append(out, c.name)
		}
	}
	return out
}

// A name or pattern that is one word and means to sshd what it means in a rule
// (PATTERNS in ssh_config(5)).
var word = regexp.MustCompile(`^!?[A-Za-z0-9_.@+$*?][A-Za-z0-9_.@+$*?-]*$`)

// match is the criteria of a Match line; all must hold. Empty: everyone.
func match(r rules.Rule) (string, error) {
	var parts []string
	for _, c := range []struct {
		keyword string
		names   []string
	}{{"User", r.Users}, {"Group", r.Groups}} {
		for _, n := range c.names {
			if !word.MatchString(n) {
				return "", fmt.Errorf("the name %q cannot stand in a Match line", n)
			}
		}
		if len(c.names) > 0 {
			parts = append(parts, c.keyword+" "+patterns(c.names))
		}
	}
	if len(r.Sources) > 0 {
		parts = append(parts, "Address "+patterns(r.Sources))
	}
	return strings.Join(parts, " "), nil
}

// patterns is a list of a rule for sshd, for which nothing fits a list of negated
// patterns alone.
func patterns(list []string) string {
	if !slices.ContainsFunc(list, func(s string) bool { return !strings.HasPrefix(s, "!") }) {
		list = append([]string{"*"}, list...)
	}
	return strings.Join(list, ",")
}

// quotable says that sshd can take the line apart: every quotation mark is
// closed (argv_split in OpenSSH's misc.c; a backslash escapes quotes and itself).
func quotable(s string) bool {
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && i+1 < len(s) && strings.IndexByte(`'"\`, s[i+1]) >= 0:
			i++
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0 && c == quote:
			quote = 0
		}
	}
	return quote == 0
}
