// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// The versions of the integrations calls. They share the objects and differ in
// what they show: docs/reference/admin-api-integrations.md.
const (
	v1 = "v1"
	v2 = "v2"
	v3 = "v3"
)

func (a *API) integrationRoutes() map[string]gate.Handler {
	routes := a.managementRoutes()
	for _, version := range []string{v1, v2, v3} {
		base := "/admin/" + version + "/integrations"
		one := base + "/{integration_key}"
		routes["GET "+base] = a.listIntegrations(version)
		routes["POST "+base] = a.createIntegration(version)
		routes["GET "+one] = a.getIntegration(version)
		routes["POST "+one] = a.updateIntegration(version)
		routes["DELETE "+one] = a.deleteIntegration
	}
	return routes
}

func (a *API) listIntegrations(version string) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		p, err := page(r.Params)
		if err != nil {
			return gate.Answer{}, err
		}
		var views []map[string]any
		var total int
		err = a.view(ctx, func(s store.Reader) error {
			list, n, err := s.Integrations(p)
			total, views = n, nil
			for _, i := range list {
				views = append(views, a.viewIntegration(version, directory.MadeIntegration{Integration: i}))
			}
			return err
		})
		return paged(p, views, total), err
	}
}

func (a *API) getIntegration(version string) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		var v map[string]any
		err := a.view(ctx, func(s store.Reader) error {
			i, err := s.Integration(r.Path("integration_key"))
			v = a.viewIntegration(version, directory.MadeIntegration{Integration: i})
			return err
		})
		return gate.Answer{Response: v}, err
	}
}

func (a *API) createIntegration(version string) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		kind, err := r.Params.Required("type", maxText)
		if err != nil {
			return gate.Answer{}, err
		}
		c, err := integrationChange(version, r.Params)
		if err != nil {
			return gate.Answer{}, err
		}
		made, err := a.Directory.CreateIntegration(ctx, actor(r), store.IntegrationType(kind), c)
		return gate.Answer{Response: a.viewIntegration(version, made)}, err
	}
}

func (a *API) updateIntegration(version string) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		c, err := integrationChange(version, r.Params)
		if err != nil {
			return gate.Answer{}, err
		}
		if c.NewSecret, err = r.Params.Bool("reset_secret_key", false); err != nil {
			return gate.Answer{}, err
		}
		overlap, err := r.Params.Int("reset_secret_overlap_secs", int(directory.DefaultOverlap.Seconds()), 0, int(directory.MaxOverlap.Seconds()))
		if err != nil {
			return gate.Answer{}, err
		}
		c.Overlap = time.Duration(overlap) * time.Second
		made, err := a.Directory.UpdateIntegration(ctx, actor(r), r.Path("integration_key"), c)
		return gate.Answer{Response: a.viewIntegration(version, made)}, err
	}
}

func (a *API) deleteIntegration(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteIntegration(ctx, actor(r), r.Path("integration_key"))
}

func integrationChange(version string, p gate.Params) (c directory.IntegrationChange, err error) {
	err = optionals(p, map[string]**string{
		"name": &c.Name, "notes": &c.Notes, "greeting": &c.Greeting, "enroll_policy": &c.EnrollPolicy, "enroll_url": &c.EnrollURL,
		"visual_style": &c.VisualStyle, "ip_whitelist_enroll_policy": &c.IPWhitelistEnrollPolicy,
	})
	if err != nil {
		return c, err
	}
	if value := store.NamePolicy(p["username_normalization_policy"]); value != "" {
		c.NamePolicy = &value
	}
	if value := store.UserAccess(strings.ToUpper(p["user_access"])); value != "" && version == v3 {
		c.UserAccess = &value
	}
	err = optionalBools(p, map[string]**bool{
		"allow_sha1": &c.AllowSHA1, "allow_v1": &c.AllowV1, "allow_plain_push": &c.AllowPlainPush,
		"self_service_allowed": &c.SelfServiceAllowed,
	})
	if err != nil {
		return c, err
	}
	if p["trusted_device_days"] != "" {
		days, err := p.Int("trusted_device_days", 0, 0, 365)
		if err != nil {
			return c, err
		}
		c.TrustedDeviceDays = &days
	}
	err = optionalLists(p, map[string]**[]string{
		"networks_for_api_access": &c.Networks, "ip_whitelist": &c.IPWhitelist, "groups_allowed": &c.GroupsAllowed,
	})
	if err != nil {
		return c, err
	}
	c.Grants = map[string]bool{}
	for _, grant := range directory.Grants() {
		if !p.Has(grant) {
			continue
		}
		if c.Grants[grant], err = p.Bool(grant, false); err != nil {
			return c, err
		}
	}
	return c, nil
}

// optionalBools reads optional truth values into their places.
func optionalBools(p gate.Params, into map[string]**bool) error {
	for name, place := range into {
		if !p.Has(name) {
			continue
		}
		value, err := p.Bool(name, false)
		if err != nil {
			return err
		}
		*place = &value
	}
	return nil
}

// optionalLists reads optional lists into their places; a blank one is empty.
func optionalLists(p gate.Params, into map[string]**[]string) error {
	for name, place := range into {
		if !p.Has(name) {
			continue
		}
		value, err := p.List(name)
		if err != nil {
			return err
		}
		*place = &value
	}
	return nil
}

// integrationView is what every version shows of an integration.
type integrationView struct {
	Key                     string                `json:"integration_key"`
	SecretKey               string                `json:"secret_key,omitempty"` // when it was made only
	OldSecretExpires        *int64                `json:"old_secret_expires"`
	Name                    string                `json:"name"`
	Type                    store.IntegrationType `json:"type"`
	Notes                   string                `json:"notes"`
	Greeting                string                `json:"greeting"`
	EnrollPolicy            string                `json:"enroll_policy"`
	EnrollURL               string                `json:"enroll_url"`
	NamePolicy              store.NamePolicy      `json:"username_normalization_policy"`
	SelfService             bool                  `json:"self_service_allowed"`
	GroupsAllowed           []string              `json:"groups_allowed"`
	Networks                string                `json:"networks_for_api_access"`
	IPWhitelist             []string              `json:"ip_whitelist"`
	IPWhitelistEnrollPolicy string                `json:"ip_whitelist_enroll_policy"`
	AllowSHA1               bool                  `json:"allow_sha1"`
	AllowV1                 bool                  `json:"allow_v1"`
	AllowPlainPush          bool                  `json:"allow_plain_push"`
	HostID                  *string               `json:"host_id"`
	Created                 *int64                `json:"created"`

	Admins        int `json:"adminapi_admins"`
	Info          int `json:"adminapi_info"`
	Integrations  int `json:"adminapi_integrations"`
	ReadLog       int `json:"adminapi_read_log"`
	ReadResource  int `json:"adminapi_read_resource"`
	Settings      int `json:"adminapi_settings"`
	WriteResource int `json:"adminapi_write_resource"`
}

// viewIntegration is an integration as the version shows it.
func (a *API) viewIntegration(version string, m directory.MadeIntegration) map[string]any {
	out := members(commonIntegration(m, a.Now()))
	switch version {
	case v1:
		maps.Copy(out, map[string]any{"visual_style": m.VisualStyle, "trusted_device_days": m.TrustedDeviceDays})
	case v3:
		out["user_access"] = m.Access()
	}
	return out
}

// members are the JSON members of a struct.
func members(v any) map[string]any {
	text, err := json.Marshal(v)
	out := map[string]any{}
	if err == nil {
		err = json.Unmarshal(text, &out)
	}
	if err != nil {
		panic(err) // a struct of plain fields always encodes
	}
	return out
}

func commonIntegration(m directory.MadeIntegration, now time.Time) integrationView {
	v := integrationView{
		Key: m.Key, SecretKey: m.Secret, Name: m.Name, Type: m.Type, Notes: m.Notes, Greeting: m.Greeting,
		EnrollPolicy: m.EnrollPolicy, EnrollURL: m.EnrollURL, NamePolicy: m.NamePolicy,
		SelfService: m.SelfServiceAllowed, GroupsAllowed: list(m.GroupsAllowed), Networks: strings.Join(m.Networks, ","),
		IPWhitelist: list(m.IPWhitelist), IPWhitelistEnrollPolicy: m.IPWhitelistEnrollPolicy,
		AllowSHA1: m.AllowSHA1, AllowV1: m.AllowV1, AllowPlainPush: m.AllowPlainPush, HostID: null(m.HostID), Created: stamp(m.Created),
	}
	if m.OldSecret.Good(now) {
		v.OldSecretExpires = stamp(m.OldSecret.Until)
	}
	places := map[string]*int{
		store.GrantAdmins: &v.Admins, store.GrantInfo: &v.Info, store.GrantIntegrations: &v.Integrations,
		store.GrantReadLog: &v.ReadLog, store.GrantReadResource: &v.ReadResource,
		store.GrantSettings: &v.Settings, store.GrantWriteResource: &v.WriteResource,
	}
	for _, g := range m.Grants {
		if place := places[g]; place != nil {
			*place = 1
		}
	}
	return v
}

// list is never null on the wire.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}
