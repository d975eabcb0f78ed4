// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"math"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (a *API) userPhones(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	views := []phoneView{}
	err = a.view(ctx, func(s store.Reader) error {
		if _, err := s.User(r.Path("user_id")); err != nil {
			return err
		}
		phones, err := s.UserPhones(r.Path("user_id"))
		if err != nil {
			return err
		}
		views, _, err = phoneViews(s, phones)
		return err
	})
	return cut(p, views), err
}

func (a *API) listPhones(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	number, err := directory.Number(r.Params["number"])
	if err != nil {
		return gate.Answer{}, err
	}
	var views []phoneView
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		phones, n, err := s.Phones(store.PhoneFilter{Number: number, Extension: r.Params["extension"]}, p)
		if err != nil {
			return err
		}
		total, views = n, nil
		for _, phone := range phones {
			v, err := fullPhone(s, phone)
			if err != nil {
				return err
			}
			views = append(views, v)
		}
		return nil
	})
	return paged(p, views, total), err
}

func (a *API) getPhone(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.showPhone(ctx, r.Path("phone_id"))
}

func (a *API) showPhone(ctx context.Context, id string) (gate.Answer, error) {
	var v phoneView
	err := a.view(ctx, func(s store.Reader) error {
		phone, err := s.Phone(id)
		if err != nil {
			return err
		}
		if phone.Type == store.DesktopToken {
			return store.ErrNotFound
		}
		v, err = fullPhone(s, phone)
		return err
	})
	return gate.Answer{Response: v}, err
}

func phoneChange(p gate.Params) (c directory.PhoneChange, err error) {
	return c, optionals(p, map[string]**string{
		"number": &c.Number, "extension": &c.Extension, "name": &c.Name, "type": &c.Type, "platform": &c.Platform,
		"predelay": &c.PreDelay, "postdelay": &c.PostDelay,
	})
}

func (a *API) createPhone(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := phoneChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	phone, err := a.Directory.CreatePhone(ctx, actor(r), r.Params["user_id"], c)
	if err != nil {
		return gate.Answer{}, err
	}
	return a.showPhone(ctx, phone.ID)
}

func (a *API) updatePhone(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := phoneChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	if _, err := a.Directory.UpdatePhone(ctx, actor(r), r.Path("phone_id"), c); err != nil {
		return gate.Answer{}, err
	}
	return a.showPhone(ctx, r.Path("phone_id"))
}

func (a *API) deletePhone(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeletePhone(ctx, actor(r), r.Path("phone_id"))
}

func (a *API) attachPhone(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	id, err := r.Params.Required("phone_id", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	return done, a.Directory.AttachPhone(ctx, actor(r), r.Path("user_id"), id)
}

func (a *API) detachPhone(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DetachPhone(ctx, actor(r), r.Path("user_id"), r.Path("phone_id"))
}

func (a *API) userTokens(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	views := []tokenView{}
	err = a.view(ctx, func(s store.Reader) error {
		if _, err := s.User(r.Path("user_id")); err != nil {
			return err
		}
		tokens, err := s.UserTokens(r.Path("user_id"))
		views = views[:0]
		for _, t := range tokens {
			views = append(views, briefToken(t))
		}
		return err
	})
	return cut(p, views), err
}

func (a *API) listTokens(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	filter := store.TokenFilter{Type: store.TokenType(r.Params["type"]), Serial: r.Params["serial"]}
	var views []tokenView
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		tokens, n, err := s.Tokens(filter, p)
		if err != nil {
			return err
		}
		total, views = n, nil
		for _, t := range tokens {
			v, err := fullToken(s, t)
			if err != nil {
				return err
			}
			views = append(views, v)
		}
		return nil
	})
	return paged(p, views, total), err
}

func (a *API) getToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.showToken(ctx, r.Path("token_id"))
}

func (a *API) showToken(ctx context.Context, id string) (gate.Answer, error) {
	var v tokenView
	err := a.view(ctx, func(s store.Reader) error {
		t, err := s.Token(id)
		if err != nil {
			return err
		}
		v, err = fullToken(s, t)
		return err
	})
	return gate.Answer{Response: v}, err
}

func (a *API) createToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p := r.Params
	kind, err := p.Required("type", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	n := directory.NewToken{Type: store.TokenType(kind), Serial: p["serial"], UserID: p["user_id"]}
	if n.Secret, err = directory.DecodeSecret(p["secret"], p["secret_base32"]); err != nil {
		return gate.Answer{}, err
	}
	if n.Yubi, err = directory.DecodeYubiKey(p["private_id"], p["aes_key"]); err != nil {
		return gate.Answer{}, err
	}
	counter, err := p.Int("counter", 0, 0, math.MaxInt32)
	if err != nil {
		return gate.Answer{}, err
	}
	n.Counter = int64(counter)
	if n.Step, err = p.Int("totp_step", 0, 1, 3600); err != nil {
		return gate.Answer{}, err
	}
	made, err := a.Directory.CreateToken(ctx, actor(r), n)
	if err != nil {
		return gate.Answer{}, err
	}
	v := briefToken(made.Token)
	v.Secret, v.URI, v.Users = made.Secret, made.URI, []userView{}
	if made.User != nil {
		v.Users = []userView{briefUser(*made.User)}
	}
	return gate.Answer{Response: v}, nil
}

func (a *API) updateToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if !r.Params.Has("totp_step") {
		return gate.Answer{}, gate.Missing("totp_step")
	}
	step, err := r.Params.Int("totp_step", 30, 1, 3600)
	if err != nil {
		return gate.Answer{}, err
	}
	if _, err := a.Directory.SetTokenStep(ctx, actor(r), r.Path("token_id"), step); err != nil {
		return gate.Answer{}, err
	}
	return a.showToken(ctx, r.Path("token_id"))
}

func (a *API) deleteToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteToken(ctx, actor(r), r.Path("token_id"))
}

func (a *API) attachToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	id, err := r.Params.Required("token_id", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	return done, a.Directory.AttachToken(ctx, actor(r), r.Path("user_id"), id)
}

func (a *API) detachToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DetachToken(ctx, actor(r), r.Path("user_id"), r.Path("token_id"))
}

func (a *API) resyncToken(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var codes [3]string
	for i, name := range []string{"code1", "code2", "code3"} {
		code, err := r.Params.Required(name, 16)
		if err != nil {
			return gate.Answer{}, err
		}
		codes[i] = code
	}
	return done, a.Directory.ResyncToken(ctx, actor(r), r.Path("token_id"), codes)
}
