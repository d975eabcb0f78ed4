// SPDX-License-Identifier: Apache-2.0

package failmode

import (
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/clock"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
)

// state is what outlives authd.
type state struct {
	Contact clock.Stamp     `json:"contact"` // the last good answer of a verifier
	Refused bool            `json:"refused"` // the verifier's last word on this host's key
	Opened  int             `json:"opened"`  // logins let in since the outage began
	People  map[string]uses `json:"people"`
}

// uses is one person in an outage.
type uses struct {
	Began clock.Stamp `json:"began"` // the first login that was let in
	Count int         `json:"count"`
	// Answered says that a verifier could be reached and did not do its work. Its
	// probes go on being answered, so they cannot end this outage.
	Answered bool `json:"answered"`
}

// forgetAfter is how long the uses of an outage are held against a person whom no
// verifier has served since, where open_minutes is not longer.
const forgetAfter = 24 * time.Hour

// use counts a login of the case, or names the setting that forbids it and why.
func (g *Gate) use(c Case, outage *upstream.Outage) (setting string, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	window := time.Duration(c.Service.OpenMinutes) * time.Minute
	switch passed, ok := g.clock.Since(g.state.Contact); {
	case outage.Cause == upstream.CauseHost:
		return "fail_mode", errors.New("fail_mode open does not hold where this host lacks the means to ask")
	case c.Local && !c.Service.OpenLocal:
		return "open_local", errors.New("fail_mode open does not hold at local terminals")
	case g.state.Contact.Wall.IsZero():
		return "open_minutes", errors.New("no verifier has been in contact with this host yet")
	case !ok:
		return "open_minutes", errors.New("the clock was set back: it is not known when a verifier was last in contact")
	case passed > window:
		return "open_minutes", fmt.Errorf("the last contact with a verifier was %s ago", passed.Round(time.Second))
	}
	u, met := g.state.People[c.User]
	if met {
		passed, ok := g.clock.Since(u.Began)
		switch {
		case ok && passed > max(window, forgetAfter):
			met, u = false, uses{}
		case !ok || passed > window:
			return "open_minutes", errors.New("the outage lasts too long")
		case u.Count >= c.Service.OpenUses:
			return "open_uses", fmt.Errorf("%d logins in this outage", u.Count)
		}
	}
	if !met {
		if !g.room(c.People, window) {
			return "open_people", fmt.Errorf("%d people have passed in this outage", len(g.state.People))
		}
		u.Began = g.clock.Stamp()
	}
	u.Count++
	u.Answered = u.Answered || outage.Answered()
	g.state.People[c.User] = u
	g.state.Opened++
	return "", nil
}

// room says that one more person can be counted.
func (g *Gate) room(people int, window time.Duration) bool {
	if len(g.state.People) < people {
		return true
	}
	for user, u := range g.state.People {
		if passed, ok := g.clock.Since(u.Began); ok && passed > max(window, forgetAfter) {
			delete(g.state.People, user)
		}
	}
	return len(g.state.People) < people
}

// giveBack takes back a use that let nobody in.
func (g *Gate) giveBack(user string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	u, met := g.state.People[user]
	if !met {
		return // the outage has ended meanwhile
	}
	g.state.Opened = max(g.state.Opened-1, 0)
	if u.Count--; u.Count > 0 {
		g.state.People[user] = u
	} else {
		delete(g.state.People, user)
	}
}

// limits of what is worth remembering, whatever the file says.
func (s *state) clean() error {
	if s.Opened < 0 {
		return errors.New("a negative count")
	}
	for user, u := range s.People {
		if u.Count < 0 || u.Began.Wall.IsZero() {
			return fmt.Errorf("the uses of %q make no sense", user)
		}
	}
	if s.People == nil {
		s.People = map[string]uses{}
	}
	return nil
}
