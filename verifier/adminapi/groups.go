// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"errors"
	"strings"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (a *API) groupReadRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"GET /admin/v1/groups":                  a.listGroups,
		"GET /admin/v1/groups/{group_id}":       a.getGroup,
		"GET /admin/v2/groups/{group_id}":       a.getGroup,
		"GET /admin/v2/groups/{group_id}/users": a.groupUsers,
		"GET /admin/v1/users/{user_id}/groups":  a.userGroups,
	}
}

func (a *API) groupWriteRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"POST /admin/v1/groups":                              a.createGroup,
		"POST /admin/v1/groups/{group_id}":                   a.updateGroup,
		"DELETE /admin/v1/groups/{group_id}":                 a.deleteGroup,
		"POST /admin/v1/users/{user_id}/groups":              a.joinGroup,
		"DELETE /admin/v1/users/{user_id}/groups/{group_id}": a.leaveGroup,
	}
}

type groupView struct {
	GroupID   string           `json:"group_id"`
	Name      string           `json:"name"`
	Desc      string           `json:"desc"`
	Status    store.UserStatus `json:"status"`
	Push      bool             `json:"push_enabled"`
	SMS       bool             `json:"sms_enabled"`
	Voice     bool             `json:"voice_enabled"`
	MobileOTP bool             `json:"mobile_otp_enabled"`
}

func viewGroup(g store.Group) groupView {
	return groupView{g.ID, g.Name, g.Desc, g.Status, g.PushEnabled, g.SMSEnabled, g.VoiceEnabled, g.MobileOTPEnabled}
}

func viewGroups(list []store.Group) []groupView {
	views := make([]groupView, 0, len(list))
	for _, g := range list {
		views = append(views, viewGroup(g))
	}
	return views
}

// memberView is how a group names its users.
type memberView struct {
	UserID   string `json:"user_id"`
	Username string `json:"username"`
}

func (a *API) listGroups(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	ids, err := r.Params.List("group_id_list")
	if err != nil {
		return gate.Answer{}, err
	}
	if len(ids) > 100 {
		return gate.Answer{}, gate.Invalid("group_id_list", "more than 100 ids")
	}
	var list []store.Group
	total := 0
	err = a.view(ctx, func(s store.Reader) (err error) {
		if len(ids) == 0 {
			list, total, err = s.Groups(p)
			return err
		}
		list, err = findGroups(s, ids)
		return err
	})
	if len(ids) > 0 {
		return cut(p, viewGroups(list)), err
	}
	return paged(p, viewGroups(list), total), err
}

// findGroups leaves out those that are not there.
func findGroups(s store.Reader, ids []string) ([]store.Group, error) {
	var list []store.Group
	for _, id := range ids {
		g, err := s.Group(id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	return list, nil
}

func (a *API) getGroup(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var v groupView
	err := a.view(ctx, func(s store.Reader) error {
		g, err := s.Group(r.Path("group_id"))
		v = viewGroup(g)
		return err
	})
	return gate.Answer{Response: v}, err
}

func (a *API) groupUsers(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var views []memberView
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		if _, err := s.Group(r.Path("group_id")); err != nil {
			return err
		}
		users, n, err := s.GroupUsers(r.Path("group_id"), p)
		total, views = n, nil
		for _, u := range users {
			views = append(views, memberView{u.ID, u.Username})
		}
		return err
	})
	return paged(p, views, total), err
}

func (a *API) userGroups(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var list []store.Group
	err = a.view(ctx, func(s store.Reader) (err error) {
		if _, err = s.User(r.Path("user_id")); err != nil {
			return err
		}
		list, err = s.UserGroups(r.Path("user_id"))
		return err
	})
	return cut(p, viewGroups(list)), err
}

func groupChange(p gate.Params) (c directory.GroupChange, err error) {
	if err := optionals(p, map[string]**string{"name": &c.Name, "desc": &c.Desc}); err != nil {
		return c, err
	}
	if p.Has("status") {
		status := store.UserStatus(strings.ToLower(p["status"]))
		c.Status = &status
	}
	for name, place := range map[string]**bool{
		"push_enabled": &c.PushEnabled, "sms_enabled": &c.SMSEnabled, "voice_enabled": &c.VoiceEnabled,
		"mobile_otp_enabled": &c.MobileOTPEnabled,
	} {
		if !p.Has(name) {
			continue
		}
		value, err := p.Bool(name, false)
		if err != nil {
			return c, err
		}
		*place = &value
	}
	_, err = p.Bool("u2f_enabled", false) // taken, since clients send it; there is no such factor
	return c, err
}

func (a *API) createGroup(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := groupChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	g, err := a.Directory.CreateGroup(ctx, actor(r), c)
	return gate.Answer{Response: viewGroup(g)}, err
}

func (a *API) updateGroup(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := groupChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	g, err := a.Directory.UpdateGroup(ctx, actor(r), r.Path("group_id"), c)
	return gate.Answer{Response: viewGroup(g)}, err
}

func (a *API) deleteGroup(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteGroup(ctx, actor(r), r.Path("group_id"))
}

func (a *API) joinGroup(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	group, err := r.Params.Required("group_id", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	return done, a.Directory.JoinGroup(ctx, actor(r), r.Path("user_id"), group)
}

func (a *API) leaveGroup(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.LeaveGroup(ctx, actor(r), r.Path("user_id"), r.Path("group_id"))
}
