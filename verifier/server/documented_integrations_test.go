// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func init() {
	wildcard("integration_key", func(s *site) string { return s.integration(store.AdminAPI, directory.IntegrationChange{}).Key })
	change := []parameter{
		optional("notes", text("n")), optional("greeting", text("g")), optional("enroll_policy", oneOf("enroll", "allow", "deny")),
		optional("enroll_url", text("https://example.org/")), optional("username_normalization_policy", oneOf("None", "Simple")),
		optional("networks_for_api_access", list("192.0.2.0/24,198.51.100.1-198.51.100.9")), optional("ip_whitelist", list("192.0.2.1")),
		optional("ip_whitelist_enroll_policy", oneOf("allow", "enforce")), optional("visual_style", text("v")),
		optional("trusted_device_days", number(3)), optional("self_service_allowed", flag()),
		optional("groups_allowed", kind{good: (*site).newGroup, wrong: []string{"DG1", `["a"`}}),
		optional("allow_sha1", flag()), optional("allow_v1", flag()), optional("allow_plain_push", flag()),
	}
	for _, grant := range directory.Grants() {
		change = append(change, optional(grant, flag()))
	}
	for _, version := range []string{"v1", "v2", "v3"} {
		if version == "v3" { // the others take no notice of it
			change = append(change, optional("user_access", oneOf("ALL_USERS", "NO_USERS", "PERMITTED_GROUPS")))
		}
		base := "/admin/" + version + "/integrations"
		document("GET "+base, optional("limit", number(10)), optional("offset", number(0)))
		document("POST "+base, append(change, required("name", text("n")), required("type", oneOf("adminapi", "authapi")))...)
		document("GET " + base + "/{integration_key}")
		document("POST "+base+"/{integration_key}", append(change, optional("name", text("n")), optional("reset_secret_key", flag()),
			optional("reset_secret_overlap_secs", number(60)))...)
		document("DELETE " + base + "/{integration_key}")
	}
}
