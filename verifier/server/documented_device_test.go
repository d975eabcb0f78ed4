// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// managed is the management system of a site, by which the Device API is called.
func (s *site) managed() directory.MadeManagementSystem {
	s.t.Helper()
	if s.management.Key == "" {
		s.management = s.managementSystem(store.OSLinux, store.ManagementAll)
	}
	return s.management
}

func (s *site) managementSystem(os string, status store.ManagementStatus) directory.MadeManagementSystem {
	s.t.Helper()
	m, err := s.dir.CreateManagementSystem(s.t.Context(), directory.Actor{Name: "test"}, directory.ManagementChange{
		Name: ptr(unique("fleet")), OS: &os, Status: &status,
	})
	s.must(err)
	return m
}

// pendingCache is the pending cache of the site's management system, made if there is none.
func pendingCache(s *site) string {
	s.t.Helper()
	c := s.as(s.managed().Integration)
	var caches []struct {
		Key string `json:"cache_key"`
	}
	path := "/device/v1/management_systems/" + s.managed().Key + "/device_cache"
	s.must(s.call(c, "GET", path, map[string]string{"status": "pending"}, &caches))
	if len(caches) > 0 {
		return caches[0].Key
	}
	var made struct {
		Key string `json:"cache_key"`
	}
	s.must(s.call(c, "POST", path, nil, &made))
	return made.Key
}

func init() {
	otherRefusals = append(otherRefusals, duoapi.CodeCacheExists, duoapi.CodeCacheActive)

	wildcard("mkey", func(s *site) string { return s.managed().Key })
	wildcard("cache_key", pendingCache)
	const caches = "/device/v1/management_systems/{mkey}/device_cache"
	devices := kind{good: always(`["a-1",{"device_id":"a-2"}]`), wrong: []string{
		"abc", `{"device_id":"a"}`, `[1]`, `[{"device":"a"}]`, `[{"device_id":7}]`, `[[]]`, `[null]`, `["a"`, `[""]`, `["a\u0000b"]`, "null",
	}, strict: true}
	document("GET "+caches, optional("status", oneOf("active", "pending")))
	document("POST "+caches, optional("active", flag()))
	document("GET " + caches + "/{cache_key}")
	document("DELETE " + caches + "/{cache_key}")
	document("POST " + caches + "/{cache_key}/activate")
	document("GET "+caches+"/{cache_key}/devices", optional("limit", number(10)), optional("offset", number(0)),
		optional("device_id", text("a-1")), optional("device_ids", text(`["a-1"]`)))
	document("POST "+caches+"/{cache_key}/devices", required("devices", devices))
	document("DELETE "+caches+"/{cache_key}/devices", required("devices", devices))

	const systems = "/sallyport/v1/admin/management_systems"
	document("GET "+systems, optional("limit", number(10)), optional("offset", number(0)))
	document("POST "+systems, required("name", fresh("fleet")), required("os", oneOf("linux", "macos", "windows")),
		optional("status", oneOf("all", "disabled")), optional("group_ids", list("DG000000000000000000")))
	document("GET " + systems + "/{mkey}")
	document("POST "+systems+"/{mkey}", optional("name", fresh("fleet")), optional("os", oneOf("linux")),
		optional("status", oneOf("all", "disabled")), optional("group_ids", list("DG000000000000000000")))
	document("DELETE "+systems+"/{mkey}", on("mkey", func(s *site) string {
		return s.managementSystem(store.OSMac, store.ManagementDisabled).Key
	}))
}
