// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// grantTTL is from a code to the account and session hooks of the same login.
const grantTTL = 2 * time.Minute

// maxGrants is more than there can be codes.
const maxGrants = 256

// grants remembers which processes a code let in, for the hooks that follow
// authenticate. Its zero value is ready; it is safe for concurrent use.
type grants struct {
	mu   sync.Mutex
	list []grant // oldest first
}

type grant struct {
	process       process.Process
	service, user string
	at            time.Time
}

func (g *grants) add(p process.Process, req *frames.Request, now time.Time) {
	if p.ID.Start == 0 {
		return // a process that cannot be told from another is granted nothing
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.list) >= maxGrants {
		g.list = g.list[1:]
	}
	g.list = append(g.list, grant{process: p, service: req.Service, user: req.User, at: now})
}

// holds says whether a code let this process in for service and user; for the
// session hook also a child of it, as sshd asks in one. anyUser is for sudo, which
// puts its target into PAM_USER between the hooks.
func (g *grants) holds(p process.Process, req *frames.Request, anyUser bool, now time.Time) bool {
	session := req.Hook == frames.HookOpenSession
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(now)
	return p.ID.Start != 0 && slices.ContainsFunc(g.list, func(n grant) bool {
		same := n.process.ID == p.ID || session && n.process.Parent == p.ID
		return same && n.service == req.Service && (n.user == req.User || session && anyUser)
	})
}

func (g *grants) drop(p process.Process) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.list = slices.DeleteFunc(g.list, func(n grant) bool {
		return p.ID.Start != 0 && (n.process.ID == p.ID || n.process.Parent == p.ID)
	})
}

func (g *grants) empty(now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(now)
	return len(g.list) == 0
}

func (g *grants) forget(now time.Time) {
	g.list = slices.DeleteFunc(g.list, func(n grant) bool { return now.Sub(n.at) > grantTTL })
}
