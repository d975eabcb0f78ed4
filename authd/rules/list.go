// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// list is a list of values of a rule, compiled. It holds for a login if one of
// its positive values fits, or there are none, and no negated one fits.
type list struct {
	written            []string // as in the file
	positive, negative values
}

// fits says whether the list holds for a login that has these values; each may
// be the one that fits.
func (l *list) fits(have ...string) Truth {
	return of((l.positive.empty() || slices.ContainsFunc(have, l.positive.match)) &&
		!slices.ContainsFunc(have, l.negative.match))
}

// fitsOne is fits for a login with a single value, which is what most are.
func (l *list) fitsOne(have string) Truth {
	return of((l.positive.empty() || l.positive.match(have)) && (l.negative.empty() || !l.negative.match(have)))
}

func (l *list) want() []string { return l.written }

// Fits says whether a list of names and patterns, as a rule has it, holds for one
// name. The empty list holds.
func Fits(written []string, name string) bool {
	l, err := compileList(written, free)
	return err == nil && (l == nil || l.fitsOne(name) == True)
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
		if glob(p, s) {
			return true
		}
	}
	return false
}

func (v *values) add(s string) {
	switch {
	case isPattern(s):
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

func isPattern(s string) bool { return strings.ContainsAny(s, "*?") }

// broad says that the value, negated or a pattern of wildcards alone, names
// nobody in particular.
func broad(s string) bool { return strings.HasPrefix(s, "!") || strings.Trim(s, "*?") == "" }

// narrow says that the list names somebody: every value that lets in does.
func narrow(written []string) bool {
	positive := slices.DeleteFunc(slices.Clone(written), func(s string) bool { return strings.HasPrefix(s, "!") })
	return len(positive) > 0 && !slices.ContainsFunc(positive, broad)
}

// exact says that the list names each of its values: no other can fit it.
func exact(written []string) bool {
	return len(written) > 0 && !slices.ContainsFunc(written, func(s string) bool { return strings.HasPrefix(s, "!") || isPattern(s) })
}

// split takes the mark of negation off.
func split(s string) (value string, negated bool) { return strings.CutPrefix(s, "!") }

// kind says what a list may hold.
type kind int

const (
	patterned kind = iota // names, and patterns of * and ?
	plainOnly             // names
	free                  // text of any kind, and patterns
)

// compileList returns nil for no values.
func compileList(written []string, k kind) (*list, error) {
	if len(written) == 0 {
		return nil, nil
	}
	l := &list{written: written}
	var errs []error
	for _, w := range written {
		value, negated := split(w)
		if err := checkValue(value, k); err != nil {
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

func checkValue(s string, k kind) error {
	switch {
	case s == "" || strings.ContainsFunc(s, isControl) || !utf8.ValidString(s):
		return fmt.Errorf("%q is not a name", s)
	case k == plainOnly && isPattern(s):
		return fmt.Errorf("%q is a pattern: groups are asked for by name, each by itself", s)
	case k != free && strings.ContainsAny(s, "[]!"):
		return fmt.Errorf("%q is not a name; patterns are made of * and ?, and a ! stands first", s)
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r == 0x7f }

// glob says whether s fits the pattern: * stands for any text, the empty one
// too, ? for one character.
func glob(pattern, s string) bool {
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
