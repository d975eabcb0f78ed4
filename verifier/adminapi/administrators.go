// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (a *API) administratorRoutes() map[string]gate.Handler {
	const one = "/admin/v1/admins/{admin_id}"
	return map[string]gate.Handler{
		"GET /admin/v1/admins":                       a.listAdministrators,
		"POST /admin/v1/admins":                      a.createAdministrator,
		"GET /admin/v1/admins/activations":           a.listAdminLinks,
		"POST /admin/v1/admins/activations":          a.inviteAdministrator,
		"GET /admin/v1/admins/allowed_auth_methods":  a.adminAuthMethods,
		"POST /admin/v1/admins/allowed_auth_methods": a.setAdminAuthMethods,
		"GET /admin/v1/admins/password_mgmt":         a.listPasswordManagement,
		"GET " + one:                                 a.getAdministrator,
		"POST " + one:                                a.updateAdministrator,
		"DELETE " + one:                              a.deleteAdministrator,
		"POST " + one + "/reset":                     a.resetAdministrator,
		"POST " + one + "/clear_inactivity":          a.clearInactivity,
		"POST " + one + "/activation_link":           a.linkAdministrator,
		"DELETE " + one + "/{link}":                  a.deleteAdminLink,
		"GET " + one + "/password_mgmt":              a.passwordManagement,
		"POST " + one + "/password_mgmt":             a.setAdminPassword,
	}
}

type administratorView struct {
	AdminID         string            `json:"admin_id"`
	Name            string            `json:"name"`
	Email           string            `json:"email"`
	Phone           *string           `json:"phone"`
	Role            store.AdminRole   `json:"role"`
	SubaccountRole  *string           `json:"subaccount_role"` // there are no subaccounts
	Status          store.AdminStatus `json:"status"`
	Created         *int64            `json:"created"`
	LastLogin       *int64            `json:"last_login"`
	PasswordChange  bool              `json:"password_change_required"`
	RestrictedUnits bool              `json:"restricted_by_admin_units"`
	Units           []struct{}        `json:"admin_units"`
	HardToken       *struct{}         `json:"hardtoken"`
	ActivationURL   string            `json:"activation_url,omitempty"` // when it was made only
	Expires         *int64            `json:"expires,omitempty"`
}

func viewAdministrator(d store.Administrator) administratorView {
	return administratorView{
		AdminID: d.ID, Name: d.Name, Email: d.Email, Phone: null(d.Phone), Role: d.Role, Status: d.Status,
		Created: stamp(d.Created), LastLogin: stamp(d.LastLogin), PasswordChange: d.PasswordChange, Units: []struct{}{},
	}
}

// administrators answers a page of the list, each as show has it.
func administrators[T any](ctx context.Context, a *API, r *gate.Request, show func(store.Administrator) T) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var views []T
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		all, n, err := s.Administrators(p)
		total, views = n, nil
		for _, d := range all {
			views = append(views, show(d))
		}
		return err
	})
	return paged(p, views, total), err
}

func (a *API) listAdministrators(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return administrators(ctx, a, r, viewAdministrator)
}

// administrator answers the one in the path.
func administrator[T any](ctx context.Context, a *API, r *gate.Request, show func(store.Administrator) T) (gate.Answer, error) {
	var v T
	err := a.view(ctx, func(s store.Reader) error {
		d, err := s.Administrator(r.Path("admin_id"))
		v = show(d)
		return err
	})
	return gate.Answer{Response: v}, err
}

func (a *API) getAdministrator(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return administrator(ctx, a, r, viewAdministrator)
}

func administratorChange(p gate.Params) (c directory.AdministratorChange, err error) {
	err = optionals(p, map[string]**string{"name": &c.Name, "phone": &c.Phone})
	if err != nil {
		return c, err
	}
	for name, place := range map[string]**string{"role": &c.Role, "status": &c.Status} {
		if value := p[name]; value != "" {
			*place = &value
		}
	}
	return c, optionalBools(p, map[string]**bool{"password_change_required": &c.PasswordChange})
}

// linkDays reads valid_days, and refuses to send the link.
func linkDays(p gate.Params) (int, error) {
	send, err := p.Bool("send_email", false)
	if err != nil {
		return 0, err
	}
	if send {
		return 0, gate.Invalid("send_email", "the verifier sends no mail; pass the link on")
	}
	return p.Int("valid_days", directory.DefaultAdminDays, 1, directory.MaxAdminDays)
}

func (a *API) createAdministrator(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	email, err := r.Params.Required("email", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	if _, err := r.Params.Required("name", maxText); err != nil {
		return gate.Answer{}, err
	}
	c, err := administratorChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	c.Status = nil // the link makes it active
	days, err := linkDays(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	made, link, err := a.Directory.CreateAdministrator(ctx, actor(r), email, c, days)
	if err != nil {
		return gate.Answer{}, err
	}
	v := viewAdministrator(made)
	v.ActivationURL, v.Expires = link.Link, stamp(link.Expires)
	return gate.Answer{Response: v}, nil
}

func (a *API) updateAdministrator(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := administratorChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	d, err := a.Directory.UpdateAdministrator(ctx, actor(r), r.Path("admin_id"), c)
	return gate.Answer{Response: viewAdministrator(d)}, err
}

func (a *API) deleteAdministrator(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteAdministrator(ctx, actor(r), r.Path("admin_id"))
}

func (a *API) resetAdministrator(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	d, err := a.Directory.ResetAdministrator(ctx, actor(r), r.Path("admin_id"))
	return gate.Answer{Response: viewAdministrator(d)}, err
}

// clearInactivity has nothing to clear: no administrator ends by not logging in.
func (a *API) clearInactivity(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return administrator(ctx, a, r, func(store.Administrator) string { return "" })
}

type adminLinkView struct {
	ID        string          `json:"admin_activation_id"`
	AdminID   *string         `json:"admin_id"`
	Email     string          `json:"email"`
	Role      store.AdminRole `json:"admin_role"`
	Created   *int64          `json:"created"`
	Expires   *int64          `json:"expires"`
	EmailSent int             `json:"email_sent"` // the verifier sends none
	Code      string          `json:"code,omitempty"`
	Link      string          `json:"link,omitempty"`
}

func viewAdminLink(l store.AdminActivation) adminLinkView {
	return adminLinkView{
		ID: l.ID, AdminID: null(l.AdminID), Email: l.Email, Role: l.Role, Created: stamp(l.Created), Expires: stamp(l.Expires),
	}
}

func viewNewAdminLink(l directory.AdminLink) adminLinkView {
	v := viewAdminLink(l.AdminActivation)
	v.Code, v.Link = l.Code, l.Link
	return v
}

func (a *API) listAdminLinks(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var views []adminLinkView
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		links, n, err := s.AdminActivations(p)
		total, views = n, nil
		for _, l := range links {
			views = append(views, viewAdminLink(l))
		}
		return err
	})
	return paged(p, views, total), err
}

func (a *API) inviteAdministrator(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	email, err := r.Params.Required("email", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	days, err := linkDays(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	role := r.Params["admin_role"]
	if role == "" {
		role = string(store.RoleOwner)
	}
	l, err := a.Directory.InviteAdministrator(ctx, actor(r), email, role, days)
	return gate.Answer{Response: viewNewAdminLink(l)}, err
}

// deleteAdminLink serves activations/{id}, which voids a link, and
// {admin_id}/activation_link, which voids those of an administrator: as patterns
// of the mux the two would overlap.
func (a *API) deleteAdminLink(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	switch id, link := r.Path("admin_id"), r.Path("link"); {
	case id == "activations":
		return done, a.Directory.DeleteAdminLink(ctx, actor(r), link)
	case link == "activation_link":
		return done, a.Directory.UnlinkAdministrator(ctx, actor(r), id)
	}
	return gate.Answer{}, duoapi.NewError(duoapi.CodeNotFound, "")
}

func (a *API) linkAdministrator(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	days, err := linkDays(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	l, err := a.Directory.LinkAdministrator(ctx, actor(r), r.Path("admin_id"), days)
	return gate.Answer{Response: viewNewAdminLink(l)}, err
}

type passwordView struct {
	AdminID  string `json:"admin_id"`
	External bool   `json:"has_external_password_mgmt"`
	Set      bool   `json:"has_password"`
}

func viewPassword(d store.Administrator) passwordView {
	return passwordView{AdminID: d.ID, External: d.PasswordExternal, Set: d.Password != ""}
}

func (a *API) listPasswordManagement(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return administrators(ctx, a, r, viewPassword)
}

func (a *API) passwordManagement(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return administrator(ctx, a, r, viewPassword)
}

func (a *API) setAdminPassword(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var password *string
	if value := r.Params["password"]; value != "" {
		password = &value
	}
	var external *bool
	if r.Params["has_external_password_mgmt"] != "" {
		if err := optionalBools(r.Params, map[string]**bool{"has_external_password_mgmt": &external}); err != nil {
			return gate.Answer{}, err
		}
	}
	d, err := a.Directory.SetAdminPassword(ctx, actor(r), r.Path("admin_id"), password, external)
	return gate.Answer{Response: viewPassword(d)}, err
}

func (a *API) adminAuthMethods(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	s, err := a.Directory.Settings(ctx)
	return gate.Answer{Response: s.AdminAuth}, err
}

func (a *API) setAdminAuthMethods(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	s, err := a.Directory.SetSettings(ctx, actor(r), func(s *store.Settings) (err error) {
		m := &s.AdminAuth
		for name, place := range map[string]*bool{
			"push_enabled": &m.Push, "sms_enabled": &m.SMS, "mobile_otp_enabled": &m.MobileOTP, "hardware_token_enabled": &m.HardwareToken,
			"yubikey_enabled": &m.Yubikey, "voice_enabled": &m.Voice, "verified_push_enabled": &m.VerifiedPush,
		} {
			if *place, err = r.Params.Bool(name, *place); err != nil {
				return err
			}
		}
		m.VerifiedPushLength, err = r.Params.Int("verified_push_length", m.VerifiedPushLength, 3, 6)
		return err
	})
	return gate.Answer{Response: s.AdminAuth}, err
}
