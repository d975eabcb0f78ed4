// SPDX-License-Identifier: Apache-2.0

package server_test

func init() {
	wildcard("host_id", func(s *site) string { return s.joinedHost(unique("host")).id })
	wildcard("session_id", always("RSNOSUCHSESSION"))
	document("GET /sallyport/v1/admin/hosts", optional("limit", number(10)), optional("offset", number(0)))
	document("GET /sallyport/v1/admin/hosts/{host_id}")
	document("DELETE /sallyport/v1/admin/hosts/{host_id}")
	document("POST /sallyport/v1/admin/host_tokens", optional("name", text("db1")), optional("valid_secs", number(3600)))
	document("GET /sallyport/v1/admin/sessions", optional("limit", number(10)), optional("offset", number(0)),
		optional("username", text("a")), optional("host_id", text("HO")), optional("all", flag()))
	document("DELETE /sallyport/v1/admin/sessions/{session_id}")
	document("DELETE /sallyport/v1/admin/users/{user_id}/sessions")
	document("GET " + policyPath)
	document("POST "+policyPath, optional("enabled", flag()), optional("user_choice", flag()),
		optional("max_seconds", number(3600)), optional("factors", list("duo_push")))
}
