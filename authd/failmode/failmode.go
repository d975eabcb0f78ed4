// SPDX-License-Identifier: Apache-2.0

// Package failmode owns what an outage of the verifiers means for a login, and
// above all the one decision to let somebody in because of it, with its limits:
// since when no verifier was in contact, and how often each person passed. It
// never looks at anything but the reason, the service's settings and that
// memory, never decides in silence, and never lets in on a use that is not on
// disk.
package failmode

import (
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/clock"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
)

// Decision is what to do about an error of the verifier before a factor was offered.
type Decision struct {
	Allow   bool
	Offline bool   // an offline code of this host may let in
	Answer  bool   // the verifier refused, or had refused this host when it was last there: no outage
	Reason  string // verifier_down, verifier_refused, fail_open, fail_open_limit or fail_open_unrecorded
	Setting string // the setting that decided; empty for a refusal
	Err     error  // why a limit of fail_mode open denied; else nil
}

// Case is a login that met an error of the verifier.
type Case struct {
	Service config.Service // as the rules have left it
	User    string         // canonical Unix name of who had to prove themselves
	// Username is their name at the verifier, for the log.
	Username string
	Local    bool // at a terminal of this host, or one that could be
	People   int  // how many may be counted in one outage: limits.open_people
}

// Options is what New needs.
type Options struct {
	Dir   string // state_dir; made if it is missing
	Clock clock.Clock
	Log   *slog.Logger
}

// Gate decides and counts. It is safe for concurrent use.
type Gate struct {
	clock clock.Clock
	log   *slog.Logger
	disk  *disk

	mu    sync.Mutex
	state state
	saved clock.Stamp // when contact was last asked to be saved
}

// New makes a gate with the memory that an earlier one left in Dir. A memory that
// cannot be read is logged and counts as none: fail_mode open then stays shut
// until a verifier was in contact. Close ends it.
func New(opt Options) *Gate {
	g := &Gate{clock: opt.Clock, log: opt.Log}
	var err error
	if g.state, err = load(opt.Dir); err != nil {
		g.log.Error("memory of fail modes not read: fail_mode open stays shut until a verifier answers",
			slog.String("event", "state_lost"), slog.String("setting", "state_dir"), slog.Any("error", err))
	}
	g.disk = newDisk(opt.Dir, g.snapshot)
	return g
}

// Close writes the memory and ends the gate.
func (g *Gate) Close() { g.disk.close() }

// Decide is the only place at which a login passes because of an outage. err is
// what preauth returned; once a factor was offered, nobody may ask. 401, 403,
// 429 and other refusals are answers: were they outages, revoking a stolen
// host's key would open that host. For the same reason a refusal of the host's
// key holds on when the verifier cannot be reached any more.
func (g *Gate) Decide(c Case, err error) Decision {
	var outage *upstream.Outage
	if !errors.As(err, &outage) {
		return Decision{Answer: true, Reason: "verifier_refused"}
	}
	switch c.Service.FailMode {
	case config.FailOpen, config.FailOffline:
		if g.refused() {
			return Decision{Answer: true, Reason: "verifier_refused"}
		}
	}
	switch c.Service.FailMode {
	case config.FailOpen:
		return g.open(c, outage)
	case config.FailOffline:
		return Decision{Offline: true, Reason: "verifier_down", Setting: "fail_mode"}
	}
	return Decision{Reason: "verifier_down", Setting: "fail_mode"}
}

// open lets in within the limits, or says which one is reached.
func (g *Gate) open(c Case, outage *upstream.Outage) Decision {
	setting, err := g.use(c, outage)
	if err != nil {
		return Decision{Reason: "fail_open_limit", Setting: setting, Err: err}
	}
	if err := g.disk.save(); err != nil {
		// The use was counted before it was certain to be on disk. What certainly
		// is not there is given back; after a time-out nothing is certain.
		if !errors.Is(err, errSlow) {
			g.giveBack(c.User)
		}
		return Decision{Reason: "fail_open_unrecorded", Setting: "state_dir", Err: err}
	}
	g.log.Warn("no verifier answers and fail_mode is open: the first factor alone lets in",
		slog.String("event", "fail_open"), slog.String("service", c.Service.Name), slog.String("user", c.User), slog.String("username", c.Username),
		slog.Int("total", g.Opened()), slog.Any("error", outage))
	return Decision{Allow: true, Reason: "fail_open", Setting: "fail_mode"}
}

// Contact takes note that a verifier gave a good answer; signed says that it was
// one to a call that carried this host's key.
func (g *Gate) Contact(signed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state.Contact = g.clock.Stamp()
	if signed {
		g.state.Refused = false
	}
	g.saveSoon()
}

// contactInterval is how old the last contact on disk may be: by so much the
// limit open_minutes may come early after a restart of authd.
const contactInterval = time.Minute

func (g *Gate) saveSoon() {
	if d, ok := g.clock.Since(g.saved); !ok || d >= contactInterval {
		g.saved = g.state.Contact
		g.disk.saveLater()
	}
}

// Refused takes note that a verifier refused this host's key.
func (g *Gate) Refused() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.state.Refused {
		g.state.Refused = true
		g.disk.saveLater()
	}
}

func (g *Gate) refused() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Refused
}

// Back takes note that an address is up again: the outage is over for everybody
// who could not reach a verifier.
func (g *Gate) Back() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for user, u := range g.state.People {
		if !u.Answered {
			delete(g.state.People, user)
		}
	}
	g.report()
}

// Served takes note that a verifier has done its work for a person: their outage
// is over.
func (g *Gate) Served(user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.state.People, user)
	g.report()
}

// report says how many passed, once the outage is over.
func (g *Gate) report() {
	if g.state.Opened == 0 {
		return
	}
	g.log.Warn("logins passed by fail_mode open while no verifier answered",
		slog.String("event", "fail_open_total"), slog.Int("total", g.state.Opened))
	g.state.Opened = 0
	g.disk.saveLater()
}

// Opened is how many logins have passed this way since a verifier last did its work.
func (g *Gate) Opened() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.state.Opened
}
