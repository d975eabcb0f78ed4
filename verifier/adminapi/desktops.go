// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

type desktopView struct {
	ID        string     `json:"desktoptoken_id"`
	Name      string     `json:"name"`
	Platform  string     `json:"platform"`
	Type      string     `json:"type"`
	Activated bool       `json:"activated"`
	Users     []userView `json:"users"`
}

func viewDesktop(s store.Reader, p store.Phone) (desktopView, error) {
	v := desktopView{
		ID: p.ID, Name: p.Name, Platform: named(p.Platform), Type: "Desktop Token", Activated: p.CanPush(), Users: []userView{},
	}
	users, err := s.PhoneUsers(p.ID)
	for _, u := range users {
		v.Users = append(v.Users, briefUser(u))
	}
	return v, err
}

func (a *API) listDesktopTokens(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var views []desktopView
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		desktops, n, err := s.Phones(store.PhoneFilter{Desktops: true}, p)
		if err != nil {
			return err
		}
		total, views = n, nil
		for _, d := range desktops {
			v, err := viewDesktop(s, d)
			if err != nil {
				return err
			}
			views = append(views, v)
		}
		return nil
	})
	return paged(p, views, total), err
}

func (a *API) getDesktopToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.showDesktopToken(ctx, r.Path("desktoptoken_id"))
}

func (a *API) showDesktopToken(ctx context.Context, id string) (gate.Answer, error) {
	var v desktopView
	err := a.view(ctx, func(s store.Reader) error {
		p, err := s.Phone(id)
		if err != nil {
			return err
		}
		if p.Type != store.DesktopToken {
			return store.ErrNotFound
		}
		v, err = viewDesktop(s, p)
		return err
	})
	return gate.Answer{Response: v}, err
}

func desktopChange(p gate.Params) (c directory.DesktopChange, err error) {
	return c, optionals(p, map[string]**string{"name": &c.Name, "platform": &c.Platform})
}

func (a *API) createDesktopToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if _, err := r.Params.Required("platform", maxText); err != nil {
		return gate.Answer{}, err
	}
	c, err := desktopChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	p, err := a.Directory.CreateDesktopToken(ctx, actor(r), c)
	if err != nil {
		return gate.Answer{}, err
	}
	return a.showDesktopToken(ctx, p.ID)
}

func (a *API) updateDesktopToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := desktopChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	if _, err := a.Directory.UpdateDesktopToken(ctx, actor(r), r.Path("desktoptoken_id"), c); err != nil {
		return gate.Answer{}, err
	}
	return a.showDesktopToken(ctx, r.Path("desktoptoken_id"))
}

func (a *API) deleteDesktopToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteDesktopToken(ctx, actor(r), r.Path("desktoptoken_id"))
}

func (a *API) activateDesktopToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	valid, err := activationSecs(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	act, err := a.Directory.ActivateDesktopToken(ctx, actor(r), r.Path("desktoptoken_id"), valid)
	if err != nil {
		return gate.Answer{}, err
	}
	out := activationAnswer(act, valid)
	out["activation_msg"] = "To activate this computer as an authenticator, run: sallyport authenticator activate '" + act.Link + "'"
	return gate.Answer{Response: out}, nil
}
