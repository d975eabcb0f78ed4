// SPDX-License-Identifier: Apache-2.0

package server_test

func init() {
	for _, log := range []string{"authentication", "administrator", "offline_enrollment"} {
		document("GET /admin/v1/logs/"+log, optional("mintime", number(0)))
	}
	span := []parameter{
		optional("mintime", number(0)), optional("maxtime", number(1)), optional("limit", number(1)), optional("sort", oneOf("ts:asc", "ts:desc")),
		optional("next_offset", kind{good: always("1,x"), wrong: []string{"x", "x,y", "1,2,3", "-1,x", `["a"`}}),
	}
	document("GET /admin/v2/logs/activity", span...)
	var filters []parameter
	for _, name := range []string{
		"users", "usernames", "groups", "applications", "factors", "results", "reasons", "event_types",
		"token_id", "registration_id", "webauthnkey", "assessment", "detections",
	} {
		filters = append(filters, optional(name, list("a")))
	}
	numbers := kind{good: always("+15551234567"), wrong: []string{"5551234567", "x", `[1]`}}
	document("GET /admin/v2/logs/authentication", append(filters, append(span, optional("phone_numbers", numbers))...)...)
}
