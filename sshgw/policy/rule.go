// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/calendar"
)

// Action is what a rule does with those whom it matches.
type Action string

// The actions.
const (
	Allow Action = "allow"
	Deny  Action = "deny"
)

// Mode says which ways through a rule leaves open.
type Mode string

// The modes.
const (
	Auto       Mode = "auto"       // raw where nothing in the rule needs the gateway to look inside
	Raw        Mode = "raw"        // the same, and a rule that needs it is an error
	Terminated Mode = "terminated" // the gateway always looks inside
)

// Rule is one [[rule]] as it is written. All conditions that it names must hold; an empty
// list is no condition. A list holds if one of its values fits, or all of them are negated,
// and no negated one (!value) fits.
type Rule struct {
	Name   string `toml:"name"`
	Reason string `toml:"reason"`
	Action Action `toml:"action"` // empty: allow

	Users    []string        `toml:"users"`   // canonical names
	Groups   []string        `toml:"groups"`  // of the gateway's name service
	Keys     []string        `toml:"keys"`    // SHA256:…
	Sources  []string        `toml:"sources"` // networks
	Targets  []string        `toml:"targets"` // names, patterns, label:key=value, group:name
	Logins   []string        `toml:"logins"`  // names, patterns, %u; nil: %u
	Weekdays []string        `toml:"weekdays"`
	Hours    string          `toml:"hours"`
	Timezone string          `toml:"timezone"`
	NotAfter calendar.Moment `toml:"not_after"`

	// What may be done. A rule that names none of these permits all of it.
	Shell       *bool     `toml:"shell"`
	Exec        *[]string `toml:"exec"`
	Terminal    bool      `toml:"terminal"` // for what exec permits
	Subsystems  *[]string `toml:"subsystems"`
	SFTPRead    *[]string `toml:"sftp_read"`
	SFTPWrite   *[]string `toml:"sftp_write"`
	Forward     *[]string `toml:"forward"`
	ForwardUnix *[]string `toml:"forward_unix"`
	Listen      *[]string `toml:"listen"`
	ListenUnix  *[]string `toml:"listen_unix"`
	Agent       *bool     `toml:"agent"`
	X11         *bool     `toml:"x11"`

	Env *[]string `toml:"env"`

	Mode   Mode   `toml:"mode"`   // empty: auto
	Record Record `toml:"record"` // empty: off
	Input  bool   `toml:"record_input"`
	StepUp bool   `toml:"step_up"`

	// Where the rule stands; for messages.
	Origin string `toml:"-"` // file
	Line   int    `toml:"-"` // of its header, from 1; 0: not known
}

// At is the file and line at which the rule begins, "" if it has none.
func (r *Rule) At() string {
	if r.Line == 0 {
		return r.Origin
	}
	return fmt.Sprintf("%s:%d", r.Origin, r.Line)
}

// limited says that the rule names what may be done.
func (r *Rule) limited() bool {
	return r.Shell != nil || r.Exec != nil || r.Subsystems != nil || r.SFTPRead != nil || r.SFTPWrite != nil || r.Forward != nil ||
		r.ForwardUnix != nil || r.Listen != nil || r.ListenUnix != nil || r.Agent != nil || r.X11 != nil
}

// sights are what in the rule needs the gateway to look inside a jump.
func (r *Rule) sights() []string {
	var out []string
	add := func(name string, there bool) {
		if there {
			out = append(out, name)
		}
	}
	add("shell", r.Shell != nil)
	add("exec", r.Exec != nil)
	add("terminal", r.Terminal)
	add("subsystems", r.Subsystems != nil)
	add("sftp_read", r.SFTPRead != nil)
	add("sftp_write", r.SFTPWrite != nil)
	add("forward", r.Forward != nil)
	add("forward_unix", r.ForwardUnix != nil)
	add("listen", r.Listen != nil)
	add("listen_unix", r.ListenUnix != nil)
	add("agent", r.Agent != nil)
	add("x11", r.X11 != nil)
	add("env", r.Env != nil)
	add("logins", len(r.Logins) > 0 && !anyLogin(r.Logins))
	add("record", r.Record != "" && r.Record != RecordOff)
	add("step_up", r.StepUp)
	return out
}

var header = regexp.MustCompile(`^\s*\[\[\s*rule\s*\]\]`)

// Locate writes into each rule the file that it was decoded from, and its line.
func Locate(list []Rule, name, text string) {
	var lines []int
	for i, line := range strings.Split(text, "\n") {
		if header.MatchString(line) {
			lines = append(lines, i+1)
		}
	}
	for i := range list {
		list[i].Origin = name
		if len(lines) == len(list) { // else a header stands in a string, and no line is better than a wrong one
			list[i].Line = lines[i]
		}
	}
}
