// SPDX-License-Identifier: Apache-2.0

// Package pamstack reads PAM service files (pam.d(5)) and finds the ways through
// a stack that do not depend on one module. It never loads a module and never
// changes a file.
package pamstack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Type is the kind of a line: what it is consulted for.
type Type string

// The types.
const (
	Auth     Type = "auth"
	Account  Type = "account"
	Session  Type = "session"
	Password Type = "password"
)

// Line is one rule of a stack, or a substack.
type Line struct {
	File    string
	Number  int
	Type    Type
	Silent  bool   // the type began with "-"
	Control string // as written
	Module  string // as written
	Args    []string
	Sub     []Line // of a substack; then Module is its file

	actions map[string]action
}

// Name is the module's file name.
func (l Line) Name() string { return filepath.Base(l.Module) }

// Includes says that the line leads to another file, which Module names.
func (l Line) Includes() bool {
	return l.Control == includeDebian || l.Control == "include" || l.Control == "substack"
}

// At says where the line is.
func (l Line) At() string { return l.File + ":" + strconv.Itoa(l.Number) }

func (l Line) String() string { return fmt.Sprintf("%s %s %s", l.Type, l.Control, l.Name()) }

// Service is a service with everything that it includes.
type Service struct {
	Name   string
	Stacks map[Type][]Line
	Faults []string // what libpam would stumble over
}

// Lines are the lines of a type, those of substacks among them.
func (s Service) Lines(t Type) []Line { return flatten(s.Stacks[t]) }

func flatten(lines []Line) []Line {
	var out []Line
	for _, l := range lines {
		if l.Sub != nil {
			out = append(out, flatten(l.Sub)...)
			continue
		}
		out = append(out, l)
	}
	return out
}

// Has says whether the service names the module anywhere.
func (s Service) Has(module string) bool {
	for t := range s.Stacks {
		if slices.ContainsFunc(s.Lines(t), func(l Line) bool { return l.Name() == module }) {
			return true
		}
	}
	return false
}

// Limits on what is read.
const (
	maxFile  = 1 << 20
	maxDepth = 16 // of includes; libpam's own limit is 32
)

// Dirs are the folders of service files; the first that has a service wins.
var Dirs = []string{"/etc/pam.d", "/usr/lib/pam.d"}

// Loader reads services below a root.
type Loader struct {
	Root string
	// Instead holds texts by path below the root that count instead of the files:
	// what a change would make of them.
	Instead map[string]string
}

// Services are the names of all services.
func (l Loader) Services() ([]string, error) {
	var names []string
	for _, dir := range Dirs {
		entries, err := os.ReadDir(filepath.Join(l.Root, dir))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read PAM services: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() && !ignored(e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// ignored are what editors and package managers leave beside the files.
func ignored(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.Contains(name, ".dpkg-") ||
		strings.HasSuffix(name, ".rpmnew") || strings.HasSuffix(name, ".rpmsave") || strings.HasSuffix(name, ".bak")
}

// Load reads a service.
func (l Loader) Load(name string) (Service, error) {
	s := Service{Name: name, Stacks: map[Type][]Line{}}
	for _, t := range []Type{Auth, Account, Session, Password} {
		lines, err := l.stack(&s, name, t, 0)
		if err != nil {
			return s, err
		}
		s.Stacks[t] = lines
	}
	slices.Sort(s.Faults)
	s.Faults = slices.Compact(s.Faults)
	return s, nil
}

// Text is the text of a service's own file.
func (l Loader) Text(name string) (string, error) {
	_, text, err := l.read(name)
	return text, err
}

func (l Loader) read(name string) (path, text string, err error) {
	for _, dir := range Dirs {
		path = filepath.Join(dir, name)
		if filepath.IsAbs(name) {
			path = name
		}
		if text, ok := l.Instead[path]; ok {
			return path, text, nil
		}
		info, err := os.Stat(filepath.Join(l.Root, path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", "", fmt.Errorf("read PAM service: %w", err)
		}
		if !info.Mode().IsRegular() || info.Size() > maxFile {
			return "", "", fmt.Errorf("read PAM service: %s is no file of at most %d bytes", path, maxFile)
		}
		b, err := os.ReadFile(filepath.Join(l.Root, path))
		if err != nil {
			return "", "", fmt.Errorf("read PAM service: %w", err)
		}
		return path, string(b), nil
	}
	return "", "", fmt.Errorf("read PAM service %s: %w", name, fs.ErrNotExist)
}

// stack reads the lines of one type, and of the files that they include.
func (l Loader) stack(s *Service, name string, t Type, depth int) ([]Line, error) {
	path, text, err := l.read(name)
	if err != nil {
		if depth > 0 && errors.Is(err, fs.ErrNotExist) {
			s.Faults = append(s.Faults, fmt.Sprintf("included file %s does not exist", name))
			return nil, nil
		}
		return nil, err
	}
	if depth > maxDepth {
		s.Faults = append(s.Faults, fmt.Sprintf("%s: files include one another without end", path))
		return nil, nil
	}
	parsed, faults := Parse(path, text)
	s.Faults = append(s.Faults, faults...)
	out := []Line{}
	for _, line := range parsed {
		if line.Type != t && line.Control != includeDebian {
			continue
		}
		switch line.Control {
		case includeDebian, "include":
			lines, err := l.stack(s, line.Module, t, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, lines...)
		case "substack":
			if line.Sub, err = l.stack(s, line.Module, t, depth+1); err != nil {
				return nil, err
			}
			out = append(out, line)
		default:
			out = append(out, line)
		}
	}
	return out, nil
}

// includeDebian is Debian's way to include the lines of all types.
const includeDebian = "@include"

var types = []Type{Auth, Account, Session, Password}

// token is a word, or a group in brackets in which \] is a bracket.
var token = regexp.MustCompile(`\[(?:[^\]\\]|\\.)*\]|[^\s\[]\S*`)

// Parse reads the lines of a service file as libpam does; what libpam would
// stumble over is a fault.
func Parse(file, text string) (lines []Line, faults []string) {
	fault := func(n int, format string, args ...any) {
		faults = append(faults, fmt.Sprintf("%s:%d: ", file, n)+fmt.Sprintf(format, args...))
	}
	for n, logical := range logicalLines(text) {
		words := token.FindAllString(logical, -1)
		if len(words) == 0 {
			continue
		}
		if words[0] == includeDebian {
			if len(words) < 2 {
				fault(n, "@include without a file")
				continue
			}
			lines = append(lines, Line{File: file, Number: n, Control: includeDebian, Module: words[1]})
			continue
		}
		line := Line{File: file, Number: n}
		kind, silent := strings.CutPrefix(strings.ToLower(words[0]), "-")
		line.Type, line.Silent = Type(kind), silent
		if !slices.Contains(types, line.Type) {
			fault(n, "type %q is none of auth, account, session, password", words[0])
			continue
		}
		if len(words) < 3 {
			fault(n, "the line lacks its control or its module")
			continue
		}
		line.Control, line.Module, line.Args = words[1], words[2], words[3:]
		if line.Control == "include" || line.Control == "substack" {
			lines = append(lines, line)
			continue
		}
		var err error
		if line.actions, err = parseControl(line.Control); err != nil {
			fault(n, "%v", err)
		}
		lines = append(lines, line)
	}
	return lines, faults
}

// logicalLines yields lines without comments, joined where a backslash ends
// them, with the number of the first.
func logicalLines(text string) func(func(int, string) bool) {
	return func(yield func(int, string) bool) {
		var joined strings.Builder
		first := 0
		number := 0
		for raw := range strings.SplitSeq(text, "\n") {
			number++
			if first == 0 {
				first = number
			}
			line, _, _ := strings.Cut(raw, "#")
			if part, more := strings.CutSuffix(strings.TrimRight(line, " \t\r"), `\`); more {
				joined.WriteString(part + " ")
				continue
			}
			joined.WriteString(line)
			if !yield(first, joined.String()) {
				return
			}
			joined.Reset()
			first = 0
		}
		if joined.Len() > 0 {
			yield(first, joined.String())
		}
	}
}

// action is what a control says about a return value: a word of pam.conf(5) or
// a number of lines to skip.
type action struct {
	word string
	skip int
}

var words = map[string]map[string]action{
	"required":   {"success": {word: "ok"}, "new_authtok_reqd": {word: "ok"}, "ignore": {word: "ignore"}, "default": {word: "bad"}},
	"requisite":  {"success": {word: "ok"}, "new_authtok_reqd": {word: "ok"}, "ignore": {word: "ignore"}, "default": {word: "die"}},
	"sufficient": {"success": {word: "done"}, "new_authtok_reqd": {word: "done"}, "default": {word: "ignore"}},
	"optional":   {"success": {word: "ok"}, "new_authtok_reqd": {word: "ok"}, "default": {word: "ignore"}},
}

// parseControl reads a control. What a list does not mention is bad.
func parseControl(s string) (map[string]action, error) {
	if actions, ok := words[strings.ToLower(s)]; ok {
		return actions, nil
	}
	inner, open := strings.CutPrefix(s, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	out := map[string]action{}
	if !open || !closed {
		return out, fmt.Errorf("control %q is not known", s)
	}
	for _, pair := range strings.Fields(inner) {
		value, does, ok := strings.Cut(strings.ToLower(pair), "=")
		if !ok {
			return out, fmt.Errorf("%q in the control is not of the form value=action", pair)
		}
		if n, err := strconv.Atoi(does); err == nil && n > 0 && n < 1000 {
			out[value] = action{skip: n}
			continue
		}
		if !slices.Contains([]string{"ignore", "ok", "done", "bad", "die", "reset"}, does) {
			return out, fmt.Errorf("action %q in the control is not known", does)
		}
		out[value] = action{word: does}
	}
	return out, nil
}

// Tolerates says that the stack goes on and may succeed although the module
// returns the value.
func (l Line) Tolerates(value string) bool {
	a := l.on(value)
	return a.word != "bad" && a.word != "die"
}

// on is the action for a return value.
func (l Line) on(value string) action {
	if a, ok := l.actions[value]; ok {
		return a
	}
	if a, ok := l.actions["default"]; ok {
		return a
	}
	return action{word: "bad"}
}
