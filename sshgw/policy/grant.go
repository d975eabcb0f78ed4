// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"reflect"

	"github.com/sallyport-mfa/sallyport/internal/match"
)

// Grant is what one rule permits one person at one target under one login. The zero
// value permits nothing.
type Grant struct {
	Allowed bool
	Rule    string // its name, "" for none
	Reason  string // a stable word, see docs/reference/sshgw.md
	// Raw says that `ssh -J` may pass through unseen: nothing in the rule needs the
	// gateway to look inside.
	Raw bool
	// Unsettled says that the login decides, which Query did not have: a jump may be opened
	// and terminated, nothing else, and Decide is asked again once the login is known.
	Unsettled bool
	Record    Record
	Input     bool // what is typed is recorded as well
	StepUp    bool // a factor of its own is asked for when this target is opened

	Shell, Agent, X11 bool

	by  *compiled // nil: nothing is permitted
	who person
}

// grant is what the rule, which matches, comes to.
func (c *compiled) grant(l *login, truth match.Truth) Grant {
	r := c.rule
	if r.Action == Deny {
		reason := ReasonDenied
		if truth == match.Unknown {
			reason = ReasonUnknown
		}
		return Grant{Rule: r.Name, Reason: reason}
	}
	is := func(p *bool) bool { return c.all || p != nil && *p }
	return Grant{
		Allowed: true, Rule: r.Name, Reason: ReasonRule, Raw: c.raw,
		Record: r.Record, Input: r.Input, StepUp: r.StepUp,
		Shell: is(r.Shell), Agent: is(r.Agent), X11: is(r.X11),
		by: c, who: person{l.Account.Name, l.Login},
	}
}

// SameRule says that another grant is by the same rule, which says what it said then.
func (g *Grant) SameRule(o *Grant) bool {
	if g.by == nil || o.by == nil {
		return false
	}
	a, b := *g.by.rule, *o.by.rule
	a.Origin, a.Line, b.Origin, b.Line = "", 0, "", 0
	return reflect.DeepEqual(a, b)
}

// Everything says that the rule names nothing of what may be done, and so permits all of it.
func (g *Grant) Everything() bool { return g.by != nil && g.by.all }

// MayExec says whether a command may run.
func (g *Grant) MayExec(command string) bool {
	return g.by != nil && (g.by.all || g.by.exec.match(command, g.who))
}

// MayTerminal says whether a command may have a terminal. With one a pager starts, and a
// pager gives a shell: so what patterns permit has none, unless the rule says so.
func (g *Grant) MayTerminal() bool {
	return g.by != nil && (g.by.all || g.Shell || g.by.exec.all || g.by.rule.Terminal)
}

// MaySubsystem says whether a subsystem other than sftp may run; of that MaySFTP says.
func (g *Grant) MaySubsystem(name string) bool {
	return g.by != nil && name != "sftp" && (g.by.all || g.by.subsystem != nil && g.by.subsystem.FitsOne(name) == match.True)
}

// MaySFTP says whether there is anything to do by sftp at all; unrestricted, that no path
// is out of bounds.
func (g *Grant) MaySFTP() (may, unrestricted bool) {
	if g.by == nil {
		return false, false
	}
	if g.by.all {
		return true, true
	}
	read, write := &g.by.read, &g.by.write
	return len(read.some)+len(write.some) > 0, read.all && write.all
}

// MayRead says whether the file at an absolute, resolved path may be read, listed and looked at.
func (g *Grant) MayRead(path string) bool {
	return g.by != nil && (g.by.all || g.by.read.match(path, g.who))
}

// MayWrite says whether the file at an absolute, resolved path may be made, changed or removed.
func (g *Grant) MayWrite(path string) bool {
	return g.by != nil && (g.by.all || g.by.write.match(path, g.who))
}

// MayReadBelow says that whatever is below a folder may be read: one pattern that ends with
// ** permits all of it.
func (g *Grant) MayReadBelow(path string) bool {
	return g.by != nil && (g.by.all || g.by.read.below(path, g.who))
}

// MayWriteBelow is MayReadBelow for writing.
func (g *Grant) MayWriteBelow(path string) bool {
	return g.by != nil && (g.by.all || g.by.write.below(path, g.who))
}

// MayForward says whether a connection to host:port may be opened from the target
// (ssh -L, -D, -W). exact says that the rule names this very destination, without a pattern.
func (g *Grant) MayForward(host string, port uint16) (may, exact bool) {
	if g.by == nil {
		return false, false
	}
	may, exact = g.by.forward.match(host, port)
	return may || g.by.all, exact
}

// MayForwardUnix is MayForward for a Unix socket at the target.
func (g *Grant) MayForwardUnix(path string) (may, exact bool) {
	if g.by == nil {
		return false, false
	}
	return g.by.all || g.by.unix.match(path, g.who), g.by.unix.exact(path, g.who)
}

// MayListen says whether the target may listen at host:port for the client (ssh -R).
func (g *Grant) MayListen(host string, port uint16) bool {
	return g.by != nil && (g.by.all || g.by.listen.listen(host, port))
}

// MayListenUnix is MayListen for a Unix socket at the target.
func (g *Grant) MayListenUnix(path string) bool {
	return g.by != nil && (g.by.all || g.by.listenAt.match(path, g.who))
}

// MayEnv says whether a variable may be passed on.
func (g *Grant) MayEnv(name string) bool {
	return g.by != nil && g.by.env != nil && variable(name) && g.by.env.FitsOne(name) == match.True
}

// variable says that name is that of a variable of the environment; see POSIX, Environment
// Variables.
func variable(name string) bool {
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c|0x20 < 'a' || c|0x20 > 'z') && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
