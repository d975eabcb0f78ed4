// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"encoding/json"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	registeredPath = "/admin/v1/registered_devices"
	passportPath   = "/admin/v2/passport/config"
	logoPath       = "/admin/v1/logo"
)

func (a *API) deviceReadRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"GET /admin/v1/endpoints":                                   a.listEndpoints,
		"GET /admin/v1/endpoints/{epkey}":                           a.getEndpoint,
		"GET " + registeredPath:                                     a.listDevices(false),
		"GET " + registeredPath + "/{registered_device_id}":         a.getDevice(false),
		"GET " + registeredPath + "/blocked":                        a.listDevices(true),
		"GET " + registeredPath + "/blocked/{registered_device_id}": a.getDevice(true),
	}
}

func (a *API) deviceWriteRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"DELETE " + registeredPath + "/{registered_device_id}":         a.deleteDevice,
		"POST " + registeredPath + "/blocked/{registered_device_id}":   a.blockDevice(true),
		"DELETE " + registeredPath + "/blocked/{registered_device_id}": a.blockDevice(false),
	}
}

type endpointView struct {
	EPKey          string                  `json:"epkey"`
	Username       string                  `json:"username"`
	Email          string                  `json:"email"`
	DeviceName     string                  `json:"device_name"`
	Model          string                  `json:"model"`
	Type           string                  `json:"type"`
	OSFamily       string                  `json:"os_family"`
	OSVersion      string                  `json:"os_version"`
	OSBuild        string                  `json:"os_build"`
	Encryption     string                  `json:"disk_encryption_status"`
	Firewall       string                  `json:"firewall_status"`
	Password       string                  `json:"password_status"`
	Trusted        string                  `json:"trusted_endpoint"`
	LastUpdated    *int64                  `json:"last_updated"`
	Browsers       []store.EndpointBrowser `json:"browsers"`
	SecurityAgents []string                `json:"security_agents"`
}

func viewEndpoint(e store.Endpoint) endpointView {
	return endpointView{
		EPKey: e.ID, Username: e.Username, Email: e.Email, DeviceName: e.DeviceName, Model: e.Model, Type: e.Type, OSFamily: e.OSFamily,
		OSVersion: e.OSVersion, OSBuild: e.OSBuild, Encryption: known(e.Encryption), Firewall: known(e.Firewall), Password: known(e.Password),
		Trusted: known(e.Trusted), LastUpdated: stamp(e.LastSeen), Browsers: list(e.Browsers), SecurityAgents: list(e.SecurityAgents),
	}
}

func known(s string) string {
	if s == "" {
		return "unknown"
	}
	return s
}

func (a *API) listEndpoints(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	var views []endpointView
	var total int
	err = a.view(ctx, func(s store.Reader) error {
		all, n, err := s.Endpoints(p)
		total, views = n, nil
		for _, e := range all {
			views = append(views, viewEndpoint(e))
		}
		return err
	})
	return paged(p, views, total), err
}

func (a *API) getEndpoint(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var v endpointView
	err := a.view(ctx, func(s store.Reader) error {
		e, err := s.Endpoint(r.Path("epkey"))
		v = viewEndpoint(e)
		return err
	})
	return gate.Answer{Response: v}, err
}

type registeredDeviceView struct {
	ID         string    `json:"registered_device_id"`
	Key        string    `json:"compound_key"`
	Name       string    `json:"device_name"`
	OS         string    `json:"os_family"`
	OSVersion  string    `json:"os_version"`
	Model      string    `json:"model"`
	Registered string    `json:"registered_with"`
	Blocked    bool      `json:"blocked"`
	Created    *int64    `json:"created"`
	User       *userView `json:"user"`
}

func viewDevice(s store.Reader, d store.RegisteredDevice) (registeredDeviceView, error) {
	u, err := s.User(d.UserID)
	if err != nil {
		return registeredDeviceView{}, err
	}
	user := briefUser(u)
	return registeredDeviceView{
		ID: d.ID, Key: d.ID, Name: d.Name, OS: d.OS, OSVersion: d.OSVersion, Model: d.Model, Registered: d.Registered, Blocked: d.Blocked,
		Created: stamp(d.Created), User: &user,
	}, nil
}

func (a *API) listDevices(blocked bool) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		p, err := page(r.Params)
		if err != nil {
			return gate.Answer{}, err
		}
		var views []registeredDeviceView
		var total int
		err = a.view(ctx, func(s store.Reader) error {
			all, n, err := s.RegisteredDevices(blocked, p)
			total, views = n, nil
			for _, d := range all {
				v, err := viewDevice(s, d)
				if err != nil {
					return err
				}
				views = append(views, v)
			}
			return err
		})
		return paged(p, views, total), err
	}
}

func (a *API) getDevice(blocked bool) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		return a.showDevice(ctx, r.Path("registered_device_id"), blocked)
	}
}

// showDevice answers a device; with blocked only one that is.
func (a *API) showDevice(ctx context.Context, id string, blocked bool) (gate.Answer, error) {
	var v registeredDeviceView
	err := a.view(ctx, func(s store.Reader) error {
		d, err := s.RegisteredDevice(id)
		if err != nil {
			return err
		}
		if blocked && !d.Blocked {
			return duoapi.NewError(duoapi.CodeNotFound, "")
		}
		v, err = viewDevice(s, d)
		return err
	})
	return gate.Answer{Response: v}, err
}

func (a *API) deleteDevice(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteDevice(ctx, actor(r), r.Path("registered_device_id"))
}

func (a *API) blockDevice(blocked bool) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		id := r.Path("registered_device_id")
		if _, err := a.Directory.BlockDevice(ctx, actor(r), id, blocked); err != nil {
			return gate.Answer{}, err
		}
		return a.showDevice(ctx, id, false)
	}
}

type passportView struct {
	EnabledStatus  string                     `json:"enabled_status"`
	EnabledGroups  []string                   `json:"enabled_groups"`
	DisabledGroups []string                   `json:"disabled_groups"`
	Browsers       map[string][]store.Browser `json:"custom_supported_browsers"`
}

// systems are those that can have browsers of their own, by their names on the wire.
var systems = []string{"macos", "windows"}

func viewPassport(c store.PassportConfig) passportView {
	v := passportView{
		EnabledStatus: c.EnabledStatus, EnabledGroups: list(c.EnabledGroups), DisabledGroups: list(c.DisabledGroups),
		Browsers: map[string][]store.Browser{},
	}
	for _, system := range systems {
		v.Browsers[system] = list(c.Browsers[system])
	}
	return v
}

func (a *API) passport(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	c, err := a.Directory.Passport(ctx)
	return gate.Answer{Response: viewPassport(c)}, err
}

func (a *API) setPassport(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := a.Directory.SetPassport(ctx, actor(r), func(c *store.PassportConfig) error { return changePassport(r.Params, c) })
	return gate.Answer{Response: viewPassport(c)}, err
}

func changePassport(p gate.Params, c *store.PassportConfig) (err error) {
	c.EnabledStatus, err = p.OneOf("enabled_status", c.EnabledStatus,
		directory.PassportDisabled, directory.PassportEnabled, directory.PassportGroups, directory.PassportExceptions)
	if err != nil {
		return err
	}
	for name, place := range map[string]*[]string{"enabled_groups": &c.EnabledGroups, "disabled_groups": &c.DisabledGroups} {
		if !p.Has(name) {
			continue
		}
		if *place, err = p.List(name); err != nil {
			return err
		}
	}
	if text := p["custom_supported_browsers"]; text != "" {
		given := map[string][]store.Browser{}
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			return gate.Invalid("custom_supported_browsers", `not of the form {"macos":[{"team_id":"…"}],"windows":[{"common_name":"…"}]}`)
		}
		c.Browsers = map[string][]store.Browser{}
		for _, system := range systems {
			c.Browsers[system] = given[system]
		}
	}
	return nil
}

func (a *API) logo(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	logo, err := a.Directory.Logo(ctx)
	if err == nil && len(logo) == 0 {
		err = duoapi.NewError(duoapi.CodeNotFound, "no logo was set")
	}
	return gate.Answer{Response: logo, Type: "image/png"}, err
}

func (a *API) setLogo(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	text, err := r.Params.Required("logo", directory.MaxLogo*4/3+4)
	if err != nil {
		return gate.Answer{}, err
	}
	return done, a.Directory.SetLogo(ctx, actor(r), text)
}

func (a *API) deleteLogo(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteLogo(ctx, actor(r))
}
