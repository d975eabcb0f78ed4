// SPDX-License-Identifier: Apache-2.0

// Package policy decides who reaches which target as whom, and what they may do
// there. The first rule that matches decides alone; no rule, no way. It never asks
// for a factor and never looks at a packet.
package policy

import (
	"context"
	"net/netip"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// Query is what a decision rests on.
type Query struct {
	Account directory.Account
	// InGroup asks the name service. An error is unknown: an allow rule then does not
	// match, a deny rule does.
	InGroup func(ctx context.Context, group string) (bool, error)
	Key     string // SHA256:…, "" for a password
	Source  netip.Addr
	Time    time.Time
	Target  *inventory.Target
	Login   string
}

// Set is compiled rules. It is safe for concurrent use.
type Set struct {
	// Fields are the owner's.
}

// Decide returns what the first matching rule grants. Without one, or when that is a
// deny rule, Grant.Allowed is false and Grant.Reason says why, for the log.
func (s *Set) Decide(ctx context.Context, q Query) Grant { panic("not built yet") }

// Record says what a rule wants recorded.
type Record string

// What a rule wants recorded.
const (
	RecordOff      Record = "off"
	RecordOn       Record = "on"       // recorded; a session goes on if it cannot be
	RecordRequired Record = "required" // no record, no session
)

// Grant is what one rule permits one person at one target under one login. The zero
// value permits nothing.
type Grant struct {
	Allowed bool
	Rule    string // its name, "" for none
	Reason  string // a stable word, see docs/reference/sshgw.md
	// Raw says that `ssh -J` may pass through unseen: nothing in the rule needs the
	// gateway to look inside.
	Raw    bool
	Record Record
	Input  bool // what is typed is recorded as well
	StepUp bool // a factor of its own is asked for when this target is opened

	Shell, Agent, X11 bool
	// Fields of patterns are the owner's.
}

// MayExec says whether a command may run.
func (g *Grant) MayExec(command string) bool { panic("not built yet") }

// MaySubsystem says whether a subsystem other than sftp may run.
func (g *Grant) MaySubsystem(name string) bool { panic("not built yet") }

// MaySFTP says whether there is anything to do by sftp at all; Unrestricted, that no path
// is out of bounds.
func (g *Grant) MaySFTP() (may, unrestricted bool) { panic("not built yet") }

// MayRead says whether the file at an absolute, resolved path may be read, listed and looked at.
func (g *Grant) MayRead(path string) bool { panic("not built yet") }

// MayWrite says whether the file at an absolute, resolved path may be made, changed or removed.
func (g *Grant) MayWrite(path string) bool { panic("not built yet") }

// MayForward says whether a connection to host:port may be opened from the target
// (ssh -L, -D, -W). exact says that the rule names this very destination, without a pattern.
func (g *Grant) MayForward(host string, port uint16) (may, exact bool) { panic("not built yet") }

// MayForwardUnix is MayForward for a Unix socket at the target.
func (g *Grant) MayForwardUnix(path string) (may, exact bool) { panic("not built yet") }

// MayListen says whether the target may listen at host:port for the client (ssh -R).
func (g *Grant) MayListen(host string, port uint16) bool { panic("not built yet") }

// MayListenUnix is MayListen for a Unix socket at the target.
func (g *Grant) MayListenUnix(path string) bool { panic("not built yet") }

// MayEnv says whether a variable may be passed on.
func (g *Grant) MayEnv(name string) bool { panic("not built yet") }
