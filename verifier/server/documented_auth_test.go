// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

func init() {
	wildcard("txid", (*site).waiting)
	person := required("username", text("nobody").alsoCalled("user_id"))
	byID := optional("user_id", text("DUNOBODY").alsoCalled("username"))

	document("GET /auth/v2/ping")
	document("GET /auth/v2/check")
	document("GET /auth/v2/logo")
	document("POST /auth/v2/enroll",
		optional("username", fresh("enrolled")), optional("valid_secs", number(3600)), optional("bypass_codes", number(1)))
	document("POST /auth/v2/enroll_status", required("user_id", text("DUNOBODY")), required("activation_code", text("sa1.x")))
	document("POST /auth/v2/preauth", person, byID,
		optional("ipaddr", text("192.0.2.1")), optional("hostname", text("db1")), optional("trusted_device_token", text("x")),
		optional("client_supports_verified_push", flag()), optional("text_prompt", flag()), optional("failmode", text("open")),
		optional("sallyport_passport", flag()))
	document("POST /auth/v2/auth", person, byID,
		required("factor", oneOf("passcode", "push", "phone", "sms", "auto", "prompt")),
		required("passcode", text("123456").orBlank()), // of that factor
		optional("device", text("").alsoCalled("factor")), optional("prompt", text("push1")), optional("async", flag()),
		optional("ipaddr", text("192.0.2.1")), optional("hostname", text("db1")), optional("type", text("Login")),
		optional("display_username", text("N")), optional("pushinfo", text("a=b")), optional("txid", text("x")),
		optional("trusted_device_token", text("x")), optional("sallyport_passport", flag()))
	document("GET /auth/v2/auth_status", required("txid", made((*site).waiting)))
	document("POST /sallyport/v1/transactions/{txid}/cancel")
}

// waiting is the txid of a login that has ended and can be asked for.
func (s *site) waiting() string {
	var out duoapi.Auth
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{
		"username": strings.ToLower(unique("nobody")), "factor": "passcode", "passcode": "1", "async": "1",
	}, &out))
	return out.TxID
}
