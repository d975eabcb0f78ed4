// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"github.com/sallyport-mfa/sallyport/verifier/directory"
)

func (s *site) administrator(role string) (id, link string) {
	s.t.Helper()
	made, l, err := s.dir.CreateAdministrator(s.t.Context(), directory.Actor{Name: "test"}, unique("admin")+"@example.org",
		directory.AdministratorChange{Name: ptr("An Administrator"), Role: &role}, 7)
	s.must(err)
	return made.ID, l.Code
}

func init() {
	newOne := func(s *site) string { id, _ := s.administrator("Help Desk"); return id }
	wildcard("admin_id", newOne)
	wildcard("link", always("activation_link"))
	mail := kind{good: func(*site) string { return unique("mail") + "@example.org" }, wrong: []string{"x", "a@b@c", "A <a@example.org>"}, strict: true}
	role := oneOf("Help Desk", "Owner", "Administrator", "Application Manager", "User Manager", "Security Analyst", "Billing", "Phishing Manager", "Read-only")
	phone := kind{good: always("+15551234567"), wrong: []string{"x", "555"}}
	page := []parameter{optional("limit", number(10)), optional("offset", number(0))}
	days := []parameter{optional("valid_days", number(3)), optional("send_email", kind{good: always("0"), wrong: []string{"1", "maybe"}, strict: true})}
	change := []parameter{optional("phone", phone), optional("role", role), optional("password_change_required", flag())}
	const one = "/admin/v1/admins/{admin_id}"

	document("GET /admin/v1/admins", page...)
	document("POST /admin/v1/admins", append(append(days, change...), required("name", text("n")), required("email", mail))...)
	document("GET /admin/v1/admins/activations", page...)
	document("POST /admin/v1/admins/activations", append(days, required("email", mail), optional("admin_role", role))...)
	document("GET /admin/v1/admins/allowed_auth_methods")
	var methods []parameter
	for _, name := range []string{
		"push_enabled", "sms_enabled", "mobile_otp_enabled", "hardware_token_enabled", "yubikey_enabled", "voice_enabled", "verified_push_enabled",
	} {
		methods = append(methods, optional(name, flag()))
	}
	document("POST /admin/v1/admins/allowed_auth_methods", append(methods, optional("verified_push_length", number(4)))...)
	document("GET /admin/v1/admins/password_mgmt", page...)
	document("GET " + one)
	document("POST "+one, append(change, optional("name", text("n")), optional("status", oneOf("Disabled", "disabled")))...)
	document("DELETE " + one)
	document("POST " + one + "/reset")
	document("POST " + one + "/clear_inactivity")
	document("POST "+one+"/activation_link", append(days, on("admin_id", newOne))...)
	document("DELETE " + one + "/{link}")
	document("GET " + one + "/password_mgmt")
	document("POST "+one+"/password_mgmt",
		optional("password", text("correct horse battery").alsoCalled("has_external_password_mgmt")), optional("has_external_password_mgmt", flag()))
}
