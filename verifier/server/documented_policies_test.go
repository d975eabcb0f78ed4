// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (s *site) newPolicy() string { return s.policy(unique("policy"), `{}`) }

func init() {
	wildcard("policy_key", (*site).newPolicy)
	app := func(s *site) string { return s.integration(store.AuthAPI, directory.IntegrationChange{}).Key }
	person := func(s *site) string { return s.user(unique("user")) }
	page := []parameter{optional("limit", number(10)), optional("offset", number(0))}
	sections := jsonObject(`{"new_user":{"new_user_behavior":"deny"}}`)
	sections.wrong = append(sections.wrong, `{"x":1}`, `{"new_user":[]}`)
	places := []parameter{
		optional("sections", sections), optional("sections_to_delete", list("plugins")),
		optional("apply_to_apps", jsonObject(`{"apply_list":[],"unapply_list":[]}`)),
		optional("apply_to_groups_in_apps", jsonObject(`{"apply_group_policies_list":[]}`)),
	}
	document("GET /admin/v2/policies", page...)
	document("GET /admin/v2/policies/global")
	document("GET /admin/v2/policies/summary")
	document("GET /admin/v2/policies/calculate", required("integration_key", made(app)), required("user_id", made(person)))
	document("GET /admin/v2/policies/{policy_key}")
	document("POST /admin/v2/policies", append(places, required("policy_name", fresh("policy")))...)
	document("PUT /admin/v2/policies/{policy_key}", append(places, optional("policy_name", fresh("policy")))...)
	document("PUT /admin/v2/policies/update",
		required("policies_to_update", jsonObject(`{"edit_all_policies":true}`)),
		required("policy_changes", jsonObject(`{"sections_to_delete":["plugins"]}`)))
	document("POST /admin/v2/policies/copy",
		required("policy_key", made((*site).newPolicy)), required("new_policy_names_list", fresh("policy")))
	document("DELETE /admin/v2/policies/{policy_key}")
	document("GET /sallyport/v1/admin/policy/explain", required("integration_key", made(app)),
		required("user_id", made(person)), optional("ipaddr", text("192.0.2.1")))
	document("POST /sallyport/v1/admin/policy/order", required("integration_key", made(app)), required("group_id_list", text("[]")))
}
