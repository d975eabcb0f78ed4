// SPDX-License-Identifier: Apache-2.0

package server_test

import "fmt"

func init() {
	wildcard("user_id", func(s *site) string { return s.user(unique("user")) })
	page := []parameter{optional("limit", number(10)), optional("offset", number(0))}
	user := []parameter{
		optional("realname", text("A")), optional("firstname", text("A")), optional("lastname", text("A")),
		optional("email", text("a@example.org")), optional("notes", text("n")),
		optional("status", oneOf("active", "bypass", "disabled")),
		optional("aliases", fresh("alias1=a").alsoCalled("alias")),
	}
	for i := range 8 {
		user = append(user, optional(fmt.Sprintf("alias%d", i+1), fresh("alias").alsoCalled("alias")))
	}
	document("GET /admin/v1/users", append(page,
		optional("username", text("a")), optional("email", text("a@example.org")),
		optional("username_list", list(`["a"]`)), optional("user_id_list", list(`["a"]`)))...)
	document("POST /admin/v1/users", append(user, required("username", fresh("user")))...)
	document("POST /admin/v1/users/enroll",
		required("username", fresh("user")), optional("email", text("a@example.org")), optional("valid_secs", number(3600)))
	document("GET /admin/v1/users/{user_id}")
	document("POST /admin/v1/users/{user_id}", append(user, optional("username", fresh("user")))...)
	document("DELETE /admin/v1/users/{user_id}")
	for _, what := range []string{"phones", "tokens", "bypass_codes", "groups", "u2ftokens", "webauthncredentials", "desktopauthenticators"} {
		document("GET /admin/v1/users/{user_id}/"+what, page...)
	}
	document("POST /admin/v1/users/{user_id}/phones", required("phone_id", made((*site).newPhone)))
	document("DELETE /admin/v1/users/{user_id}/phones/{phone_id}")
	document("POST /admin/v1/users/{user_id}/tokens", required("token_id", made((*site).newToken)))
	document("DELETE /admin/v1/users/{user_id}/tokens/{token_id}")
}
