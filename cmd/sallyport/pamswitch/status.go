// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/pamstack"
)

// ServiceStatus is what is the case for a service.
type ServiceStatus struct {
	Service  string           `json:"service"`
	State    string           `json:"state"`                  // on, off, or incomplete: a stack lacks its line
	Change   string           `json:"change,omitempty"`       // id of the change that waits for its confirmation
	Until    *time.Time       `json:"pending_until,omitzero"` // when that is taken back
	Lines    []StatusLine     `json:"lines"`
	Problems []doctor.Finding `json:"problems"` // what doctor warns of or fails
}

// StatusLine is a line that is ours.
type StatusLine struct {
	File string `json:"file"`
	Line int    `json:"line,omitempty"`
	Text string `json:"text"`
}

// The states of a service.
const (
	On         = "on"
	Off        = "off"
	Incomplete = "incomplete"
)

// wellKnown are services that people look for in a list even where they are off.
var wellKnown = []string{"sshd", "sudo", "sudo-i", "su", "su-l", "login", "polkit-1"}

// Status looks at services; at none named, those that are on and the well known.
func (p *Planner) Status(names []string, pending *Change) ([]ServiceStatus, error) {
	p.instead = nil
	loader := p.loader()
	all, err := loader.Services()
	if err != nil {
		return nil, err
	}
	named := len(names) > 0
	if !named {
		names = all
	}
	var out []ServiceStatus
	for _, name := range names {
		s, err := loader.Load(name)
		if err != nil {
			return nil, err
		}
		if !named && !slices.Contains(wellKnown, name) && (!s.Has(doctor.Module) || isIncluded(name)) {
			continue
		}
		status := p.status(s)
		if pending != nil && slices.Contains(pending.Services, name) {
			until := pending.Until()
			status.Change, status.Until = pending.ID, &until
		}
		out = append(out, status)
	}
	return out, nil
}

// isIncluded says that a file is there for others to include.
func isIncluded(name string) bool {
	return strings.HasPrefix(name, "common-") || name == "system-auth" || name == "password-auth" || name == "postlogin"
}

func (p *Planner) status(s pamstack.Service) ServiceStatus {
	out := ServiceStatus{Service: s.Name, State: Off, Lines: []StatusLine{}, Problems: []doctor.Finding{}}
	missing := false
	for _, t := range types(s.Name) {
		has := false
		for _, l := range s.Lines(t) {
			if l.Name() == doctor.Module {
				has = true
				text := strings.Join(append([]string{string(l.Type), l.Control, l.Module}, l.Args...), " ")
				out.Lines = append(out.Lines, StatusLine{l.File, l.Number, text})
			}
		}
		missing = missing || !has
	}
	if s.Name == sshd {
		out.Lines = append(out.Lines, p.dropInLines()...)
	}
	if !s.Has(doctor.Module) {
		return out
	}
	out.State = On
	if missing {
		out.State = Incomplete
	}
	for _, f := range p.Doctor.ExamineService(p.Config, s) {
		if f.Status != doctor.OK {
			out.Problems = append(out.Problems, f)
		}
	}
	return out
}

// dropInLines are the settings that our drop-in holds.
func (p *Planner) dropInLines() []StatusLine {
	text, err := os.ReadFile(filepath.Join(p.Root, DropIn))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return []StatusLine{{File: DropIn, Text: err.Error()}}
	}
	var out []StatusLine
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, StatusLine{DropIn, n, line})
		}
	}
	return out
}

// LoadConfig reads authd.toml for a look at stacks; without the secret where it
// cannot be read.
func LoadConfig(path string) (*config.Config, error) {
	c, err := config.Load(path)
	if err != nil {
		return config.LoadWithoutSecret(path)
	}
	return c, nil
}
