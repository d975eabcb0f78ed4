// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"context"
	"fmt"
	"strings"
)

// Condition is one condition of a rule as it came out.
type Condition struct {
	Name  string   // users, groups, services, sources, keys …
	Want  []string // the rule's values
	Have  string   // the login's value, for people
	Truth Truth
}

// Step is one rule as it came out. Conditions after the first false one are
// not looked at and not listed.
type Step struct {
	Index      int // place in the list, from 0
	Rule       *Rule
	Truth      Truth
	Conditions []Condition
	Matched    bool
}

// Explanation is a decision and how it came about.
type Explanation struct {
	Decision
	Steps []Step // each rule up to the one that decides
}

// Explain is Decide, with its reasons.
func (s *Set) Explain(ctx context.Context, f Facts) Explanation {
	e := Explanation{Decision: Decision{Action: Require}}
	l := newLogin(f)
	for i := range s.list() {
		step := s.rules[i].explain(ctx, l)
		step.Index = i
		e.Steps = append(e.Steps, step)
		e.Doubt = e.Doubt || step.Truth == Unknown
		if step.Matched {
			e.Action, e.Rule = step.Rule.Action, step.Rule
			break
		}
	}
	return e
}

func (r *compiled) explain(ctx context.Context, l *login) Step {
	step := Step{Rule: r.rule, Truth: True}
	for _, c := range r.conditions {
		t := c.truth(ctx, l)
		step.Conditions = append(step.Conditions, Condition{c.name(), c.want(), c.have(l), t})
		step.Truth = min(step.Truth, t)
		if t == False {
			break
		}
	}
	step.Matched = step.Truth == True || step.Truth == Unknown && !r.bypass
	return step
}

// Text says in words which rule decides and why those before it do not: one
// line per rule and per condition, then the outcome.
func (e Explanation) Text() string {
	var b strings.Builder
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "rule %d %q (%s", s.Index+1, s.Rule.Name, s.Rule.Action)
		if at := s.Rule.At(); at != "" {
			fmt.Fprintf(&b, ", %s", at)
		}
		fmt.Fprintf(&b, "): %s\n", s.Verdict())
		for _, c := range s.Conditions {
			fmt.Fprintf(&b, "    %-12s %-7s  wants %s; this login: %s\n", c.Name, c.Truth, strings.Join(c.Want, ", "), c.Have)
		}
	}
	if e.Rule == nil {
		fmt.Fprintf(&b, "=> %s: no rule matches, and that is the default\n", e.Action)
		return b.String()
	}
	fmt.Fprintf(&b, "=> %s by rule %q", e.Action, e.Rule.Name)
	if e.Rule.Reason != "" {
		fmt.Fprintf(&b, ": %s", e.Rule.Reason)
	}
	b.WriteString("\n")
	if o := e.Rule.Options.String(); o != "" {
		fmt.Fprintf(&b, "   with %s\n", o)
	}
	return b.String()
}

// String is the options as a file has them, "" if there are none.
func (o Options) String() string {
	var out []string
	if o.Factors != nil {
		out = append(out, fmt.Sprintf("factors = %q", o.Factors))
	}
	if o.AutoPush != nil {
		out = append(out, fmt.Sprintf("autopush = %t", *o.AutoPush))
	}
	if o.Attempts != nil {
		out = append(out, fmt.Sprintf("attempts = %d", *o.Attempts))
	}
	if o.FailMode != "" {
		out = append(out, fmt.Sprintf("fail_mode = %q", o.FailMode))
	}
	return strings.Join(out, ", ")
}

// Verdict says in words how the rule came out.
func (s Step) Verdict() string {
	switch {
	case s.Matched && s.Truth == Unknown:
		return fmt.Sprintf("matches, as a %s rule does when something is not known", s.Rule.Action)
	case s.Matched:
		return "matches"
	case s.Truth == Unknown:
		return "does not match: a bypass does not count when something is not known"
	}
	return "does not match"
}
