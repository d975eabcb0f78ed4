// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// MaxRememberSecs is the longest that a policy may remember a login, in seconds.
const MaxRememberSecs = 30 * 86_400

// RememberedDevices is the policy for remembered logins.
func (d *Directory) RememberedDevices(ctx context.Context) (p store.RememberedDevices, err error) {
	err = d.view(ctx, func(r store.Reader) (err error) {
		p, err = r.RememberedDevices()
		return err
	})
	return p, err
}

// SetRememberedDevices changes the policy: change gets the one that holds and
// returns an error to leave it. Live sessions that it does not grant end with it.
func (d *Directory) SetRememberedDevices(ctx context.Context, a Actor, change func(*store.RememberedDevices) error) (p store.RememberedDevices, err error) {
	err = d.update(ctx, "", func(w store.Writer) error {
		if p, err = w.RememberedDevices(); err != nil {
			return err
		}
		before := p
		if err := change(&p); err != nil {
			return err
		}
		if p.MaxSeconds < 1 || p.MaxSeconds > MaxRememberSecs {
			return invalid("max_seconds", fmt.Sprintf("not from 1 to %d", MaxRememberSecs))
		}
		for _, name := range p.Factors {
			if !slices.Contains(factor.Names(), name) {
				return invalid("factors", "not of "+strings.Join(factor.Names(), ", "))
			}
		}
		if len(p.Factors) == 0 {
			return invalid("factors", "none is named; switch the policy off instead")
		}
		if err := w.SetRememberedDevices(p, d.Now()); err != nil {
			return fmt.Errorf("set policy remembered_devices: %w", err)
		}
		return d.audit(w, a, "policy_update", "remembered_devices", map[string]any{"before": before, "after": p})
	})
	return p, err
}

// EndSession ends one remembered login. One that is over already stays as it is.
func (d *Directory) EndSession(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		s, err := w.Session(id)
		if err != nil {
			return err
		}
		return d.endSessions(w, a, store.SessionEnd{ID: id}, id, map[string]any{"user_id": s.UserID, "host_id": s.HostID})
	})
}

// EndUserSessions ends all remembered logins of a user and says how many there were.
func (d *Directory) EndUserSessions(ctx context.Context, a Actor, userID string) (n int, err error) {
	err = d.update(ctx, "", func(w store.Writer) error {
		u, err := w.User(userID)
		if err != nil {
			return err
		}
		if _, n, err = w.Sessions(store.SessionFilter{UserID: userID, LiveAt: d.Now()}, store.Page{Limit: 1}); err != nil {
			return err
		}
		return d.endSessions(w, a, store.SessionEnd{UserID: userID}, u.Username, map[string]any{"user_id": userID, "sessions": n})
	})
	return n, err
}

func (d *Directory) endSessions(w store.Writer, a Actor, e store.SessionEnd, object string, description map[string]any) error {
	e.Why, e.Now = store.EndedAdmin, d.Now()
	n, err := w.EndSessions(e)
	if err != nil || n == 0 {
		return err
	}
	return d.audit(w, a, "session_end", object, description)
}

// SessionFilter narrows a list of remembered logins; empty fields do not.
type SessionFilter struct {
	Username string
	HostID   string
	All      bool // those that are over as well
}

// ListedSession is a remembered login with the names of its person and host.
type ListedSession struct {
	store.Session
	Username string
	Hostname string
}

// Sessions lists remembered logins, newest first, and says how many there are.
func (d *Directory) Sessions(ctx context.Context, f SessionFilter, p store.Page) (out []ListedSession, total int, err error) {
	err = d.view(ctx, func(r store.Reader) error {
		filter := store.SessionFilter{HostID: f.HostID}
		if !f.All {
			filter.LiveAt = d.Now()
		}
		if f.Username != "" {
			name, err := Username("username", f.Username)
			if err != nil {
				return err
			}
			u, err := r.UserByName(name)
			if err != nil {
				return err
			}
			filter.UserID = u.ID
		}
		list, n, err := r.Sessions(filter, p)
		if err != nil {
			return err
		}
		out, total = nil, n
		for _, s := range list {
			u, err := r.User(s.UserID)
			if err != nil {
				return err
			}
			h, err := r.Host(s.HostID)
			if err != nil {
				return err
			}
			out = append(out, ListedSession{Session: s, Username: u.Username, Hostname: h.Name})
		}
		return nil
	})
	return out, total, err
}
