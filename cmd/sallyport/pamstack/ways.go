// SPDX-License-Identifier: Apache-2.0

package pamstack

import (
	"cmp"
	"fmt"
	"slices"
)

// Question is what is asked of a stack: can it end in success although…
type Question struct {
	Module  string   // the module that it is about
	Returns []string // what that module may return
	// Fail are modules that are taken to fail.
	Fail []string

	pinned func(*Line) string // for tests: what a line returns, or ""
}

// Way is one way to success.
type Way struct {
	// Blame is the line by which the stack does not depend on the module: one
	// that ends the stack early, one that skips it, or the module's own.
	// Nil: the module is in no line of the stack, or what it returned suffices.
	Blame *Line
	// Value is what the module of the blamed line returned.
	Value string
	// Asked says whether the module was asked on this way.
	Asked bool
}

// impression is what libpam thinks of a stack so far (pam_dispatch.c).
type impression int

const (
	undefined impression = iota
	positive
	negative
)

// state is where an evaluation stands. It is comparable: equal states go on equally.
type state struct {
	impression impression
	success    bool // the status is PAM_SUCCESS
	asked      bool
	blame      *Line
	value      string
}

// finished says how a list of lines was left.
type finished struct {
	state state
	early bool // by done or die
}

// Ways finds the ways by which a stack ends in success, one for each line to
// blame. All returns of all other modules are tried, so a way may need luck or
// a credential; it does not need the module.
func Ways(stack []Line, q Question) []Way {
	var out []Way
	for _, f := range q.run(stack, state{}) {
		if s := f.state; s.impression == positive && s.success {
			out = append(out, Way{Blame: s.blame, Value: s.value, Asked: s.asked})
		}
	}
	slices.SortFunc(out, func(a, b Way) int { return cmp.Compare(a.order(), b.order()) })
	return slices.CompactFunc(out, func(a, b Way) bool { return a.Blame == b.Blame })
}

// order sorts ways by line, those on which the module was asked first.
func (w Way) order() string {
	if w.Blame == nil {
		return ""
	}
	return fmt.Sprintf("%s:%05d %v %s", w.Blame.File, w.Blame.Number, !w.Asked, w.Value)
}

// run evaluates lines from a state to all ends that can be reached.
func (q Question) run(lines []Line, from state) []finished {
	at := make([]map[state]bool, len(lines)+1)
	for i := range at {
		at[i] = map[state]bool{}
	}
	at[0][from] = true
	var ends []finished
	for i := range lines {
		for s := range at[i] {
			for _, step := range q.step(lines, i, s, from) {
				if step.early {
					ends = append(ends, finished{step.state, true})
					continue
				}
				at[step.next][step.state] = true
			}
		}
	}
	for s := range at[len(lines)] {
		ends = append(ends, finished{s, false})
	}
	return ends
}

type step struct {
	state state
	next  int
	early bool
}

// step evaluates line i for every value that its module may return. start is the
// state in which the stack or substack began: reset goes back to it.
func (q Question) step(lines []Line, i int, s, start state) []step {
	line := &lines[i]
	if line.Sub != nil {
		// done and die leave the substack only, and so skip nothing that is behind it.
		var out []step
		for _, end := range q.run(line.Sub, s) {
			if end.early && !q.within(line.Sub) {
				end.state.blame, end.state.value = s.blame, s.value
			}
			out = append(out, step{state: end.state, next: i + 1})
		}
		return out
	}
	own := line.Name() == q.Module
	var out []step
	for _, value := range q.values(line) {
		next := s
		next.asked = s.asked || own
		a := line.on(value)
		if a.skip > 0 {
			to := i + 1 + a.skip
			if to > len(lines) {
				continue // libpam fails on a jump past the end
			}
			if next.blame == nil && (own || q.within(lines[i+1:to])) {
				next.blame, next.value = line, value
			}
			out = append(out, step{state: next, next: to})
			continue
		}
		out = append(out, q.apply(line, outcome{own, value, a.word}, next, start, i))
	}
	return out
}

// outcome is what a module returned and what its control makes of it.
type outcome struct {
	own         bool // it is the module that the question is about
	value, word string
}

// apply is libpam's handling of an action that is no jump.
func (q Question) apply(line *Line, o outcome, next, start state, i int) step {
	asked := next.asked
	if o.own && o.value != "success" && o.word != "bad" && o.word != "die" && next.blame == nil {
		next.blame, next.value = line, o.value
	}
	switch o.word {
	case "ok", "done":
		if next.impression == undefined || next.impression == positive && next.success {
			next.impression, next.success = positive, o.value == "success"
		}
		if o.word == "done" && next.impression == positive {
			if !asked && next.blame == nil {
				next.blame, next.value = line, o.value
			}
			return step{state: next, early: true}
		}
	case "bad", "die":
		next.impression, next.success = negative, false
		if o.word == "die" {
			return step{state: next, early: true}
		}
	case "reset":
		next.impression, next.success = start.impression, start.success
	}
	return step{state: next, next: i + 1}
}

func (q Question) within(lines []Line) bool {
	return slices.ContainsFunc(flatten(lines), func(l Line) bool { return l.Name() == q.Module })
}

// Values that modules with only one are known by.
var fixed = map[string][]string{
	"pam_deny.so":      {"auth_err"},
	"pam_permit.so":    {"success"},
	"pam_warn.so":      {"ignore"},
	"pam_faildelay.so": {"ignore"},
	"pam_echo.so":      {"ignore"},
}

// values are what the module of a line may return: success, a failure, to be
// ignored, and whatever its control names.
func (q Question) values(line *Line) []string {
	name := line.Name()
	if q.pinned != nil {
		return []string{q.pinned(line)}
	}
	switch {
	case name == q.Module:
		return q.Returns
	case slices.Contains(q.Fail, name):
		return []string{"auth_err", "user_unknown"}
	case fixed[name] != nil:
		return fixed[name]
	}
	out := []string{"success", "auth_err", "ignore"}
	for value := range line.actions {
		if value != "default" && !slices.Contains(out, value) {
			out = append(out, value)
		}
	}
	slices.Sort(out)
	return out
}
