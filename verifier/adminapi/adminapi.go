// SPDX-License-Identifier: Apache-2.0

// Package adminapi translates Duo's Admin API, and the administration part of
// the Sallyport API, to the directory and the store and back. It holds no rule
// of its own but which grant an endpoint needs.
package adminapi

import (
	"context"
	"log/slog"
	"maps"
	"net/url"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/enrollment"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Limits of pages. A limit over the maximum is taken as the maximum.
const (
	defaultPage = 100
	maxPage     = 500
	maxText     = 4096
)

// API serves the Admin API.
type API struct {
	Gate       *gate.Gate
	Directory  *directory.Directory
	Enrollment *enrollment.Service
	Login      login.API
	Store      store.Store
	Base       *url.URL
	Telephony  bool // calls and SMS are on, so that a number is of use
	Now        func() time.Time
	Log        *slog.Logger
}

// Register adds the routes to mux.
func (a *API) Register(mux gate.Routes) {
	for _, l := range LeftOut() {
		for _, pattern := range l.Patterns {
			mux.Handle(pattern, a.Gate.LeftOut(l.Why))
		}
	}
	for grant, routes := range map[string]map[string]gate.Handler{
		store.GrantReadResource:  a.readRoutes(),
		store.GrantWriteResource: a.writeRoutes(),
		store.GrantIntegrations:  a.integrationRoutes(),
		store.GrantReadLog:       a.logRoutes(),
		store.GrantInfo:          a.infoRoutes(),
		store.GrantAdmins:        a.administratorRoutes(),
		store.GrantSettings:      a.settingsRoutes(),
	} {
		for pattern, handler := range routes {
			mux.Handle(pattern, a.Gate.Signed(gate.Route{
				Handle: handler, Types: []store.IntegrationType{store.AdminAPI}, Grant: grant,
			}))
		}
	}
}

func (a *API) settingsRoutes() map[string]gate.Handler {
	routes := map[string]gate.Handler{
		"GET /admin/v1/settings":  a.settings,
		"POST /admin/v1/settings": a.setSettings,

		"GET " + passportPath:  a.passport,
		"POST " + passportPath: a.setPassport,
		"GET " + logoPath:      a.logo,
		"POST " + logoPath:     a.setLogo,
		"DELETE " + logoPath:   a.deleteLogo,

		"GET /admin/v1/billing/telephony_credits":  a.credits,
		"POST /admin/v1/billing/telephony_credits": a.setCredits,

		"GET " + rememberedPolicyPath:  a.rememberedPolicy,
		"POST " + rememberedPolicyPath: a.setRememberedPolicy,
	}
	maps.Copy(routes, a.policyWriteRoutes())
	return routes
}

func (a *API) readRoutes() map[string]gate.Handler {
	routes := map[string]gate.Handler{
		"GET /admin/v1/users":                         a.listUsers,
		"GET /admin/v1/users/{user_id}":               a.getUser,
		"GET /admin/v1/users/{user_id}/phones":        a.userPhones,
		"GET /admin/v1/users/{user_id}/tokens":        a.userTokens,
		"GET /admin/v1/users/{user_id}/bypass_codes":  a.userBypassCodes,
		"GET /admin/v1/users/{user_id}/u2ftokens":     a.userHasNone,
		"GET /admin/v1/phones":                        a.listPhones,
		"GET /admin/v1/phones/{phone_id}":             a.getPhone,
		"GET /admin/v1/tokens":                        a.listTokens,
		"GET /admin/v1/tokens/{token_id}":             a.getToken,
		"GET /admin/v1/bypass_codes":                  a.listBypassCodes,
		"GET /admin/v1/bypass_codes/{bypass_code_id}": a.getBypassCode,
		"GET /sallyport/v1/admin/hosts":               a.listHosts,
		"GET /sallyport/v1/admin/hosts/{host_id}":     a.getHost,
		"GET /sallyport/v1/admin/sessions":            a.listSessions,
	}
	maps.Copy(routes, a.groupReadRoutes())
	maps.Copy(routes, a.deviceReadRoutes())
	maps.Copy(routes, a.policyReadRoutes())
	maps.Copy(routes, a.credentialReadRoutes())
	maps.Copy(routes, a.sshKeyReadRoutes())
	return routes
}

func (a *API) writeRoutes() map[string]gate.Handler {
	routes := map[string]gate.Handler{
		"POST /admin/v1/users":                                a.createUser,
		"POST /admin/v1/users/enroll":                         a.enrollUser,
		"POST /admin/v1/users/{user_id}":                      a.updateUser,
		"DELETE /admin/v1/users/{user_id}":                    a.deleteUser,
		"POST /admin/v1/users/{user_id}/phones":               a.attachPhone,
		"DELETE /admin/v1/users/{user_id}/phones/{phone_id}":  a.detachPhone,
		"POST /admin/v1/users/{user_id}/tokens":               a.attachToken,
		"DELETE /admin/v1/users/{user_id}/tokens/{token_id}":  a.detachToken,
		"POST /admin/v1/users/{user_id}/bypass_codes":         a.createBypassCodes,
		"DELETE /admin/v1/bypass_codes/{bypass_code_id}":      a.deleteBypassCode,
		"POST /admin/v1/phones":                               a.createPhone,
		"POST /admin/v1/phones/{phone_id}":                    a.updatePhone,
		"DELETE /admin/v1/phones/{phone_id}":                  a.deletePhone,
		"POST /admin/v1/phones/{phone_id}/activation_url":     a.activatePhone,
		"POST /admin/v1/tokens":                               a.createToken,
		"POST /admin/v1/tokens/{token_id}":                    a.updateToken,
		"DELETE /admin/v1/tokens/{token_id}":                  a.deleteToken,
		"POST /admin/v1/tokens/{token_id}/resync":             a.resyncToken,
		"POST /sallyport/v1/admin/host_tokens":                a.createHostToken,
		"DELETE /sallyport/v1/admin/hosts/{host_id}":          a.revokeHost,
		"DELETE /sallyport/v1/admin/sessions/{session_id}":    a.endSession,
		"DELETE /sallyport/v1/admin/users/{user_id}/sessions": a.endUserSessions,

		"POST " + enrollmentLinksPath:                                 a.createEnrollmentLink,
		"DELETE /sallyport/v1/admin/users/{user_id}/enrollment_links": a.deleteEnrollmentLinks,
	}
	maps.Copy(routes, a.groupWriteRoutes())
	maps.Copy(routes, a.deviceWriteRoutes())
	maps.Copy(routes, a.credentialWriteRoutes())
	maps.Copy(routes, a.sshKeyWriteRoutes())
	maps.Copy(routes, a.bulkRoutes())
	maps.Copy(routes, a.textRoutes())
	return routes
}

func actor(r *gate.Request) directory.Actor {
	return directory.Actor{
		Name: r.Integration.Name, Integration: r.Integration.Key, Address: r.Addr.String(), Grants: r.Integration.Grants,
	}
}

// page reads limit and offset.
func page(p gate.Params) (store.Page, error) {
	const most = 1 << 31
	limit, err := p.Int("limit", defaultPage, 1, most)
	if err != nil {
		return store.Page{}, err
	}
	offset, err := p.Int("offset", 0, 0, most)
	return store.Page{Limit: min(limit, maxPage), Offset: offset}, err
}

// paged is the answer for one page of a list that has total objects.
func paged[T any](p store.Page, list []T, total int) gate.Answer {
	meta := &duoapi.Metadata{TotalObjects: total}
	if next := p.Offset + len(list); next < total && len(list) > 0 {
		meta.NextOffset = &next
	}
	if p.Offset > 0 {
		prev := max(0, p.Offset-p.Limit)
		meta.PrevOffset = &prev
	}
	if list == nil {
		list = []T{}
	}
	return gate.Answer{Response: list, Metadata: meta}
}

// cut gives one page of a list that was read as a whole.
func cut[T any](p store.Page, list []T) gate.Answer {
	from := min(p.Offset, len(list))
	to := min(from+p.Limit, len(list))
	return paged(p, list[from:to], len(list))
}

// done is the response of calls that have nothing to say.
var done = gate.Answer{Response: ""}

func optional(p gate.Params, name string) (*string, error) {
	if !p.Has(name) {
		return nil, nil
	}
	value, err := p.String(name, maxText)
	return &value, err
}

// optionals reads optional parameters into their places.
func optionals(p gate.Params, into map[string]**string) error {
	for name, place := range into {
		value, err := optional(p, name)
		if err != nil {
			return err
		}
		*place = value
	}
	return nil
}

// view reads from the store and turns a missing object into 40401.
func (a *API) view(ctx context.Context, f func(store.Reader) error) error {
	return notFound(a.Store.View(ctx, f))
}
