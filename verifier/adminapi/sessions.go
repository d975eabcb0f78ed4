// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const rememberedPolicyPath = "/sallyport/v1/admin/policy/remembered_devices"

type sessionView struct {
	ID       string      `json:"session_id"`
	Status   string      `json:"status"` // live, expired or ended
	User     sessionUser `json:"user"`
	Host     sessionHost `json:"host"`
	Factor   string      `json:"factor"`
	TxID     string      `json:"txid"`
	Service  string      `json:"service"`
	TTY      string      `json:"tty"`
	Created  *int64      `json:"created"`
	Expires  *int64      `json:"expires"`
	LastUsed *int64      `json:"last_used"`
	Uses     int         `json:"uses"`
	Ended    *int64      `json:"ended"`
	Why      *string     `json:"ended_reason"` // logout, admin or policy
}

type sessionUser struct {
	ID       string `json:"user_id"`
	Username string `json:"username"`
}

type sessionHost struct {
	ID   string `json:"host_id"`
	Name string `json:"name"`
}

func viewSession(s directory.ListedSession, now time.Time) sessionView {
	v := sessionView{
		ID: s.ID, Status: "live", User: sessionUser{s.UserID, s.Username}, Host: sessionHost{s.HostID, s.Hostname}, Factor: s.Factor,
		TxID: s.TxID, Service: s.Service, TTY: s.TTY, Created: stamp(s.Created), Expires: stamp(s.Expires),
		LastUsed: stamp(s.LastUsed), Uses: s.Uses, Ended: stamp(s.EndedAt), Why: null(s.EndedWhy),
	}
	switch {
	case v.Ended != nil:
		v.Status = "ended"
	case !now.Before(s.Expires):
		v.Status = "expired"
	}
	return v
}

func (a *API) listSessions(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	f := directory.SessionFilter{Username: r.Params["username"], HostID: r.Params["host_id"]}
	if f.All, err = r.Params.Bool("all", false); err != nil {
		return gate.Answer{}, err
	}
	list, total, err := a.Directory.Sessions(ctx, f, p)
	var views []sessionView
	for _, s := range list {
		views = append(views, viewSession(s, a.Now()))
	}
	return paged(p, views, total), err
}

func (a *API) endSession(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.EndSession(ctx, actor(r), r.Path("session_id"))
}

func (a *API) endUserSessions(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	n, err := a.Directory.EndUserSessions(ctx, actor(r), r.Path("user_id"))
	return gate.Answer{Response: map[string]int{"ended": n}}, err
}

func (a *API) rememberedPolicy(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	p, err := a.Directory.RememberedDevices(ctx)
	return gate.Answer{Response: p}, err
}

func (a *API) setRememberedPolicy(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := a.Directory.SetRememberedDevices(ctx, actor(r), func(p *store.RememberedDevices) (err error) {
		if p.Enabled, err = r.Params.Bool("enabled", p.Enabled); err != nil {
			return err
		}
		if p.UserChoice, err = r.Params.Bool("user_choice", p.UserChoice); err != nil {
			return err
		}
		if p.MaxSeconds, err = r.Params.Int("max_seconds", p.MaxSeconds, 1, directory.MaxRememberSecs); err != nil {
			return err
		}
		if r.Params.Has("factors") {
			p.Factors, err = r.Params.List("factors")
		}
		return err
	})
	return gate.Answer{Response: p}, err
}
