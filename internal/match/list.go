// SPDX-License-Identifier: Apache-2.0

// Package match is what lists of conditions are made of, wherever rules are read:
// three-valued truth, lists of names and patterns, networks and fingerprints. It
// knows no rule.
package match

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// List is a list of values of a rule, compiled. It holds for a login if one of
// its positive values fits, or there are none, and no negated one fits.
type List struct {
	written            []string
	positive, negative values
}

// Fits says whether the list holds for a login that has these values; each may
// be the one that fits.
func (l *List) Fits(have ...string) Truth {
	return Of((l.positive.empty() || slices.ContainsFunc(have, l.positive.match)) &&
		!slices.ContainsFunc(have, l.negative.match))
}

// FitsOne is Fits for a login with a single value, which is what most are.
func (l *List) FitsOne(have string) Truth {
	return Of((l.positive.empty() || l.positive.match(have)) && (l.negative.empty() || !l.negative.match(have)))
}

// Want is the list as it is written.
func (l *List) Want() []string { return l.written }

// Fits says whether a list of names and patterns, as a rule has it, holds for one
// name. The empty list holds.
func Fits(written []string, name string) bool {
	l, err := NewList(written, Free)
	return err == nil && (l == nil || l.FitsOne(name) == True)
}

// values is a list of names and patterns without negation.
type values struct {
	few      []string            // exact names, while they are quicker to walk than to hash
	many     map[string]struct{} // exact names, else
	patterns []string
}

// fewNames is where a map becomes quicker than a walk.
const fewNames = 8

func (v *values) empty() bool { return len(v.few)+len(v.many)+len(v.patterns) == 0 }

func (v *values) match(s string) bool {
	for _, f := range v.few {
		if f == s {
			return true
		}
	}
	if v.many != nil {
		if _, ok := v.many[s]; ok {
			return true
		}
	}
	for _, p := range v.patterns {
		if Glob(p, s) {
			return true
		}
	}
	return false
}

func (v *values) add(s string) {
	switch {
	case IsPattern(s):
		v.patterns = append(v.patterns, s)
	case v.many != nil:
		v.many[s] = struct{}{}
	case len(v.few) < fewNames:
		v.few = append(v.few, s)
	default:
		v.many = map[string]struct{}{s: {}}
		for _, f := range v.few {
			v.many[f] = struct{}{}
		}
		v.few = nil
	}
}

// IsPattern says that a value holds wildcards.
func IsPattern(s string) bool { return strings.ContainsAny(s, "*?") }

// Broad says that the value, negated or a pattern of wildcards alone, names
// nobody in particular.
func Broad(s string) bool { return strings.HasPrefix(s, "!") || strings.Trim(s, "*?") == "" }

// Narrow says that the list names somebody: every value that lets in does.
func Narrow(written []string) bool {
	positive := slices.DeleteFunc(slices.Clone(written), func(s string) bool { return strings.HasPrefix(s, "!") })
	return len(positive) > 0 && !slices.ContainsFunc(positive, Broad)
}

// Exact says that the list names each of its values: no other can fit it.
func Exact(written []string) bool {
	return len(written) > 0 && !slices.ContainsFunc(written, func(s string) bool { return strings.HasPrefix(s, "!") || IsPattern(s) })
}

// Split takes the mark of negation off.
func Split(s string) (value string, negated bool) { return strings.CutPrefix(s, "!") }

// Kind says what a list may hold.
type Kind int

// The kinds of lists.
const (
	Patterned Kind = iota // names, and patterns of * and ?
	PlainOnly             // names
	Free                  // text of any kind, and patterns
)

// NewList compiles a list, and returns nil for no values.
func NewList(written []string, k Kind) (*List, error) {
	if len(written) == 0 {
		return nil, nil
	}
	l := &List{written: written}
	var errs []error
	for _, w := range written {
		value, negated := Split(w)
		if err := CheckValue(value, k); err != nil {
			errs = append(errs, err)
			continue
		}
		if negated {
			l.negative.add(value)
		} else {
			l.positive.add(value)
		}
	}
	return l, errors.Join(errs...)
}

// CheckValue says what is wrong with a value of a list.
func CheckValue(s string, k Kind) error {
	switch {
	case s == "" || strings.ContainsFunc(s, IsControl) || !utf8.ValidString(s):
		return fmt.Errorf("%q is not a name", s)
	case k == PlainOnly && IsPattern(s):
		return fmt.Errorf("%q is a pattern: groups are asked for by name, each by itself", s)
	case k != Free && strings.ContainsAny(s, "[]!"):
		return fmt.Errorf("%q is not a name; patterns are made of * and ?, and a ! stands first", s)
	}
	return nil
}

// Prints says that a text is UTF-8 and every character of it prints: none that controls a
// terminal or formats text, no line's end, and of spaces the plain one alone.
func Prints(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// IsControl says that a character is none to be read.
func IsControl(r rune) bool { return r < 0x20 || r == 0x7f }

// Glob says whether s fits the pattern: * stands for any text, the empty one
// too, ? for one character.
func Glob(pattern, s string) bool {
	// After a mismatch the last * takes one character more.
	star, from := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, i
			p++
		case p < len(pattern) && pattern[p] == '?':
			_, n := utf8.DecodeRuneInString(s[i:])
			p, i = p+1, i+n
		case p < len(pattern) && pattern[p] == s[i]:
			p, i = p+1, i+1
		case star >= 0:
			_, n := utf8.DecodeRuneInString(s[from:])
			from += n
			p, i = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
