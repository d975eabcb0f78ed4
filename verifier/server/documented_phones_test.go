// SPDX-License-Identifier: Apache-2.0

package server_test

import "github.com/sallyport-mfa/sallyport/verifier/directory"

func init() {
	wildcard("phone_id", (*site).newPhone)
	phone := []parameter{
		optional("number", text("+15555550100")), optional("extension", text("1")), optional("name", text("n")),
		optional("type", text("mobile")), optional("platform", text("Generic Smartphone")),
		optional("predelay", number(1)), optional("postdelay", number(1)),
	}
	document("GET /admin/v1/phones", optional("limit", number(10)), optional("offset", number(0)),
		optional("number", text("+15555550100")), optional("extension", text("1")))
	document("POST /admin/v1/phones", append(phone, optional("user_id", made(func(s *site) string { return s.user(unique("user")) })))...)
	document("GET /admin/v1/phones/{phone_id}")
	document("POST /admin/v1/phones/{phone_id}", phone...)
	document("DELETE /admin/v1/phones/{phone_id}")
	document("POST /admin/v1/phones/{phone_id}/activation_url", optional("valid_secs", number(3600)), optional("install", flag()))
}

// newPhone is the id of a phone of somebody.
func (s *site) newPhone() string {
	p, err := s.dir.CreatePhone(s.t.Context(), directory.Actor{Name: "test"}, s.user(unique("user")), directory.PhoneChange{})
	s.must(err)
	return p.ID
}
