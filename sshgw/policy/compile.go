// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/calendar"
	"github.com/sallyport-mfa/sallyport/internal/match"
)

// compiled is what deciding needs of a rule.
type compiled struct {
	rule       *Rule
	conditions []condition // cheap ones first, look-ups last

	raw, all  bool // all: nothing is out of bounds
	exec      commands
	subsystem *match.List
	read      paths
	write     paths
	forward   destinations
	unix      paths
	listen    destinations
	listenAt  paths
	env       *match.List
}

// defaultEnv is what rules with limits let pass of the environment: what sshd as
// distributions configure it accepts.
var defaultEnv = []string{"LANG", "LC_*", "COLORTERM", "NO_COLOR"}

// Compile checks a list of rules. The error names every fault, each with the rule it is in.
func Compile(all []Rule) (*Set, error) {
	var errs []error
	s := &Set{rules: make([]compiled, 0, len(all)), byUser: map[string][]int{}}
	names := map[string]int{}
	share := map[string]*Targets{}
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
		s.rules = append(s.rules, c)
		s.index(i)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

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

// place says where a rule stands; i is its place in the list.
func (r *Rule) place(i int) string {
	if r.Line == 0 {
		return fmt.Sprintf("rule %d", i+1)
	}
	return fmt.Sprintf("%s: rule %d", r.At(), i+1)
}

func compile(r Rule, share map[string]*Targets) (compiled, []error) {
	c := compiled{}
	var errs []error
	fail := func(name string, err error) {
		for _, e := range flatten(err) {
			errs = append(errs, fmt.Errorf("%s: %w", name, e))
		}
	}
	if r.Action == "" {
		r.Action = Allow
	}
	if r.Mode == "" {
		r.Mode = Auto
	}
	if r.Record == "" {
		r.Record = RecordOff
	}
	c.rule = &r
	errs = append(errs, r.check()...)

	if users, err := match.NewList(r.Users, match.Patterned); err != nil {
		fail("users", err)
	} else if users != nil {
		c.conditions = append(c.conditions, &usersCondition{users, len(r.Users) == 1 && r.Users[0] == "*"})
	}
	c.keysAndSources(fail)
	key := strings.Join(r.Targets, "\x00")
	targets, known := share[key]
	if !known {
		var err error
		if targets, err = NewTargets(r.Targets); err != nil {
			fail("targets", err)
		}
		share[key] = targets
	}
	if targets != nil {
		c.conditions = append(c.conditions, &targetsCondition{targets})
	}
	c.logins(fail)
	c.times(fail)
	if len(r.Groups) > 0 {
		g := &groupsCondition{written: r.Groups}
		for _, w := range r.Groups {
			value, negated := match.Split(w)
			if err := match.CheckValue(value, match.PlainOnly); err != nil {
				fail("groups", err)
			}
			if negated {
				g.negative = append(g.negative, value)
			} else {
				g.positive = append(g.positive, value)
			}
		}
		c.conditions = append(c.conditions, g)
	}
	c.permissions(fail)
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

// MaxName bounds the name of a rule, in bytes, below what authd takes of a name.
const MaxName = 200

// check is about what the settings of a rule mean together.
func (r *Rule) check() []error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if strings.TrimSpace(r.Name) == "" {
		fail("name is missing: the log names the rule with each session")
	}
	for _, s := range []struct{ name, value string }{{"name", r.Name}, {"reason", r.Reason}} {
		if len(s.value) > MaxName || !match.Prints(s.value) {
			fail("%s is one line of at most %d bytes that print", s.name, MaxName)
		}
	}
	if r.Action != Allow && r.Action != Deny {
		fail(`action %q is none of "allow", "deny"`, r.Action)
	}
	if r.Mode != Auto && r.Mode != Raw && r.Mode != Terminated {
		fail(`mode %q is none of "auto", "raw", "terminated"`, r.Mode)
	}
	if r.Record != RecordOff && r.Record != RecordOn && r.Record != RecordRequired {
		fail(`record %q is none of "off", "on", "required"`, r.Record)
	}
	if r.Input && r.Record == RecordOff {
		fail("record_input says nothing without record")
	}
	if r.Terminal && r.Exec == nil {
		fail("terminal says nothing without exec")
	}
	if r.Action == Deny {
		if sights := slices.DeleteFunc(r.sights(), func(s string) bool { return s == "logins" }); len(sights) > 0 || r.Mode != Auto {
			fail("a deny rule refuses the target altogether; %s can stand in an allow rule alone, which permits what it names and nothing else", strings.Join(append(sights, "mode")[:max(1, len(sights))], ", "))
		}
		return errs
	}
	if len(r.Users)+len(r.Groups)+len(r.Keys) == 0 {
		fail(`an allow rule names users, groups or keys; users = ["*"] is everybody`)
	}
	if len(r.Targets) == 0 {
		fail(`an allow rule names targets; targets = ["*"] is all of them`)
	}
	if sights := r.sights(); r.Mode == Raw && len(sights) > 0 {
		fail(`mode = "raw": the gateway would have to look inside for %s; leave mode out, and jumps are terminated where that is needed`, strings.Join(sights, ", "))
	}
	return errs
}

func (c *compiled) logins(fail func(string, error)) {
	r := c.rule
	written := r.Logins
	if len(written) == 0 {
		if r.Action == Deny {
			return
		}
		written = []string{ownName}
	}
	l := &loginsCondition{written: written, any: anyLogin(written)}
	var rest []string
	for _, w := range written {
		value, negated := match.Split(w)
		l.positive = l.positive || !negated
		switch {
		case value == ownName && negated:
			l.deny = true
		case value == ownName:
			l.own = true
		case strings.Contains(value, "%"):
			fail("logins", fmt.Errorf("%q: %%u stands by itself, for the user's own name", w))
		default:
			rest = append(rest, w)
		}
	}
	list, err := match.NewList(rest, match.Patterned)
	fail("logins", err)
	l.list = list
	c.conditions = append(c.conditions, l)
}

func (c *compiled) keysAndSources(fail func(string, error)) {
	r := c.rule
	if len(r.Keys) > 0 {
		norm := make([]string, len(r.Keys))
		for i, k := range r.Keys {
			value, negated := match.Split(k)
			fingerprint, err := match.ParseFingerprint(value)
			fail("keys", err)
			if norm[i] = fingerprint; negated {
				norm[i] = "!" + fingerprint
			}
		}
		list, err := match.NewList(norm, match.Free)
		fail("keys", err)
		c.conditions = append(c.conditions, &keysCondition{list})
	}
	if len(r.Sources) > 0 {
		s := &sourcesCondition{written: r.Sources}
		for _, w := range r.Sources {
			value, negated := match.Split(w)
			p, err := match.ParseNetwork(value)
			fail("sources", err)
			if negated {
				s.negative = append(s.negative, p)
			} else {
				s.positive = append(s.positive, p)
			}
		}
		c.conditions = append(c.conditions, s)
	}
}

func (c *compiled) times(fail func(string, error)) {
	r := c.rule
	zone, err := calendar.ParseZone(r.Timezone)
	if err != nil {
		fail("timezone", err)
		return
	}
	if r.Timezone != "" && len(r.Weekdays) == 0 && r.Hours == "" && r.NotAfter.IsZero() {
		fail("timezone", errors.New("it says nothing without weekdays, hours or not_after"))
	}
	if len(r.Weekdays) > 0 || r.Hours != "" {
		w := &weekCondition{label: "weekdays", written: r.Weekdays, zone: zone}
		if r.Hours != "" {
			w.label, w.written = "hours", append(slices.Clone(r.Weekdays), r.Hours)
		}
		var daysErr, hoursErr error
		w.Days, daysErr = calendar.ParseDays(r.Weekdays)
		w.From, w.To, hoursErr = calendar.ParseHours(r.Hours)
		fail(w.label, errors.Join(daysErr, hoursErr))
		c.conditions = append(c.conditions, w)
	}
	if !r.NotAfter.IsZero() {
		end, written := r.NotAfter.End(zone)
		c.conditions = append(c.conditions, &endCondition{end: end, written: written, zone: zone})
	}
}

func (c *compiled) permissions(fail func(string, error)) {
	r := c.rule
	c.all = !r.limited()
	c.raw = r.Mode != Terminated && len(r.sights()) == 0
	some := func(p *[]string) []string {
		if p == nil {
			return nil
		}
		return *p
	}
	var err error
	c.exec, err = newCommands(some(r.Exec))
	fail("exec", err)
	c.subsystem, err = match.NewList(some(r.Subsystems), match.Patterned)
	fail("subsystems", err)
	if slices.Contains(some(r.Subsystems), "sftp") {
		fail("subsystems", errors.New(`"sftp" is permitted by sftp_read and sftp_write`))
	}
	c.read, err = newPaths(some(r.SFTPRead))
	fail("sftp_read", err)
	c.write, err = newPaths(some(r.SFTPWrite))
	fail("sftp_write", err)
	c.forward, err = newDestinations(some(r.Forward), "")
	fail("forward", err)
	c.unix, err = newPaths(some(r.ForwardUnix))
	fail("forward_unix", err)
	c.listen, err = newDestinations(some(r.Listen), loopback)
	fail("listen", err)
	c.listenAt, err = newPaths(some(r.ListenUnix))
	fail("listen_unix", err)
	env := some(r.Env)
	switch {
	case r.Env == nil && c.all:
		env = []string{"*"}
	case r.Env == nil:
		env = defaultEnv
	}
	c.env, err = match.NewList(env, match.Patterned)
	fail("env", err)
}

// truth is the AND of the conditions. byLogin says of an Unknown rule that nothing but
// the login has to be found out.
func (c *compiled) truth(ctx context.Context, l *login) (truth match.Truth, byLogin bool) {
	truth, byLogin = match.True, true
	for _, cond := range c.conditions {
		_, ofLogin := cond.(*loginsCondition)
		if ofLogin && l.Login == "" && c.anyLogin() {
			continue
		}
		switch cond.truth(ctx, l) {
		case match.False:
			return match.False, false
		case match.Unknown:
			truth = match.Unknown
			byLogin = byLogin && ofLogin
		}
	}
	return truth, byLogin
}

// anyLogin says that a jump whose login nobody sees may pass: the rule leaves logins to the
// target, which asks for its own proof.
func (c *compiled) anyLogin() bool {
	return len(c.rule.Logins) == 0 && c.raw || anyLogin(c.rule.Logins)
}
