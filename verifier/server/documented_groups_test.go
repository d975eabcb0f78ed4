// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func (s *site) newGroup() string { return s.group(unique("group"), store.Active) }

func init() {
	wildcard("group_id", (*site).newGroup)
	page := []parameter{optional("limit", number(10)), optional("offset", number(0))}
	group := []parameter{
		optional("desc", text("d")), optional("status", oneOf("active", "bypass", "disabled")), optional("push_enabled", flag()),
		optional("sms_enabled", flag()), optional("voice_enabled", flag()), optional("mobile_otp_enabled", flag()),
		optional("u2f_enabled", flag()),
	}
	document("GET /admin/v1/groups", append(page, optional("group_id_list", list(`["DG1"]`)))...)
	document("POST /admin/v1/groups", append(group, required("name", fresh("group")))...)
	document("GET /admin/v1/groups/{group_id}")
	document("GET /admin/v2/groups/{group_id}")
	document("GET /admin/v2/groups/{group_id}/users", page...)
	document("POST /admin/v1/groups/{group_id}", append(group, optional("name", fresh("group")))...)
	document("DELETE /admin/v1/groups/{group_id}")
	document("POST /admin/v1/users/{user_id}/groups", required("group_id", made((*site).newGroup)))
	// A membership ends once, so that each request has one of its own.
	var member string
	document("DELETE /admin/v1/users/{user_id}/groups/{group_id}",
		on("user_id", func(s *site) string { member = s.user(unique("member")); return member }),
		on("group_id", func(s *site) string {
			id := s.newGroup()
			s.must(s.dir.JoinGroup(s.t.Context(), directory.Actor{Name: "test"}, member, id))
			return id
		}))
}
