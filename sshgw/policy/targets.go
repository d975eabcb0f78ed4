// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/match"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// Targets is a list of targets, compiled: names, of which aliases are some, patterns of
// names, label:key=value and group:name, each of which may be negated. The nil list holds
// for every target.
type Targets struct {
	written            []string
	positive, negative targetValues
	some               bool // there is a positive value
}

type targetValues struct {
	names    map[string]bool
	patterns []string
	groups   []string
	labels   []labelValue
}

type labelValue struct{ key, value string }

// NewTargets compiles a list; none is nil.
func NewTargets(written []string) (*Targets, error) {
	if len(written) == 0 {
		return nil, nil
	}
	t := &Targets{written: written}
	var errs []error
	for _, w := range written {
		value, negated := match.Split(w)
		to := &t.positive
		if negated {
			to = &t.negative
		} else {
			t.some = true
		}
		if err := to.add(value); err != nil {
			errs = append(errs, err)
		}
	}
	return t, errors.Join(errs...)
}

func (v *targetValues) add(s string) error {
	if group, ok := strings.CutPrefix(s, "group:"); ok {
		v.groups = append(v.groups, group)
		return match.CheckValue(group, match.Patterned)
	}
	if label, ok := strings.CutPrefix(s, "label:"); ok {
		key, value, ok := strings.Cut(label, "=")
		if !ok || key == "" || match.IsPattern(key) {
			return fmt.Errorf("%q is not of the form label:key=value", s)
		}
		v.labels = append(v.labels, labelValue{key, value})
		return nil
	}
	if match.IsPattern(s) {
		v.patterns = append(v.patterns, strings.ToLower(s))
		return match.CheckValue(s, match.Patterned)
	}
	name, ok := inventory.Canonical(s)
	if !ok {
		return fmt.Errorf("%q is neither the name of a target, nor a pattern of names, nor label:key=value, nor group:name", s)
	}
	if v.names == nil {
		v.names = map[string]bool{}
	}
	v.names[name] = true
	return nil
}

// Match says whether the list holds for a target.
func (t *Targets) Match(target *inventory.Target) bool {
	if t == nil {
		return true
	}
	return (!t.some || t.positive.match(target)) && !t.negative.match(target)
}

func (v *targetValues) match(t *inventory.Target) bool {
	if len(v.names) > 0 {
		if v.names[t.Name] {
			return true
		}
		for _, a := range t.Aliases {
			if v.names[a] {
				return true
			}
		}
	}
	for _, p := range v.patterns {
		if p == "*" || match.Glob(p, t.Name) {
			return true
		}
	}
	for _, g := range v.groups {
		for _, have := range t.Groups {
			if match.Glob(g, have) {
				return true
			}
		}
	}
	for _, l := range v.labels {
		if have, ok := t.Labels[l.key]; ok && match.Glob(l.value, have) {
			return true
		}
	}
	return false
}

// Want is the list as it is written.
func (t *Targets) Want() []string {
	if t == nil {
		return nil
	}
	return t.written
}

// Names are the names, neither pattern nor negated, that the list holds.
func (t *Targets) Names() []string {
	if t == nil {
		return nil
	}
	var out []string
	for _, w := range t.written {
		if name, ok := inventory.Canonical(w); ok && t.positive.names[name] {
			out = append(out, name)
		}
	}
	return out
}
