// SPDX-License-Identifier: Apache-2.0

package server_test

func init() {
	document("GET /admin/v1/logs/telephony", optional("mintime", number(0)))
	document("GET /admin/v2/logs/telephony",
		optional("mintime", number(0)), optional("maxtime", number(1)), optional("limit", number(1)), optional("sort", oneOf("ts:asc", "ts:desc")),
		optional("next_offset", kind{good: always("1,x"), wrong: []string{"x", "x,y", "1,"}}))
	document("GET /admin/v1/info/telephony_credits_used", optional("mintime", number(0)), optional("maxtime", number(1)))
	document("GET /admin/v1/billing/telephony_credits")
	document("POST /admin/v1/billing/telephony_credits", required("credits", number(100)))
}
