// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/pamstack"
)

// Marks in a service file, so that disable gives back what enable found.
const (
	takenOut = "#sallyport: " // before a line that enable has taken out
	changed  = " #sallyport"  // behind a line that stands in place of one taken out
)

// item is a line of the service file itself, with what it contributes to one stack.
type item struct {
	pamstack.Line
	from, to    int  // raw lines [from, to)
	firstFactor bool // it checks a first factor, itself or by what it includes
	alone       bool // it contributes to this stack only
}

// file is a service file that is being edited.
type file struct {
	path   string
	raw    []string
	loader pamstack.Loader
}

func newFile(path, text string, loader pamstack.Loader) *file {
	return &file{path: path, raw: strings.Split(strings.TrimSuffix(text, "\n"), "\n"), loader: loader}
}

// items are the lines of the file that contribute to the stack of a type, in order.
func (f *file) items(t pamstack.Type) []item {
	lines, _ := pamstack.Parse(f.path, strings.Join(f.raw, "\n"))
	var out []item
	for _, l := range lines {
		i := item{Line: l, from: l.Number - 1, to: f.end(l.Number - 1), alone: true}
		switch {
		case l.Control == "@include":
			s, err := f.loader.Load(l.Module)
			if err != nil || len(s.Stacks[t]) == 0 {
				continue
			}
			i.firstFactor = checksFirstFactor(s.Lines(t))
			for other, stack := range s.Stacks {
				i.alone = i.alone && (other == t || len(stack) == 0)
			}
		case l.Type != t:
			continue
		case i.Includes():
			if s, err := f.loader.Load(l.Module); err == nil {
				i.firstFactor = checksFirstFactor(s.Lines(t))
			}
		default:
			i.firstFactor = checksFirstFactor([]pamstack.Line{l})
		}
		out = append(out, i)
	}
	return out
}

func checksFirstFactor(lines []pamstack.Line) bool {
	return slices.ContainsFunc(lines, func(l pamstack.Line) bool { return slices.Contains(doctor.FirstFactors, l.Name()) })
}

// end is the raw line after the logical line that begins at from: a backslash
// before the end or before a comment joins lines.
func (f *file) end(from int) int {
	for ; from < len(f.raw); from++ {
		line, _, _ := strings.Cut(f.raw[from], "#")
		if !strings.HasSuffix(strings.TrimRight(line, " \t\r"), `\`) {
			return from + 1
		}
	}
	return len(f.raw)
}

// edit is a change of a file: before raw line at come lines; those up to to are taken out.
type edit struct {
	at, to int
	lines  []string
}

// apply is the text after edits, which do not overlap.
func (f *file) apply(edits ...edit) string {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b edit) int { return a.at - b.at })
	var out []string
	next := 0
	for _, e := range edits {
		out = append(out, f.raw[next:e.at]...)
		for _, l := range f.raw[e.at:max(e.at, e.to)] {
			out = append(out, takenOut+l)
		}
		out = append(out, e.lines...)
		next = max(next, e.at, e.to)
	}
	return strings.Join(append(out, f.raw[next:]...), "\n") + "\n"
}

// ours is the module's line for a stack.
func ours(t pamstack.Type, args string) string {
	return strings.TrimRight(fmt.Sprintf("%-10s required     %s %s", t, doctor.Module, args), " ")
}

// afterPassword are the texts in which the module comes after the first factor
// that the stack checks, best first. Which of them is sound the caller finds out.
func (f *file) afterPassword(args string) []string {
	items := f.items(pamstack.Auth)
	last := -1
	for n, i := range items {
		if i.firstFactor {
			last = n
		}
	}
	if last < 0 {
		return nil
	}
	var texts []string
	for _, n := range slices.Compact([]int{last, len(items) - 1}) {
		insert := edit{at: items[n].to, lines: []string{ours(pamstack.Auth, args)}}
		texts = append(texts, f.apply(insert))
		// "sufficient" in a file that is included ends everything; in a substack it
		// ends that alone.
		edits := []edit{insert}
		for _, i := range items[:n+1] {
			if i.Includes() && i.Control != "substack" && i.alone {
				edits = append(edits, edit{i.from, i.to, []string{fmt.Sprintf("%-10s substack     %s%s", pamstack.Auth, i.Module, changed)}})
			}
		}
		if len(edits) > 1 {
			texts = append(texts, f.apply(edits...))
		}
	}
	return texts
}

// insteadOfPassword are the texts in which the module stands where the stack
// checks a first factor: sshd has checked the key.
func (f *file) insteadOfPassword(args string) []string {
	items := f.items(pamstack.Auth)
	line := []string{ours(pamstack.Auth, args)}
	var edits []edit
	for _, i := range items {
		if !i.firstFactor {
			continue
		}
		if !i.alone {
			return nil
		}
		edits = append(edits, edit{at: i.from, to: i.to})
	}
	switch {
	case len(edits) > 0:
		edits[len(edits)-1].lines = line
	case len(items) > 0:
		edits = []edit{{at: items[len(items)-1].to, lines: line}}
	default:
		return nil
	}
	return []string{f.apply(edits...)}
}

// beforeAccount is the text in which the module is the first of the account
// stack: nothing that ends the stack early can come before it.
func (f *file) beforeAccount(args string) []string {
	items := f.items(pamstack.Account)
	if len(items) == 0 {
		return nil
	}
	return []string{f.apply(edit{at: items[0].from, lines: []string{ours(pamstack.Account, args)}})}
}

// early are the texts in which the module comes early in the session stack: after
// pam_loginuid, which says whose session it is, or else first.
func (f *file) early(args string) []string {
	items := f.items(pamstack.Session)
	if len(items) == 0 {
		return nil
	}
	line := []string{ours(pamstack.Session, args)}
	var texts []string
	for _, i := range items {
		if i.Name() == "pam_loginuid.so" {
			texts = append(texts, f.apply(edit{at: i.to, lines: line}))
			break
		}
	}
	return append(texts, f.apply(edit{at: items[0].from, lines: line}))
}

// without is the text without the module, as enable found it.
func (f *file) without() string {
	lines, _ := pamstack.Parse(f.path, strings.Join(f.raw, "\n"))
	gone := map[int]bool{}
	for _, l := range lines {
		if l.Control != "@include" && l.Name() == doctor.Module {
			for n := l.Number - 1; n < f.end(l.Number-1); n++ {
				gone[n] = true
			}
		}
	}
	var out []string
	for n, l := range f.raw {
		before, found := strings.CutPrefix(l, takenOut)
		switch {
		case gone[n], strings.HasSuffix(l, changed):
		case found:
			out = append(out, before)
		default:
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n") + "\n"
}
