// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/trust"
)

const managementPath = "/sallyport/v1/admin/management_systems"

// managementRoutes need the grant for integrations, for each system has one.
func (a *API) managementRoutes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"GET " + managementPath:                a.listManagementSystems,
		"POST " + managementPath:               a.createManagementSystem,
		"GET " + managementPath + "/{mkey}":    a.getManagementSystem,
		"POST " + managementPath + "/{mkey}":   a.updateManagementSystem,
		"DELETE " + managementPath + "/{mkey}": a.deleteManagementSystem,
	}
}

type managementView struct {
	MKey           string   `json:"mkey"`
	Name           string   `json:"name"`
	OS             string   `json:"os"`
	Status         string   `json:"status"`
	GroupIDs       []string `json:"group_ids"`
	IntegrationKey string   `json:"integration_key"`
	SecretKey      string   `json:"secret_key,omitempty"` // when it was made
	APIHostname    string   `json:"api_hostname"`
	Created        int64    `json:"created"`

	ActiveCache  *managedCache `json:"active_cache"`
	PendingCache *managedCache `json:"pending_cache"`
	AgeSeconds   int64         `json:"age_secs"` // of the active cache; without one, of the system
	Stale        bool          `json:"stale"`
}

type managedCache struct {
	CacheKey    string `json:"cache_key"`
	DeviceCount int    `json:"device_count"`
	Created     int64  `json:"date_created"`
	Activated   *int64 `json:"date_activated"`
}

func viewManagedCache(c store.DeviceCache) *managedCache {
	return &managedCache{CacheKey: c.Key, DeviceCount: c.DeviceCount, Created: c.Created.Unix(), Activated: stamp(c.Activated)}
}

// viewManagement shows systems with what the caches say of them.
func (a *API) viewManagement(r store.Reader, systems ...store.ManagementSystem) ([]managementView, error) {
	ages, err := trust.AgesIn(r, a.Now())
	if err != nil {
		return nil, err
	}
	age := map[string]trust.Age{}
	for _, x := range ages {
		age[x.System.Key] = x
	}
	out := make([]managementView, len(systems))
	for i, m := range systems {
		v := managementView{
			MKey: m.Key, Name: m.Name, OS: m.OS, Status: string(m.Status), GroupIDs: append([]string{}, m.GroupIDs...),
			IntegrationKey: m.IntegrationKey, APIHostname: a.Base.Host, Created: m.Created.Unix(),
			AgeSeconds: int64(age[m.Key].Age.Seconds()), Stale: age[m.Key].Stale(),
		}
		caches, err := r.DeviceCaches(m.Key)
		if err != nil {
			return nil, err
		}
		for _, c := range caches {
			if c.Status == store.CacheActive {
				v.ActiveCache = viewManagedCache(c)
			} else {
				v.PendingCache = viewManagedCache(c)
			}
		}
		out[i] = v
	}
	return out, nil
}

func (a *API) listManagementSystems(ctx context.Context, r *gate.Request) (answer gate.Answer, err error) {
	p, err := page(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	err = a.view(ctx, func(s store.Reader) error {
		systems, total, err := s.ManagementSystems(p)
		if err != nil {
			return err
		}
		views, err := a.viewManagement(s, systems...)
		answer = paged(p, views, total)
		return err
	})
	return answer, err
}

// oneManagementSystem answers with a system as it is now.
func (a *API) oneManagementSystem(ctx context.Context, key, secret string) (answer gate.Answer, err error) {
	err = a.view(ctx, func(s store.Reader) error {
		m, err := s.ManagementSystem(key)
		if err != nil {
			return err
		}
		views, err := a.viewManagement(s, m)
		if err != nil {
			return err
		}
		views[0].SecretKey = secret
		answer.Response = views[0]
		return nil
	})
	return answer, err
}

func (a *API) getManagementSystem(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return a.oneManagementSystem(ctx, r.Path("mkey"), "")
}

func managementChange(p gate.Params) (c directory.ManagementChange, err error) {
	var status *string
	if err := optionals(p, map[string]**string{"name": &c.Name, "os": &c.OS, "status": &status}); err != nil {
		return c, err
	}
	if status != nil {
		s := store.ManagementStatus(*status)
		c.Status = &s
	}
	if p.Has("group_ids") {
		groups, err := p.List("group_ids")
		if err != nil {
			return c, err
		}
		c.GroupIDs = &groups
	}
	return c, nil
}

func (a *API) createManagementSystem(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := managementChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	if c.Name == nil {
		return gate.Answer{}, duoapi.NewError(duoapi.CodeMissingParameter, "name")
	}
	made, err := a.Directory.CreateManagementSystem(ctx, actor(r), c)
	if err != nil {
		return gate.Answer{}, err
	}
	return a.oneManagementSystem(ctx, made.Key, made.Integration.Secret)
}

func (a *API) updateManagementSystem(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := managementChange(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	m, err := a.Directory.UpdateManagementSystem(ctx, actor(r), r.Path("mkey"), c)
	if err != nil {
		return gate.Answer{}, err
	}
	return a.oneManagementSystem(ctx, m.Key, "")
}

func (a *API) deleteManagementSystem(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return done, a.Directory.DeleteManagementSystem(ctx, actor(r), r.Path("mkey"))
}
