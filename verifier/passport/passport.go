// SPDX-License-Identifier: Apache-2.0

// Package passport decides about remembered logins: when one is made, whether it
// answers for a factor, and when it ends. Each decision is one conditional
// statement of the store, committed together with its event. It never sees what
// a binding was made of, and never proves anybody by itself: a session rests on
// an event of package login. docs/explanation/passport.md draws the states.
package passport

import (
	"context"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// createWithin is how old a proof may be when a session is made from it: at
// least what lies between a prompt and the opening of a session.
const createWithin = 10 * time.Minute

// maxLive is how many live sessions of a person on a host are looked at for a use.
const maxLive = 500

// Permits says whether policy lets a person at an application do without a factor
// what that factor was given for before.
type Permits interface {
	Permitted(w store.Writer, i store.Integration, userID, factor string) (bool, error)
}

// Service decides. All fields must be set; it is safe for concurrent use. Errors
// for which the caller is to blame are *duoapi.Error.
type Service struct {
	Store  store.Store
	Policy Permits
	Now    func() time.Time
	Random io.Reader
	Log    *slog.Logger
}

// Create is what a host says of a login that is to be remembered. The caller has
// checked the host's proof and the lengths.
type Create struct {
	TxID    string
	Binding []byte
	Service string
	TTY     string
}

// Create makes a session from the event of a success at this host. Asked again
// with the same, it returns the same session.
func (s *Service) Create(ctx context.Context, host store.Host, c Create) (store.Session, error) {
	id, err := s.newID()
	if err != nil {
		return store.Session{}, err
	}
	var out store.Session
	made := false
	err = s.Store.Update(ctx, func(w store.Writer) (err error) {
		out, err = s.prepare(w, host, c)
		if err != nil {
			return err
		}
		integration, err := w.Integration(host.IntegrationKey)
		if err != nil {
			return fmt.Errorf("read the host's integration: %w", err)
		}
		permitted, err := s.Policy.Permitted(w, integration, out.UserID, out.Factor)
		if err != nil {
			return err
		}
		if !permitted {
			return refuse("policy does not permit it at this application")
		}
		out.ID = id
		made, err = w.AddSession(out, out.Created.Add(-createWithin))
		if err != nil {
			return fmt.Errorf("add session: %w", err)
		}
		if made {
			return nil
		}
		earlier, err := w.SessionByTx(c.TxID)
		if err == nil && earlier.HostID == host.ID && subtle.ConstantTimeCompare(earlier.Binding, c.Binding) == 1 &&
			earlier.EndedAt.IsZero() && earlier.Expires.After(out.Created) {
			out = earlier
			return nil
		}
		if err == nil {
			return refuse("this login was remembered before")
		}
		if !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("find an earlier session: %w", err)
		}
		return refuse("its proof is too old, or person, host, device or policy no longer permit it")
	})
	if err != nil {
		return store.Session{}, fmt.Errorf("remember a login: %w", err)
	}
	if made {
		s.Log.Info("login remembered", "session", out.ID, "user_id", out.UserID, "host", host.ID, "service", out.Service,
			"factor", out.Factor, "txid", out.TxID, "expires", out.Expires)
	}
	return out, nil
}

func refuse(why string) error { return duoapi.NewError(duoapi.CodeSessionRefused, why) }

// prepare fills in the session that the proof would give. AddSession decides.
func (s *Service) prepare(r store.Reader, host store.Host, c Create) (store.Session, error) {
	policy, err := r.RememberedDevices()
	if err != nil {
		return store.Session{}, err
	}
	if !policy.Enabled {
		return store.Session{}, refuse("remembering is switched off")
	}
	e, err := r.Event(c.TxID)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.Application.Key != host.IntegrationKey {
		return store.Session{}, refuse("no such proof")
	}
	if err != nil {
		return store.Session{}, err
	}
	if !slices.Contains(policy.Factors, e.Factor) {
		return store.Session{}, refuse("the factor is not one that may be remembered")
	}
	now := s.Now()
	out := store.Session{
		UserID: e.User.Key, HostID: host.ID, Binding: c.Binding, Factor: e.Factor, TxID: c.TxID, Service: audit.Printable(c.Service),
		TTY: audit.Printable(c.TTY), Created: now, Expires: now.Add(time.Duration(policy.MaxSeconds) * time.Second),
	}
	out.DeviceID, out.Generation, err = device(r, e)
	return out, err
}

// device is what proved the person, and for a phone its generation: that of the
// transaction where there is one, since the phone may be another by now.
func device(r store.Reader, e store.Event) (string, int64, error) {
	if e.Factor == (factor.Bypass{}).Name() {
		return "", 0, nil // spent, so nothing that could be taken away
	}
	tx, err := r.Transaction(e.TxID)
	if err == nil && tx.PhoneID != "" {
		return tx.PhoneID, tx.Generation, nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return "", 0, err
	}
	phone, err := r.Phone(e.AuthDevice.Key)
	if errors.Is(err, store.ErrNotFound) {
		return e.AuthDevice.Key, 0, nil // a token
	}
	return phone.ID, phone.Generation, err
}

// Use is what a host says of a login in which somebody has to prove themselves.
type Use struct {
	Username string
	Bindings [][]byte // one of them must be the session's
	Service  string
	Factors  []string // of the auth call; none: all that the policy accepts
}

// Used is the answer to a use: without Session.ID nobody is remembered.
type Used struct {
	Session store.Session
	TxID    string // of the event
}

// Use looks for a live session of the person on this host with one of the
// bindings, and writes its use and the event in one step.
func (s *Service) Use(ctx context.Context, host store.Host, u Use) (Used, error) {
	var (
		person      store.User
		integration store.Integration
		groups      []store.Group
		live        []store.Session
	)
	err := s.Store.View(ctx, func(r store.Reader) (err error) {
		if integration, err = r.Integration(host.IntegrationKey); err != nil {
			return err
		}
		if person, err = r.UserByName(login.CanonicalName(integration.NamePolicy, u.Username)); err != nil {
			return err
		}
		if groups, err = r.UserGroups(person.ID); err != nil {
			return err
		}
		live, _, err = r.Sessions(store.SessionFilter{UserID: person.ID, HostID: host.ID, LiveAt: s.Now()}, store.Page{Limit: maxLive})
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return Used{}, nil
	}
	if err != nil {
		return Used{}, fmt.Errorf("find a remembered login: %w", err)
	}
	for _, session := range live {
		if !bound(session, u.Bindings) || !accepted(session.Factor, u.Factors) {
			continue
		}
		used, err := s.use(ctx, host, who{integration, person, groups}, session, u)
		if err != nil || used.Session.ID != "" {
			return used, err
		}
	}
	return Used{}, nil
}

func bound(session store.Session, bindings [][]byte) bool {
	return slices.ContainsFunc(bindings, func(b []byte) bool { return subtle.ConstantTimeCompare(session.Binding, b) == 1 })
}

// accepted says whether a factor of the log is one of those of the auth call.
func accepted(logName string, factors []string) bool {
	word := map[string]string{
		factor.Push{}.Name(): duoapi.FactorPush, factor.Phone{}.Name(): duoapi.FactorPhone,
	}[logName]
	if word == "" {
		word = duoapi.FactorPasscode
	}
	return len(factors) == 0 || slices.Contains(factors, word)
}

// who is a person at an application.
type who struct {
	integration store.Integration
	user        store.User
	groups      []store.Group
}

func (s *Service) use(ctx context.Context, host store.Host, p who, session store.Session, u Use) (Used, error) {
	txID, err := s.newID()
	if err != nil {
		return Used{}, err
	}
	e := audit.New(txID, audit.Request{Integration: p.integration, User: p.user, Groups: p.groups, Name: u.Username, Hostname: host.Name})
	e.Factor, e.Detail = audit.RememberedDevice, audit.Printable("session "+session.ID+", service "+u.Service)
	var won bool
	err = s.Store.Update(ctx, func(w store.Writer) (err error) {
		won, err = s.Policy.Permitted(w, p.integration, p.user.ID, session.Factor)
		if err != nil || !won {
			return err
		}
		now := s.Now()
		won, err = w.UseSession(store.SessionUse{ID: session.ID, UserID: p.user.ID, HostID: host.ID, Binding: session.Binding, Now: now})
		if err != nil || !won {
			return err
		}
		return w.AddEvent(audit.Outcome(e, now, audit.Success, audit.RememberedDevice))
	})
	if err != nil {
		return Used{}, fmt.Errorf("use a remembered login: %w", err)
	}
	if !won {
		return Used{}, nil
	}
	s.Log.Info("authentication", "txid", txID, "user", p.user.Username, "integration", p.integration.Key, "factor", e.Factor,
		"result", audit.Success, "reason", audit.RememberedDevice, "session", session.ID)
	return Used{Session: session, TxID: txID}, nil
}

// Logout ends the session of a login of this host that is over. False: there was none.
func (s *Service) Logout(ctx context.Context, host store.Host, binding []byte) (bool, error) {
	var n int
	err := s.Store.Update(ctx, func(w store.Writer) (err error) {
		n, err = w.EndSessions(store.SessionEnd{HostID: host.ID, Binding: binding, Why: store.EndedLogout, Now: s.Now()})
		return err
	})
	if err != nil {
		return false, fmt.Errorf("end a remembered login: %w", err)
	}
	return n > 0, nil
}

// newID makes an id: DS and 90 random bits.
func (s *Service) newID() (string, error) {
	var b [12]byte
	if _, err := io.ReadFull(s.Random, b[:]); err != nil {
		return "", fmt.Errorf("make the id of a session: %w", err)
	}
	return "DS" + base32.StdEncoding.EncodeToString(b[:])[:18], nil
}
