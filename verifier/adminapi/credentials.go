// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (a *API) credentialReadRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"GET /admin/v1/users/{user_id}/webauthncredentials":   a.listWebAuthn,
		"GET /admin/v1/users/{user_id}/desktopauthenticators": a.listDesktopAuthenticators,
		"GET /admin/v1/webauthncredentials":                   a.listWebAuthn,
		"GET /admin/v1/webauthncredentials/{webauthnkey}":     a.getWebAuthn,
		"GET /admin/v1/desktop_authenticators":                a.listDesktopAuthenticators,
		"GET /admin/v1/desktop_authenticators/{dakey}":        a.getDesktopAuthenticator,
		"GET /admin/v1/desktoptokens":                         a.listDesktopTokens,
		"GET /admin/v1/desktoptokens/{desktoptoken_id}":       a.getDesktopToken,
		"GET /admin/v1/u2ftokens":                             a.noU2FTokens,
		"GET /admin/v1/u2ftokens/{registration_id}":           a.noU2FToken,

		"GET /admin/v1/users/{user_id}/verification_push_response": a.verificationResult,
	}
}

func (a *API) credentialWriteRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"POST /admin/v1/users/{user_id}/send_verification_push":   a.verificationPush,
		"DELETE /admin/v1/webauthncredentials/{webauthnkey}":      a.deleteWebAuthn,
		"DELETE /admin/v1/desktop_authenticators/{dakey}":         a.deleteDesktopAuthenticator,
		"POST /admin/v1/desktoptokens":                            a.createDesktopToken,
		"POST /admin/v1/desktoptokens/{desktoptoken_id}":          a.updateDesktopToken,
		"DELETE /admin/v1/desktoptokens/{desktoptoken_id}":        a.deleteDesktopToken,
		"POST /admin/v1/desktoptokens/{desktoptoken_id}/activate": a.activateDesktopToken,
		"DELETE /admin/v1/u2ftokens/{registration_id}":            a.noU2FToken,
	}
}

type webauthnView struct {
	Key       string    `json:"webauthnkey"`
	Name      string    `json:"credential_name"`
	Label     string    `json:"label"`
	DateAdded *int64    `json:"date_added"`
	LastUsed  *int64    `json:"last_used"`
	User      *userView `json:"user,omitempty"`
}

func viewWebAuthn(c store.WebAuthnCredential) webauthnView {
	return webauthnView{Key: c.ID, Name: c.Name, Label: c.Label, DateAdded: stamp(c.Created), LastUsed: stamp(c.LastUsed)}
}

type desktopAuthenticatorView struct {
	Key      string    `json:"dakey"`
	Name     string    `json:"device_name"`
	OSFamily string    `json:"os_family"`
	Created  *int64    `json:"created"`
	LastUsed *int64    `json:"last_used"`
	User     *userView `json:"user,omitempty"`
}

func viewDesktopAuthenticator(d store.DesktopAuthenticator) desktopAuthenticatorView {
	return desktopAuthenticatorView{Key: d.ID, Name: d.Name, OSFamily: d.OSFamily, Created: stamp(d.Created), LastUsed: stamp(d.LastUsed)}
}

// holder is the user of an object, for its view.
func holder(s store.Reader, userID string) (*userView, error) {
	u, err := s.User(userID)
	if err != nil {
		return nil, err
	}
	v := briefUser(u)
	return &v, nil
}

// listOf answers a page of a list of objects that one user each has: of all users,
// each object with its user, or of the user in the path, without.
func listOf[T, V any](
	ctx context.Context, a *API, r *gate.Request, list func(store.Reader, string, store.Page) ([]T, int, error),
	view func(T) V, whose func(T) string, place func(*V) **userView,
) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	userID := r.Path("user_id")
	var views []V
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		if userID != "" {
			if _, err := s.User(userID); err != nil {
				return err
			}
		}
		objects, n, err := list(s, userID, p)
		if err != nil {
			return err
		}
		total, views = n, nil
		for _, object := range objects {
			v := view(object)
			if userID == "" {
				if *place(&v), err = holder(s, whose(object)); err != nil {
					return err
				}
			}
			views = append(views, v)
		}
		return nil
	})
	return paged(p, views, total), err
}

func (a *API) listWebAuthn(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return listOf(ctx, a, r, store.Reader.WebAuthnCredentials, viewWebAuthn,
		func(c store.WebAuthnCredential) string { return c.UserID }, func(v *webauthnView) **userView { return &v.User })
}

func (a *API) getWebAuthn(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var v webauthnView
	err := a.view(ctx, func(s store.Reader) error {
		c, err := s.WebAuthnCredential(r.Path("webauthnkey"))
		if err != nil {
			return err
		}
		v = viewWebAuthn(c)
		v.User, err = holder(s, c.UserID)
		return err
	})
	return gate.Answer{Response: v}, err
}

func (a *API) deleteWebAuthn(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteWebAuthnCredential(ctx, actor(r), r.Path("webauthnkey"))
}

func (a *API) listDesktopAuthenticators(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return listOf(ctx, a, r, store.Reader.DesktopAuthenticators, viewDesktopAuthenticator,
		func(d store.DesktopAuthenticator) string { return d.UserID }, func(v *desktopAuthenticatorView) **userView { return &v.User })
}

func (a *API) getDesktopAuthenticator(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var v desktopAuthenticatorView
	err := a.view(ctx, func(s store.Reader) error {
		d, err := s.DesktopAuthenticator(r.Path("dakey"))
		if err != nil {
			return err
		}
		v = viewDesktopAuthenticator(d)
		v.User, err = holder(s, d.UserID)
		return err
	})
	return gate.Answer{Response: v}, err
}

func (a *API) deleteDesktopAuthenticator(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteDesktopAuthenticator(ctx, actor(r), r.Path("dakey"))
}

// noU2FTokens lists U2F tokens, which browsers have given up: there are none.
func (a *API) noU2FTokens(_ context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	return paged(p, []struct{}{}, 0), err
}

func (a *API) noU2FToken(context.Context, *gate.Request) (gate.Answer, error) {
	return gate.Answer{}, duoapi.NewError(duoapi.CodeNotFound, "")
}
