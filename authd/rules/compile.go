// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/match"
)

// Compile checks a list of rules. The error names every fault, each with the
// rule it is in.
func Compile(all []Rule) (*Set, error) {
	var errs []error
	set := &Set{rules: make([]compiled, 0, len(all)), byUser: map[string][]int{}}
	names := map[string]int{}
	share := shared{}
	for i, r := range all {
		c, faults := compile(r, share)
		if first, dup := names[r.Name]; dup && r.Name != "" {
			faults = append(faults, fmt.Errorf("name is that of %s already", all[first].place(first)))
		} else {
			names[r.Name] = i
		}
		for _, e := range faults {
			errs = append(errs, fmt.Errorf("%s (%q): %w", r.place(i), r.Name, e))
		}
		set.rules = append(set.rules, c)
		set.index(i)
		set.targets = set.targets || len(r.Targets) > 0
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return set, nil
}

// place says where a rule stands; i is its place in the whole list.
func (r *Rule) place(i int) string {
	if r.Origin == "" {
		return fmt.Sprintf("rule %d", i+1)
	}
	return fmt.Sprintf("%s: rule %d", r.At(), r.Number)
}

// At is the file and line at which the rule begins, "" if it has none.
func (r *Rule) At() string {
	if r.Line == 0 {
		return r.Origin
	}
	return fmt.Sprintf("%s:%d", r.Origin, r.Line)
}

// shared holds conditions that many rules have, like services = ["sshd"]: one for
// all of them stays in the processor's caches.
type shared map[string]condition

// compile returns the rule and what is wrong with it.
func compile(r Rule, share shared) (compiled, []error) {
	c := compiled{rule: &r, bypass: r.Action == Bypass}
	var errs []error
	add := func(name string, cond condition, err error) {
		for _, e := range flatten(err) {
			errs = append(errs, fmt.Errorf("%s: %w", name, e))
		}
		if err == nil && cond != nil {
			c.conditions = append(c.conditions, cond)
		}
	}
	one := func(name string, written []string, k match.Kind, value func(*login) (string, bool)) {
		if len(written) == 0 {
			return
		}
		key := name + "\x00" + strings.Join(written, "\x00")
		cond, known := share[key]
		if !known {
			l, err := match.NewList(written, k)
			if err != nil {
				add(name, nil, err)
				return
			}
			cond = &oneName{l, name, value}
			share[key] = cond
		}
		add(name, cond, nil)
	}
	one("services", r.Services, match.Patterned, serviceOf)
	one("users", r.Users, match.Patterned, userOf)
	one("targets", r.Targets, match.Patterned, targetOf)
	one("commands", r.Commands, match.Free, commandOf)
	keys, err := compileKeys(&r)
	add("keys", keys, err)
	certificates, err := compileCertificates(r.Certificates)
	add("certificates", certificates, err)
	sources, wide, err := compileSources(r.Sources)
	add("sources", sources, err)
	spans, spanErrs := compileSpan(&r)
	c.conditions = append(c.conditions, spans...)
	errs = append(errs, spanErrs...)
	unix, err := compileGroups("groups", r.Groups, inGroup, func(l *login) map[string]Truth { return l.groups })
	add("groups", unix, err)
	ldap, err := compileGroups("ldap_groups", r.LDAPGroups, inLDAPGroup, func(l *login) map[string]Truth { return l.ldapGroups })
	add("ldap_groups", ldap, err)

	errs = append(errs, checkAction(&r)...)
	errs = append(errs, checkKnowable(&r)...)
	errs = append(errs, checkBypass(&r, wide)...)
	errs = append(errs, r.Options.check(r.Action)...)
	return c, errs
}

func flatten(err error) []error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		return many.Unwrap()
	}
	return []error{err}
}

func checkAction(r *Rule) []error {
	var errs []error
	switch r.Action {
	case Require, Bypass, Deny:
	case "":
		errs = append(errs, errors.New(`action is missing: "require", "bypass" or "deny"`))
	default:
		errs = append(errs, fmt.Errorf(`action %q is none of "require", "bypass", "deny"`, r.Action))
	}
	if r.Command != "" && (r.Action != Bypass || strings.ContainsFunc(r.Command, match.IsControl)) {
		errs = append(errs, errors.New("command belongs to a bypass rule and is one line"))
	}
	return errs
}

// checkBypass holds a bypass to more than the rest: it is the one action that
// makes a login weaker.
func checkBypass(r *Rule, wide bool) []error {
	if r.Action != Bypass {
		return nil
	}
	var errs []error
	if strings.TrimSpace(r.Name) == "" {
		errs = append(errs, errors.New("a bypass rule needs a name: the log names it with each login it lets in"))
	}
	if strings.TrimSpace(r.Reason) == "" {
		errs = append(errs, errors.New("a bypass rule needs a reason: why is no second factor asked for here?"))
	}
	for _, tightening := range []struct {
		name   string
		values []string
	}{{"targets", r.Targets}, {"commands", r.Commands}} {
		if len(tightening.values) > 0 {
			errs = append(errs, fmt.Errorf("%s can only tighten: whoever may start one program as another account can often start any; write a require or deny rule with %s = [\"!…\"], or leave %[1]s out", tightening.name, tightening.name))
		}
	}
	if !r.Broad && !match.Narrow(r.Users) && !match.Narrow(r.Keys) && !narrowCertificates(r.Certificates) && (wide || !match.Narrow(r.Sources)) {
		errs = append(errs, errors.New("a bypass rule without users, keys or a network opens the door for everyone: name one, or say broad = true"))
	}
	return errs
}

// narrowCertificates says that each value names certificates, and not just who
// signed them.
func narrowCertificates(list []Certificates) bool {
	return len(list) > 0 && !slices.ContainsFunc(list, func(c Certificates) bool { return !match.Narrow(c.Principals) && !match.Narrow(c.KeyIDs) })
}

// A nil *T in an interface is not nil, so these return interfaces.

func compileKeys(r *Rule) (condition, error) {
	if len(r.Keys) == 0 {
		return nil, nil
	}
	var errs []error
	norm := make([]string, len(r.Keys))
	for i, k := range r.Keys {
		value, negated := match.Split(k)
		fingerprint, err := match.ParseFingerprint(value)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if norm[i] = fingerprint; negated {
			norm[i] = "!" + fingerprint
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	r.Keys = norm
	l, err := match.NewList(norm, match.Free)
	return &keysCondition{l}, err
}

func compileCertificates(written []Certificates) (condition, error) {
	if len(written) == 0 {
		return nil, nil
	}
	c := &certificatesCondition{}
	var errs []error
	for _, w := range written {
		if w.CA == "" {
			errs = append(errs, errors.New("ca is missing: the name of a table [ssh_ca.NAME] of authd.toml"))
		}
		principals, err1 := match.NewList(w.Principals, match.Free)
		keyIDs, err2 := match.NewList(w.KeyIDs, match.Free)
		errs = append(errs, flatten(err1)...)
		errs = append(errs, flatten(err2)...)
		c.any = append(c.any, certificate{w.CA, principals, keyIDs})
	}
	return c, errors.Join(errs...)
}

func compileSources(written []string) (c condition, wide bool, err error) {
	if len(written) == 0 {
		return nil, false, nil
	}
	s := &sourcesCondition{written: written}
	var errs []error
	for _, w := range written {
		value, negated := match.Split(w)
		p, err := match.ParseNetwork(value)
		switch {
		case err != nil:
			errs = append(errs, err)
		case negated:
			s.negative = append(s.negative, p)
		default:
			wide = wide || p.Bits() == 0
			s.positive = append(s.positive, p)
		}
	}
	return s, wide, errors.Join(errs...)
}

func compileGroups(name string, written []string, ask func(context.Context, *login, string) Truth, asked func(*login) map[string]Truth) (condition, error) {
	if len(written) == 0 {
		return nil, nil
	}
	c := &groupsCondition{label: name, written: written, ask: ask, asked: asked}
	var errs []error
	for _, w := range written {
		value, negated := match.Split(w)
		if err := match.CheckValue(value, match.PlainOnly); err != nil {
			errs = append(errs, err)
		}
		if negated {
			c.negative = append(c.negative, value)
		} else {
			c.positive = append(c.positive, value)
		}
	}
	return c, errors.Join(errs...)
}
