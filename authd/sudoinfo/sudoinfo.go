// SPDX-License-Identifier: Apache-2.0

// Package sudoinfo reads what a run of sudo is about: the command from
// SUDO_COMMAND, and the account that it turns to from sudo's own arguments. What
// it cannot read for certain it calls unknown. It never decides anything, and
// what it reads must only ever tighten a decision.
package sudoinfo

import (
	"path"
	"strings"
)

// CommandVar is the variable in which sudo names the command, sudo(8).
const CommandVar = "SUDO_COMMAND"

// Command reads the value of SUDO_COMMAND: path and arguments, with a blank
// between any two. known is false for a path that goes round corners ("..",
// "//"), since a rule would compare another text than the one that runs.
func Command(value string) (command string, known bool) {
	file, _, _ := strings.Cut(value, " ")
	if file == "" || strings.HasPrefix(file, "/") && path.Clean(file) != file {
		return "", false
	}
	return value, true
}

// Kind says how sudo's arguments name the account.
type Kind int

// The kinds of Target.
const (
	Unknown Kind = iota // the arguments are not understood
	Default             // none is named: sudo's runas_default, which is root unless sudoers says otherwise
	Self                // a group is named and no account: the invoking user's own
	Name                // by name
	UID                 // by number
)

// Target is the account that a run of sudo turns to.
type Target struct {
	Kind  Kind
	Value string // name, or decimal uid
}

// Options of sudo with an argument, as its parse_args.c (1.9) has them; sudoedit
// has fewer, of the same meaning.
const (
	shortFlags    = "AbBEeHiKklNnPSsVv"
	shortWithArg  = "aCcDgpRrTtUu"
	longFlags     = " askpass background bell edit login list set-home non-interactive no-update preserve-groups remove-timestamp reset-timestamp shell stdin validate version preserve-env "
	longsWithArg  = " auth-type chdir chroot close-from command-timeout group login-class other-user prompt role type user "
	userOption    = 'u'
	groupOption   = 'g'
	endOfOptions  = "--"
	longUserName  = "user"
	longGroupName = "group"
)

// ParseTarget reads the arguments of a sudo process, its name first.
func ParseTarget(args []string) Target {
	if len(args) == 0 {
		return Target{}
	}
	p := parser{rest: args[1:]}
	if !p.options() {
		return Target{}
	}
	switch number, isUID := strings.CutPrefix(p.user, "#"); {
	case p.userSet && p.user == "":
		return Target{}
	case isUID && strings.Trim(number, "0123456789") == "" && number != "":
		return Target{UID, number}
	case isUID:
		return Target{}
	case p.userSet:
		return Target{Name, p.user}
	case p.groupSet:
		return Target{Kind: Self}
	}
	return Target{Kind: Default}
}

type parser struct {
	rest              []string
	user              string
	userSet, groupSet bool
}

// options reads up to the command; false: something is not understood.
func (p *parser) options() bool {
	for len(p.rest) > 0 {
		arg := p.rest[0]
		p.rest = p.rest[1:]
		switch {
		case arg == endOfOptions:
			return true
		case strings.HasPrefix(arg, endOfOptions):
			if !p.long(arg[2:]) {
				return false
			}
		case len(arg) > 1 && arg[0] == '-':
			if !p.short(arg[1:]) {
				return false
			}
		case !strings.HasPrefix(arg, "/") && strings.Contains(arg, "="):
			// A variable for the command; options may follow.
		default:
			return true
		}
	}
	return true
}

func (p *parser) long(arg string) bool {
	name, value, given := strings.Cut(arg, "=")
	switch {
	case name == "" || strings.Contains(name, " "):
		return false
	case strings.Contains(longsWithArg, " "+name+" "):
		if !given {
			if len(p.rest) == 0 {
				return false
			}
			value, p.rest = p.rest[0], p.rest[1:]
		}
		p.set(name == longUserName, name == longGroupName, value)
		return true
	}
	return strings.Contains(longFlags, " "+name+" ") && (!given || name == "preserve-env")
}

// short reads letters behind one dash; the argument of the last may follow in the
// same word or the next.
func (p *parser) short(letters string) bool {
	for i := 0; i < len(letters); i++ {
		c := letters[i]
		if strings.IndexByte(shortFlags, c) >= 0 {
			continue
		}
		if strings.IndexByte(shortWithArg, c) < 0 {
			return false // -h takes an argument or not, as it pleases
		}
		value := letters[i+1:]
		if value == "" {
			if len(p.rest) == 0 {
				return false
			}
			value, p.rest = p.rest[0], p.rest[1:]
		}
		p.set(c == userOption, c == groupOption, value)
		return true
	}
	return true
}

func (p *parser) set(user, group bool, value string) {
	if user {
		p.user, p.userSet = value, true
	}
	p.groupSet = p.groupSet || group
}
