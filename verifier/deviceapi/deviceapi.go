// SPDX-License-Identifier: Apache-2.0

// Package deviceapi translates Duo's Device API, by which management systems
// upload the identifiers of an organisation's devices, to verifier/trust and
// back. It holds no rule of its own.
package deviceapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/trust"
)

// Limits of pages. A limit over the maximum is taken as the maximum.
const (
	defaultPage = 100
	maxPage     = 1000
)

const (
	cachesPath  = "/device/v1/management_systems/{mkey}/device_cache"
	cachePath   = cachesPath + "/{cache_key}"
	devicesPath = cachePath + "/devices"
)

// API serves the Device API.
type API struct {
	Gate  *gate.Gate
	Trust *trust.Service
}

// Register adds the routes.
func (a *API) Register(routes gate.Routes) {
	for pattern, handler := range a.routes() {
		routes.Handle(pattern, a.Gate.Signed(gate.Route{Handle: handler, Types: []store.IntegrationType{store.DeviceAPI}}))
	}
}

func (a *API) routes() map[string]gate.Handler {
	return map[string]gate.Handler{
		"GET " + cachesPath:               a.list,
		"POST " + cachesPath:              a.create,
		"GET " + cachePath:                a.get,
		"DELETE " + cachePath:             a.remove,
		"POST " + cachePath + "/activate": a.activate,
		"GET " + devicesPath:              a.devices,
		"POST " + devicesPath:             a.addDevices,
		"DELETE " + devicesPath:           a.removeDevices,
	}
}

func caller(r *gate.Request) trust.Caller {
	return trust.Caller{Integration: r.Integration, System: r.Path("mkey"), Address: r.Addr.String()}
}

type cacheView struct {
	CacheKey    string `json:"cache_key"`
	Status      string `json:"status"`
	DeviceCount int    `json:"device_count"`
	Created     int64  `json:"date_created"`
	Activated   *int64 `json:"date_activated"`
}

func viewCache(c store.DeviceCache) cacheView {
	v := cacheView{CacheKey: c.Key, Status: string(c.Status), DeviceCount: c.DeviceCount, Created: c.Created.Unix()}
	if !c.Activated.IsZero() {
		at := c.Activated.Unix()
		v.Activated = &at
	}
	return v
}

func (a *API) create(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	active, err := r.Params.Bool("active", false)
	if err != nil {
		return gate.Answer{}, err
	}
	c, err := a.Trust.Create(ctx, caller(r), active)
	return gate.Answer{Response: viewCache(c)}, err
}

func (a *API) list(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	status, err := r.Params.OneOf("status", "", string(store.CacheActive), string(store.CachePending))
	if err != nil {
		return gate.Answer{}, err
	}
	caches, err := a.Trust.List(ctx, caller(r), store.CacheStatus(status))
	views := make([]cacheView, len(caches))
	for i, c := range caches {
		views[i] = viewCache(c)
	}
	return gate.Answer{Response: views}, err
}

func (a *API) get(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := a.Trust.Get(ctx, caller(r), r.Path("cache_key"))
	return gate.Answer{Response: viewCache(c)}, err
}

func (a *API) remove(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	return gate.Answer{Response: ""}, a.Trust.Delete(ctx, caller(r), r.Path("cache_key"))
}

func (a *API) activate(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	c, err := a.Trust.Activate(ctx, caller(r), r.Path("cache_key"))
	return gate.Answer{Response: viewCache(c)}, err
}

// count is the answer of calls that change what is in a cache.
type count struct {
	DeviceCount int `json:"device_count"`
}

func (a *API) addDevices(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	ids, err := identifiers(r.Params, "devices")
	if err != nil {
		return gate.Answer{}, err
	}
	n, err := a.Trust.Add(ctx, caller(r), r.Path("cache_key"), ids)
	return gate.Answer{Response: count{n}}, err
}

func (a *API) removeDevices(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	ids, err := identifiers(r.Params, "devices")
	if err != nil {
		return gate.Answer{}, err
	}
	n, err := a.Trust.Remove(ctx, caller(r), r.Path("cache_key"), ids)
	return gate.Answer{Response: count{n}}, err
}

// identifiers reads a JSON list of identifiers, or of objects with a device_id.
func identifiers(p gate.Params, name string) ([]string, error) {
	text, err := p.Required(name, gate.MaxBody)
	if err != nil {
		return nil, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal([]byte(text), &items); err != nil || items == nil {
		return nil, gate.Invalid(name, "not a JSON list")
	}
	if len(items) > trust.MaxBatch {
		return nil, gate.Invalid(name, fmt.Sprintf("more than %d", trust.MaxBatch))
	}
	ids := make([]string, len(items))
	for i, item := range items {
		if ids[i], err = identifier(item); err != nil {
			return nil, gate.Invalid(name, fmt.Sprintf("number %d %v", i+1, err))
		}
	}
	return ids, nil
}

func identifier(item json.RawMessage) (string, error) {
	const neither = "is neither a string nor an object with the string device_id"
	if bytes.HasPrefix(item, []byte(`"`)) {
		var id string
		if err := json.Unmarshal(item, &id); err != nil {
			return "", fmt.Errorf("%s", neither)
		}
		return id, nil
	}
	// A map, for the decoder takes any case of a struct's field.
	var object map[string]json.RawMessage
	if err := json.Unmarshal(item, &object); err != nil || !bytes.HasPrefix(object["device_id"], []byte(`"`)) {
		return "", fmt.Errorf("%s", neither)
	}
	return identifier(object["device_id"])
}

type deviceView struct {
	DeviceID  string `json:"device_id"`
	DateAdded string `json:"date_added"`
}

type deviceList struct {
	CacheKey   string       `json:"cache_key"`
	Devices    []deviceView `json:"devices_retrieved"`
	Retrieved  int          `json:"num_devices_retrieved"`
	NextOffset *int         `json:"next_offset,omitempty"`
}

func (l *deviceList) take(devices []store.CachedDevice) {
	l.Devices = make([]deviceView, len(devices))
	for i, d := range devices {
		l.Devices[i] = deviceView{DeviceID: d.ID, DateAdded: d.Added.UTC().Format(time.RFC3339)}
	}
	l.Retrieved = len(devices)
}

func (a *API) devices(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	list := deviceList{CacheKey: r.Path("cache_key")}
	for _, name := range []string{"device_id", "device_ids"} {
		if !r.Params.Has(name) {
			continue
		}
		ids, err := lookedUp(r.Params, name)
		if err != nil {
			return gate.Answer{}, err
		}
		found, err := a.Trust.Find(ctx, caller(r), list.CacheKey, name, ids)
		list.take(found)
		return gate.Answer{Response: list}, err
	}
	limit, err := r.Params.Int("limit", defaultPage, 1, 1<<31)
	if err != nil {
		return gate.Answer{}, err
	}
	offset, err := r.Params.Int("offset", 0, 0, 1<<31)
	if err != nil {
		return gate.Answer{}, err
	}
	found, total, err := a.Trust.Page(ctx, caller(r), list.CacheKey, store.Page{Limit: min(limit, maxPage), Offset: offset})
	list.take(found)
	if next := offset + len(found); len(found) > 0 && next < total {
		list.NextOffset = &next
	}
	return gate.Answer{Response: list}, err
}

// lookedUp reads the identifiers to look up: device_id is one, device_ids a JSON
// list, of either kind, or comma-separated.
func lookedUp(p gate.Params, name string) ([]string, error) {
	value, err := p.Required(name, gate.MaxBody)
	switch {
	case err != nil:
		return nil, err
	case name == "device_id":
		return []string{value}, nil
	case strings.HasPrefix(strings.TrimSpace(value), "["):
		return identifiers(p, name)
	}
	ids := strings.Split(value, ",")
	if len(ids) > trust.MaxBatch {
		return nil, gate.Invalid(name, "more than "+strconv.Itoa(trust.MaxBatch))
	}
	return ids, nil
}
