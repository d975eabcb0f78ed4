// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/pamstack"
)

// Action is what is done to services.
type Action string

// The actions.
const (
	Enable  Action = "enable"
	Disable Action = "disable"
)

// File is what a plan makes of one file. nil: it is not there.
type File struct {
	Path          string // below the root
	Before, After *string
}

// Plan is a change that has not been made.
type Plan struct {
	Action   Action
	Services []string // those that change
	Files    []File
	Notes    []string // what the person should know before saying yes
}

// Empty says that everything is already as it is asked for.
func (p *Plan) Empty() bool { return len(p.Files) == 0 }

// SSHD says that sshd's own configuration changes.
func (p *Plan) SSHD() bool {
	return slices.ContainsFunc(p.Files, func(f File) bool { return f.Path == DropIn })
}

// Diff is the change in the unified format.
func (p *Plan) Diff() string {
	var out bytes.Buffer
	for _, f := range p.Files {
		from, to := f.Path, f.Path
		if f.Before == nil {
			from = "/dev/null"
		}
		if f.After == nil {
			to = "/dev/null"
		}
		out.Write(diff.Diff(from, []byte(deref(f.Before)), to, []byte(deref(f.After))))
	}
	return out.String()
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Refusal says why a service is left alone, and what to do by hand.
type Refusal struct{ Service, Why, Do string }

// Error implements error.
func (r *Refusal) Error() string { return r.Service + ": " + r.Why + "; " + r.Do }

// Planner makes plans. It only reads.
type Planner struct {
	Root   string
	Config *config.Config // nil: authd.toml is not to be had, and built-in settings count
	Doctor *doctor.Host

	instead map[string]string  // what the plan makes of files so far
	before  map[string]*string // what they were
	notes   []string
}

// Plan says what it takes to switch services on or off. The error is a *Refusal
// where a stack does not lend itself to it.
func (p *Planner) Plan(action Action, services []string) (*Plan, error) {
	p.instead, p.before, p.notes = map[string]string{}, map[string]*string{}, nil
	plan := &Plan{Action: action}
	for _, name := range services {
		before := len(p.instead)
		var err error
		if action == Enable {
			err = p.enable(name)
		} else {
			err = p.disable(name)
		}
		if err != nil {
			return nil, err
		}
		if len(p.instead) > before {
			plan.Services = append(plan.Services, name)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(p.instead)) {
		after := p.instead[path]
		f := File{Path: path, Before: p.before[path], After: &after}
		if p.vanishes(path, after) {
			f.After = nil
		}
		plan.Files = append(plan.Files, f)
	}
	plan.Notes = p.notes
	return plan, nil
}

// vanishes says that a file is not needed any more: an empty drop-in, or a copy
// of what the distribution has.
func (p *Planner) vanishes(path, after string) bool {
	if path == DropIn {
		return after == ""
	}
	vendor, err := os.ReadFile(filepath.Join(p.Root, "/usr/lib/pam.d", filepath.Base(path)))
	return err == nil && string(vendor) == after
}

func (p *Planner) loader() pamstack.Loader {
	return pamstack.Loader{Root: p.Root, Instead: p.instead}
}

// A name of a service, which becomes the name of a file.
var serviceName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.+@-]*$`)

// open reads the file of a service. Changes go to /etc/pam.d.
func (p *Planner) open(name string) (*file, error) {
	if !serviceName.MatchString(name) {
		return nil, fmt.Errorf("%q is no name of a PAM service", name)
	}
	if name == "other" || isIncluded(name) {
		return nil, &Refusal{name, "other services include it, so that a change would switch them all", "name the services themselves"}
	}
	path := filepath.Join(pamstack.Dirs[0], name)
	if text, ok := p.instead[path]; ok {
		return newFile(path, text, p.loader()), nil
	}
	info, err := os.Lstat(filepath.Join(p.Root, path))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		vendor, err := os.ReadFile(filepath.Join(p.Root, pamstack.Dirs[1], name))
		if err != nil {
			return nil, fmt.Errorf("read PAM service %s: %w", name, fs.ErrNotExist)
		}
		return newFile(path, string(vendor), p.loader()), nil
	case err != nil:
		return nil, fmt.Errorf("read PAM service: %w", err)
	case info.Mode()&fs.ModeSymlink != 0:
		return nil, &Refusal{name, path + " is a link, which another program manages", "add the lines of docs/reference/pam-module.md there by hand"}
	}
	text, err := os.ReadFile(filepath.Join(p.Root, path))
	if err != nil {
		return nil, fmt.Errorf("read PAM service: %w", err)
	}
	before := string(text)
	p.before[path] = &before
	return newFile(path, before, p.loader()), nil
}

func (p *Planner) enable(name string) error {
	f, err := p.open(name)
	if err != nil {
		return err
	}
	text := strings.Join(f.raw, "\n") + "\n"
	for _, t := range types(name) {
		s, err := p.loader().Load(name)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(s.Lines(t), func(l pamstack.Line) bool { return l.Name() == doctor.Module }) {
			continue
		}
		if text, err = p.place(newFile(f.path, text, p.loader()), name, t); err != nil {
			return err
		}
		p.instead[f.path] = text
	}
	if err := p.sound(name); err != nil {
		return err
	}
	if name == sshd {
		return p.enableSSHD()
	}
	return nil
}

// types are the stacks of a service that the module belongs in. sshd and login
// begin sessions that others rely on. su has no account line: root becomes
// somebody else without being asked, and has to while authd is away.
func types(name string) []pamstack.Type {
	switch name {
	case sshd, "login":
		return []pamstack.Type{pamstack.Auth, pamstack.Account, pamstack.Session}
	case "su", "su-l":
		return []pamstack.Type{pamstack.Auth}
	}
	return []pamstack.Type{pamstack.Auth, pamstack.Account}
}

// place finds the place for the module in one stack: the first candidate that
// doctor has nothing against.
func (p *Planner) place(f *file, name string, t pamstack.Type) (string, error) {
	var candidates []string
	missing := fmt.Sprintf("it has no %s line of its own, so %s/other answers for it", t, pamstack.Dirs[0])
	switch t {
	case pamstack.Auth:
		candidates = f.afterPassword(p.args())
		missing = "no line of its auth stack is known to check a first factor"
		if name == sshd && p.FirstFactor() == config.FirstFactorSSH {
			candidates = f.insteadOfPassword(p.args())
			missing = "what checks passwords there cannot be taken out: it does more than that"
		}
	case pamstack.Account:
		candidates = f.beforeAccount(p.args())
	case pamstack.Session:
		candidates = f.early(p.args())
	}
	why := missing
	for n, text := range candidates {
		fault := p.fault(name, f.path, text, t)
		if fault == "" {
			return text, nil
		}
		if n == 0 {
			why = fault
		}
	}
	return "", &Refusal{name, why, "add \"" + ours(t, p.args()) + "\" to " + f.path + " by hand (docs/reference/pam-module.md), then: sallyport doctor"}
}

// fault says why a candidate is no good for the stack of one type; "" if it is.
func (p *Planner) fault(name, path, text string, t pamstack.Type) string {
	instead := maps.Clone(p.instead)
	instead[path] = text
	s, err := pamstack.Loader{Root: p.Root, Instead: instead}.Load(name)
	if err != nil {
		return err.Error()
	}
	for _, f := range doctor.ExamineStack(p.Config, s, t) {
		if f.Status == doctor.Fail {
			return f.Message
		}
	}
	if len(pamstack.Ways(s.Stacks[t], pamstack.Question{Module: doctor.Module, Returns: []string{"success"}})) == 0 {
		return fmt.Sprintf("the %s stack would let nobody in, whatever the module says", t)
	}
	return ""
}

// sound asks doctor about the whole service as the plan leaves it.
func (p *Planner) sound(name string) error {
	s, err := p.loader().Load(name)
	if err != nil {
		return err
	}
	for _, f := range p.Doctor.ExamineService(p.Config, s) {
		switch f.Status {
		case doctor.Fail:
			return &Refusal{name, f.Subject + ": " + f.Message, f.Fix}
		case doctor.Warn:
			p.notes = append(p.notes, fmt.Sprintf("%s: %s (%s)", f.Subject, f.Message, f.Fix))
		}
	}
	return nil
}

// FirstFactor says how a first factor of sshd's comes about.
func (p *Planner) FirstFactor() config.FirstFactor {
	if p.Config == nil {
		return config.FirstFactorSSH
	}
	return p.Config.Service(sshd, true).FirstFactor
}

// args are the module's arguments: none where authd is where the module looks.
func (p *Planner) args() string {
	if p.Config == nil || filepath.Clean(p.Config.SocketDir) == config.DefaultSocketDir {
		return ""
	}
	return "socket_dir=" + p.Config.SocketDir
}

func (p *Planner) disable(name string) error {
	f, err := p.open(name)
	if err != nil {
		return err
	}
	text := f.without()
	if text != strings.Join(f.raw, "\n")+"\n" {
		p.instead[f.path] = text
	}
	s, err := p.loader().Load(name)
	if err != nil {
		return err
	}
	for _, t := range []pamstack.Type{pamstack.Auth, pamstack.Account, pamstack.Session, pamstack.Password} {
		for _, l := range s.Lines(t) {
			if l.Name() == doctor.Module {
				return &Refusal{name, "the module stands in " + l.File + ", which it includes", "disable that, or take the line out by hand"}
			}
		}
	}
	if len(s.Stacks[pamstack.Auth]) == 0 {
		return &Refusal{name, "its auth stack would be empty: the line that checked a password was taken out by hand", "put it back first, on Debian: @include common-auth"}
	}
	if name == sshd {
		return p.disableSSHD()
	}
	return nil
}
