// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"fmt"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/match"
)

// Condition is one condition of a rule as it came out.
type Condition struct {
	Name  string   // users, targets, logins, keys, sources …
	Want  []string // the rule's values
	Have  string   // the query's value, for people
	Truth match.Truth
}

// Step is one rule as it came out. Conditions after the first false one are not looked at
// and not listed.
type Step struct {
	Index      int // place in the list, from 0
	Rule       *Rule
	Truth      match.Truth
	Conditions []Condition
	Matched    bool
	ByLogin    bool // whether it matches is for the login to say, which is not known
}

// Explanation is a decision and how it came about.
type Explanation struct {
	Grant Grant
	Steps []Step // each rule up to the one that decides
}

// Explain is Decide, with its reasons.
func (s *Set) Explain(ctx context.Context, q Query) Explanation {
	e := Explanation{Grant: s.Decide(ctx, q)}
	if s == nil || q.Target == nil {
		return e
	}
	l := newLogin(q)
	for i := range s.rules {
		step := s.rules[i].explain(ctx, l)
		step.Index = i
		e.Steps = append(e.Steps, step)
		if step.Matched || step.ByLogin && step.Rule.Action == Allow {
			break
		}
	}
	return e
}

func (c *compiled) explain(ctx context.Context, l *login) Step {
	step := Step{Rule: c.rule, Truth: match.True}
	for _, cond := range c.conditions {
		t := match.True
		if _, ofLogin := cond.(*loginsCondition); !ofLogin || l.Login != "" || !c.anyLogin() {
			t = cond.truth(ctx, l)
		}
		step.Conditions = append(step.Conditions, Condition{cond.name(), cond.want(), cond.have(l), t})
		step.Truth = min(step.Truth, t)
		if t == match.False {
			break
		}
	}
	truth, byLogin := c.truth(ctx, l)
	step.ByLogin = truth == match.Unknown && byLogin
	step.Matched = truth == match.True || truth == match.Unknown && !byLogin && c.rule.Action == Deny
	return step
}

// Text says in words which rule decides and why those before it do not: one line per rule
// and per condition, then the outcome and what it permits.
func (e Explanation) Text() string {
	var b strings.Builder
	for _, s := range e.Steps {
		fmt.Fprintf(&b, "rule %d %q (%s", s.Index+1, s.Rule.Name, s.Rule.Action)
		if at := s.Rule.At(); at != "" {
			fmt.Fprintf(&b, ", %s", at)
		}
		fmt.Fprintf(&b, "): %s\n", s.Verdict())
		for _, c := range s.Conditions {
			fmt.Fprintf(&b, "    %-10s %-7s  wants %s; this one: %s\n", c.Name, c.Truth, strings.Join(c.Want, ", "), c.Have)
		}
	}
	b.WriteString("=> " + e.Outcome() + "\n")
	for _, p := range e.Grant.Permits() {
		b.WriteString("   " + p + "\n")
	}
	return b.String()
}

// Verdict says in words how the rule came out.
func (s Step) Verdict() string {
	switch {
	case s.Matched && s.Truth == match.Unknown:
		return "matches, as a deny rule does when something is not known"
	case s.Matched:
		return "matches"
	case s.ByLogin:
		return "matches or not by the login, which a jump does not say"
	case s.Truth == match.Unknown:
		return "does not match: an allow rule does not count when something is not known"
	}
	return "does not match"
}

// Outcome says in words what was decided.
func (e Explanation) Outcome() string {
	g := e.Grant
	switch {
	case g.Unsettled:
		return "a jump is opened and terminated, and the login inside decides"
	case g.Allowed:
		return fmt.Sprintf("allow by rule %q", g.Rule)
	case g.Rule != "":
		return fmt.Sprintf("deny by rule %q", g.Rule)
	}
	return "deny: no rule matches, and no rule is no way"
}

// Permits says in words what the grant permits, a line each.
func (g *Grant) Permits() []string {
	if g.by == nil {
		return nil
	}
	r := g.by.rule
	var out []string
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	if g.Raw {
		add("a jump goes through raw: the gateway sees nothing of it")
	} else {
		add("a jump is terminated: the gateway looks inside")
	}
	if g.Record != RecordOff {
		add("record: %s%s", g.Record, map[bool]string{true: ", with what is typed"}[g.Input])
	}
	if g.StepUp {
		add("step_up: a second factor of its own is asked for")
	}
	if g.by.all {
		add("permits everything: the rule names no limit")
		return out
	}
	add("permits this alone:")
	for _, s := range []struct {
		name string
		on   bool
	}{{"shell", g.Shell}, {"terminal", r.Terminal}, {"agent", g.Agent}, {"x11", g.X11}} {
		if s.on {
			add("  %s", s.name)
		}
	}
	for _, l := range []struct {
		name   string
		values *[]string
	}{{"exec", r.Exec}, {"subsystems", r.Subsystems}, {"sftp_read", r.SFTPRead}, {"sftp_write", r.SFTPWrite}, {"forward", r.Forward},
		{"forward_unix", r.ForwardUnix}, {"listen", r.Listen}, {"listen_unix", r.ListenUnix}, {"env", r.Env}} {
		if l.values != nil && len(*l.values) > 0 {
			add("  %s: %s", l.name, strings.Join(*l.values, ", "))
		}
	}
	return out
}
