// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/trust"
)

// fleet calls the Device API for one management system.
type fleet struct {
	*site
	directory.MadeManagementSystem
	client *duoapi.Client
	path   string
}

func newFleet(s *site, os string, status store.ManagementStatus) *fleet {
	m := s.managementSystem(os, status)
	return &fleet{s, m, s.as(m.Integration), "/device/v1/management_systems/" + m.Key + "/device_cache"}
}

type deviceCache struct {
	Key       string `json:"cache_key"`
	Status    string `json:"status"`
	Count     int    `json:"device_count"`
	Created   int64  `json:"date_created"`
	Activated *int64 `json:"date_activated"`
}

type foundDevices struct {
	Key     string `json:"cache_key"`
	Devices []struct {
		ID    string `json:"device_id"`
		Added string `json:"date_added"`
	} `json:"devices_retrieved"`
	Retrieved int  `json:"num_devices_retrieved"`
	Next      *int `json:"next_offset"`
}

func (f foundDevices) ids() (out []string) {
	for _, d := range f.Devices {
		out = append(out, d.ID)
	}
	return out
}

// do calls below the caches; a second passes, so that no call repeats another.
func (f *fleet) do(method, path string, params map[string]string, out any) error {
	f.clock.Add(time.Second)
	return f.call(f.client, method, f.path+path, params, out)
}

func (f *fleet) create(params map[string]string) string {
	f.t.Helper()
	var c deviceCache
	f.must(f.do("POST", "", params, &c))
	return c.Key
}

func (f *fleet) count(method, key, devices string) int {
	f.t.Helper()
	var c deviceCache
	f.must(f.do(method, "/"+key+"/devices", map[string]string{"devices": devices}, &c))
	return c.Count
}

func (f *fleet) find(key string, params map[string]string) (d foundDevices) {
	f.t.Helper()
	f.must(f.do("GET", "/"+key+"/devices", params, &d))
	return d
}

func equalTo(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := toJSON(t, got), toJSON(t, want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

// The life of a cache as Duo's document tells it.
func TestDeviceCacheLife(t *testing.T) {
	s := newSite(t)
	f := newFleet(s, store.OSLinux, store.ManagementAll)
	key := f.create(nil)
	if !strings.HasPrefix(key, "DC") || len(key) != 20 {
		t.Fatalf("key %q", key)
	}
	equalTo(t, "objects", f.count("POST", key, `[{"device_id":"93EA2EAC-0B93"},{"device_id":" 7450C1F3 ","name":"x"}]`), 2)
	equalTo(t, "strings, one of them known", f.count("POST", key, `["93ea2eac-0b93","new","NEW"]`), 3)
	equalTo(t, "the same call again", f.count("POST", key, `["93ea2eac-0b93","new","NEW"]`), 3)
	equalTo(t, "deleting, one of them unknown", f.count("DELETE", key, `["new","never was"]`), 2)
	var got deviceCache
	f.must(f.do("GET", "/"+key, nil, &got))
	equalTo(t, "pending", []any{got.Status, got.Count, got.Activated}, []any{"pending", 2, nil})

	status, err := s.srv.Trust().Lookup(t.Context(), trust.Endpoint{ID: "7450c1f3", OS: store.OSLinux}, nil)
	if err != nil || status != trust.NotTrusted {
		t.Fatalf("a device of a pending cache is %q, %v", status, err)
	}
	f.must(f.do("POST", "/"+key+"/activate", nil, nil))
	f.must(f.do("POST", "/"+key+"/activate", nil, nil)) // harmless
	f.must(f.do("GET", "/"+key, nil, &got))
	if got.Status != "active" || got.Activated == nil || *got.Activated < got.Created {
		t.Fatalf("activated: %+v", got)
	}
	equalTo(t, "adding while active", f.count("POST", key, `["later"]`), 3)
	equalTo(t, "deleting while active", f.count("DELETE", key, `[{"device_id":"LATER"}]`), 2)

	second := f.create(map[string]string{"active": ""})
	equalTo(t, "another", f.count("POST", second, `["only here"]`), 1)
	var all []deviceCache
	f.must(f.do("GET", "", nil, &all))
	equalTo(t, "list", []string{all[0].Key, all[0].Status, all[1].Key, all[1].Status}, []string{key, "active", second, "pending"})
	f.must(f.do("GET", "", map[string]string{"status": "pending"}, &all))
	equalTo(t, "pending ones", []any{len(all), all[0].Key}, []any{1, second})
	f.must(f.do("POST", "/"+second+"/activate", nil, nil))
	equalTo(t, "the old one", code(f.do("GET", "/"+key, nil, nil)), duoapi.CodeNotFound)
	equalTo(t, "adding to the old one", code(f.do("POST", "/"+key+"/devices", map[string]string{"devices": `["a"]`}, nil)), duoapi.CodeNotFound)
	equalTo(t, "activating the old one", code(f.do("POST", "/"+key+"/activate", nil, nil)), duoapi.CodeNotFound)
	third := f.create(nil)
	f.must(f.do("DELETE", "/"+third, nil, nil))
	equalTo(t, "deleted", code(f.do("DELETE", "/"+third, nil, nil)), duoapi.CodeNotFound)

	other := newFleet(s, store.OSMac, store.ManagementAll)
	at := other.create(map[string]string{"active": "True"})
	other.must(other.do("GET", "/"+at, nil, &got))
	equalTo(t, "active from the start", got.Status, "active")
}

func TestDeviceLookup(t *testing.T) {
	s := newSite(t)
	f := newFleet(s, store.OSWindows, store.ManagementDisabled)
	key := f.create(nil)
	f.count("POST", key, `["a","B","c","ß","with, comma"]`)
	equalTo(t, "one, as asked for", f.find(key, map[string]string{"device_id": " A "}).ids(), []string{"A"})
	equalTo(t, "with a comma", f.find(key, map[string]string{"device_id": "With, Comma"}).ids(), []string{"With, Comma"})
	none := f.find(key, map[string]string{"device_id": "x"})
	equalTo(t, "none", []any{none.Key, none.Retrieved, none.Devices}, []any{key, 0, []any{}})
	equalTo(t, "commas", f.find(key, map[string]string{"device_ids": "C, x,a"}).ids(), []string{"C", "a"})
	equalTo(t, "JSON", f.find(key, map[string]string{"device_ids": `["b","B",{"device_id":"SS"}]`}).ids(), []string{"b", "SS"})
	first := f.find(key, map[string]string{"limit": "2"})
	equalTo(t, "first page", []any{first.ids(), first.Retrieved, *first.Next}, []any{[]string{"a", "b"}, 2, 2})
	last := f.find(key, map[string]string{"limit": "2", "offset": "4"})
	equalTo(t, "last page", []any{last.ids(), last.Next}, []any{[]string{"with, comma"}, nil})
	if at, err := time.Parse(time.RFC3339, first.Devices[0].Added); err != nil || s.clock.Now().Sub(at) > time.Minute {
		t.Fatalf("date_added %q: %v", first.Devices[0].Added, err)
	}
}

// Every refusal that a client of the Device API can meet.
func TestDeviceAPIErrors(t *testing.T) {
	s := newSite(t)
	f, other := newFleet(s, store.OSLinux, store.ManagementAll), newFleet(s, store.OSLinux, store.ManagementAll)
	active, pending := f.create(map[string]string{"active": "True"}), f.create(nil)
	foreign := other.create(nil)
	tooMany := toJSON(t, slices.Repeat([]string{"a"}, 1001))
	for _, c := range []struct {
		what, method, path string
		params             map[string]string
		code               int
		detail             string
	}{
		{"second pending", "POST", "", nil, 40901, f.base.String() + f.path + "/" + pending},
		{"second active", "POST", "", map[string]string{"active": "1"}, 40901, f.base.String() + f.path + "/" + active},
		{"odd active", "POST", "", map[string]string{"active": "perhaps"}, 40002, "active"},
		{"odd status", "GET", "", map[string]string{"status": "deleted"}, 40002, "status"},
		{"no such cache", "GET", "/DCX", nil, 40401, ""},
		{"another system's cache", "GET", "/" + foreign, nil, 40401, ""},
		{"filling another system's cache", "POST", "/" + foreign + "/devices", map[string]string{"devices": `["a"]`}, 40401, ""},
		{"activating another system's cache", "POST", "/" + foreign + "/activate", nil, 40401, ""},
		{"deleting another system's cache", "DELETE", "/" + foreign, nil, 40401, ""},
		{"deleting the active one", "DELETE", "/" + active, nil, 40902, "active"},
		{"no devices", "POST", "/" + pending + "/devices", nil, 40001, "devices"},
		{"blank devices", "POST", "/" + pending + "/devices", map[string]string{"devices": ""}, 40002, "devices"},
		{"too many", "POST", "/" + pending + "/devices", map[string]string{"devices": tooMany}, 40002, "more than 1000"},
		{"too many to look up", "GET", "/" + pending + "/devices", map[string]string{"device_ids": strings.Repeat("a,", 1000) + "a"}, 40002, "device_ids: more than 1000"},
		{"the second is wrong", "POST", "/" + pending + "/devices", map[string]string{"devices": `["a",7]`}, 40002, "number 2"},
		{"the second is blank", "POST", "/" + pending + "/devices", map[string]string{"devices": `["a"," "]`}, 40002, "number 2 is blank"},
		{"control characters", "POST", "/" + pending + "/devices", map[string]string{"devices": `["a\u001b[2J"]`}, 40002, "control characters"},
		{"too long", "POST", "/" + pending + "/devices", map[string]string{"devices": toJSON(t, []string{strings.Repeat("x", 257)})}, 40002, "number 1"},
		{"the case of the member", "POST", "/" + pending + "/devices", map[string]string{"devices": `[{"DEVICE_ID":"a"}]`}, 40002, "number 1"},
		{"too large", "POST", "/" + pending + "/devices", map[string]string{"devices": strings.Repeat("x", 200<<10)}, 41301, ""},
		{"odd limit", "GET", "/" + pending + "/devices", map[string]string{"limit": "0"}, 40002, "limit"},
	} {
		err := f.do(c.method, c.path, c.params, nil)
		var e *duoapi.Error
		if !errors.As(err, &e) || e.Code != c.code || !strings.Contains(e.Detail, c.detail) {
			t.Errorf("%s: %v, want %d with %q", c.what, err, c.code, c.detail)
		}
		if c.code == 40901 && e != nil && !strings.HasSuffix(e.Detail, c.detail) {
			t.Errorf("%s: %q does not end with the URL, so scripts cannot cut the key out", c.what, e.Detail)
		}
	}
	equalTo(t, "what a refused call leaves", len(f.find(pending, nil).Devices), 0)

	unbound := s.as(s.integration(store.DeviceAPI, directory.IntegrationChange{}))
	for what, client := range map[string]*duoapi.Client{"another system": other.client, "no system": unbound, "the Admin API": s.admin, "the Auth API": s.auth} {
		s.clock.Add(time.Second)
		equalTo(t, "an integration of "+what, code(s.call(client, "GET", f.path, nil, nil)), 40301)
		equalTo(t, "a write by "+what, code(s.call(client, "POST", f.path+"/"+pending+"/activate", nil, nil)), 40301)
	}
	equalTo(t, "a system that is not there", code(s.call(f.client, "GET", "/device/v1/management_systems/DMX/device_cache", nil, nil)), 40301)
	wrong := *f.client
	wrong.Secret = []byte("wrong")
	equalTo(t, "another secret", code(s.call(&wrong, "GET", f.path, nil, nil)), 40103)
	equalTo(t, "the integration alone is not removed", code(s.dir.DeleteIntegration(t.Context(), directory.Actor{Name: "test"}, f.IntegrationKey)), 40002)
	s.must(s.dir.DeleteManagementSystem(t.Context(), directory.Actor{Name: "test"}, f.Key))
	equalTo(t, "after the system", code(f.do("GET", "", nil, nil)), 40102)
}

// A thousand identifiers go in one call, however they are sent, and out again in the
// query of a DELETE, over HTTP/1.1 and HTTP/2.
func TestThousandDevices(t *testing.T) {
	s := newSite(t)
	f := newFleet(s, store.OSWindows, store.ManagementAll)
	ids, objects := make([]string, 1000), make([]map[string]string, 1000)
	for i := range ids {
		ids[i] = fmt.Sprintf("6984852C-7921-4D8A-AE8C-%012d", i)
		objects[i] = map[string]string{"device_id": ids[i]}
	}
	key := f.create(nil)
	equalTo(t, "form", f.count("POST", key, toJSON(t, objects)), 1000)
	equalTo(t, "deleted", f.count("DELETE", key, toJSON(t, ids)), 0)
	s.clock.Add(time.Second)
	var c deviceCache
	_, err := f.client.CallJSON(t.Context(), "POST", f.path+"/"+key+"/devices", map[string]any{"devices": objects}, &c)
	s.must(err)
	equalTo(t, "JSON", c.Count, 1000)
	old := *f.client
	transport := old.HTTP.Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2, transport.TLSClientConfig.NextProtos = false, []string{"http/1.1"}
	old.HTTP = &http.Client{Transport: transport}
	f.client = &old
	equalTo(t, "found", f.find(key, map[string]string{"device_ids": toJSON(t, ids)}).Retrieved, 1000)
	equalTo(t, "deleted over HTTP/1.1", f.count("DELETE", key, toJSON(t, ids)), 0)
}

// Two uploads and an activation at once: no identifier is lost, and a look-up sees
// one whole cache.
func TestUploadsMeetActivation(t *testing.T) {
	s := newSite(t)
	f := newFleet(s, store.OSLinux, store.ManagementAll)
	old := f.create(map[string]string{"active": "True"})
	f.count("POST", old, `["in every cache"]`)
	var (
		stop    atomic.Bool
		lookups sync.WaitGroup
	)
	lookups.Go(func() {
		for !stop.Load() {
			status, err := s.srv.Trust().Lookup(t.Context(), trust.Endpoint{ID: "in every cache", OS: store.OSLinux}, nil)
			if err != nil || status != trust.Trusted {
				t.Errorf("a device of every cache is %q: %v", status, err)
				return
			}
		}
	})
	for round := range 4 {
		key := f.create(nil)
		f.count("POST", key, `["in every cache"]`)
		s.clock.Add(time.Second)
		var calls sync.WaitGroup
		for client := range 2 {
			calls.Go(func() {
				for batch := range 5 {
					ids := make([]string, 100)
					for i := range ids {
						ids[i] = fmt.Sprintf("%d-%d-%d-%d", round, client, batch, i)
					}
					err := s.call(f.client, "POST", f.path+"/"+key+"/devices", map[string]string{"devices": toJSON(t, ids)}, nil)
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		calls.Go(func() {
			if err := s.call(f.client, "POST", f.path+"/"+key+"/activate", nil, nil); err != nil {
				t.Error(err)
			}
			s.srv.Trust().Sweep(t.Context())
		})
		calls.Wait()
		var c deviceCache
		f.must(f.do("GET", "/"+key, nil, &c))
		equalTo(t, "after the round", []any{c.Status, c.Count}, []any{"active", 1001})
	}
	stop.Store(true)
	lookups.Wait()
}

func TestTrustedEndpoint(t *testing.T) {
	s := newSite(t)
	look := func(id, os string, groups ...string) trust.Status {
		t.Helper()
		status, err := s.srv.Trust().Lookup(t.Context(), trust.Endpoint{ID: id, OS: os}, groups)
		s.must(err)
		return status
	}
	equalTo(t, "without a system", look("a", store.OSLinux), trust.Unknown)
	f := newFleet(s, store.OSLinux, store.ManagementDisabled)
	f.count("POST", f.create(map[string]string{"active": "True"}), `["A"]`)
	equalTo(t, "disabled", look("a", store.OSLinux), trust.Unknown)
	set := func(status store.ManagementStatus, groups ...string) {
		t.Helper()
		_, err := s.dir.UpdateManagementSystem(t.Context(), directory.Actor{Name: "test"}, f.Key, directory.ManagementChange{Status: &status, GroupIDs: &groups})
		s.must(err)
	}
	set(store.ManagementTestGroup, "DG1")
	equalTo(t, "in the test group", look("a", store.OSLinux, "DG0", "DG1"), trust.Trusted)
	equalTo(t, "in another group", look("a", store.OSLinux, "DG2"), trust.Unknown)
	set(store.ManagementAll)
	equalTo(t, "for all", look(" A", store.OSLinux), trust.Trusted)
	equalTo(t, "another device", look("b", store.OSLinux), trust.NotTrusted)
	equalTo(t, "another operating system", look("a", store.OSMac), trust.NotTrusted)
	equalTo(t, "no identity", look(" ", store.OSLinux), trust.Unknown)
}

// Duo's script, told to delete an existing cache: the same creation before and
// after, within one second, and the key cut from the detail.
func TestCreateAgainAfterConflict(t *testing.T) {
	s := newSite(t)
	f := newFleet(s, store.OSLinux, store.ManagementAll)
	left := f.create(nil)
	var e *duoapi.Error
	if err := f.do("POST", "", nil, nil); !errors.As(err, &e) {
		t.Fatalf("with one there: %v", err)
	}
	key := e.Detail[strings.LastIndex(e.Detail, "/")+1:]
	equalTo(t, "the key in the detail", key, left)
	create := s.record(f.client, "POST", f.path, "")
	equalTo(t, "with one there", create.to(t, s.srv), duoapi.CodeCacheExists)
	f.must(f.do("DELETE", "/"+key, nil, nil))
	equalTo(t, "with none", create.to(t, s.srv), 0)
	equalTo(t, "and once more", create.to(t, s.srv), duoapi.CodeReplay)
}

// Who is trusted is for the administrator log: who changed it, what, before and after.
func TestDeviceCachesAreAudited(t *testing.T) {
	s := newSite(t)
	f := newFleet(s, store.OSLinux, store.ManagementAll)
	first := f.create(map[string]string{"active": "True"})
	f.count("POST", first, `["a","b"]`)
	f.count("POST", first, `["a"]`) // changes nothing
	second := f.create(nil)
	f.count("POST", second, `["c"]`) // trusts nobody yet
	f.must(f.do("POST", "/"+second+"/activate", nil, nil))
	var log []struct {
		Action, Object, Description string
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", map[string]string{"mintime": "0"}, &log))
	var actions []string
	for _, e := range log {
		if strings.HasPrefix(e.Action, "device_cache") {
			actions = append(actions, e.Action)
			var d map[string]any
			s.must(json.Unmarshal([]byte(e.Description), &d))
			if e.Object != f.Key || d["integration_key"] != f.IntegrationKey || d["ip_address"] != "127.0.0.1" {
				t.Errorf("%s: %+v", e.Action, e)
			}
			if e.Action == "device_cache_activate" {
				equalTo(t, "replaced", d["replaced"], map[string]any{"cache_key": first, "device_count": 2})
			}
		}
	}
	equalTo(t, "actions", actions, []string{"device_cache_create", "device_cache_devices_add", "device_cache_create", "device_cache_activate"})
	if strings.Contains(toJSON(t, log), f.Integration.Secret) {
		t.Error("the secret is in the administrator log")
	}
}

func FuzzDevices(f *testing.F) {
	s := newSite(f)
	fl := newFleet(s, store.OSLinux, store.ManagementAll)
	key := fl.create(nil)
	for _, seed := range []string{`["a"]`, `[{"device_id":"a"}]`, `[null]`, `{}`, `["\ud800"]`, "[", `["a",["b"]]`, "\xff", `[{"device_id":"a","device_id":7}]`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, devices string) {
		s.t = t
		s.clock.Add(time.Second)
		w := s.signedBy(fl.client, signature.Scheme{Version: signature.V5}, "POST", fl.path+"/"+key+"/devices",
			"application/x-www-form-urlencoded", "devices="+url.QueryEscape(devices))
		var env duoapi.Envelope
		if err := json.Unmarshal(w.Body.Bytes(), &env); err != nil {
			t.Fatalf("%q: %v: %s", devices, err, w.Body)
		}
		switch {
		case env.Stat == "OK" && w.Code == http.StatusOK:
		case env.Code == duoapi.CodeInvalidParameter && strings.Contains(env.MessageDetail, "devices"):
		case env.Code == duoapi.CodeTooLarge:
		default:
			t.Fatalf("%q: %d %s", devices, w.Code, w.Body)
		}
	})
}
