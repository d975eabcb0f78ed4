// SPDX-License-Identifier: Apache-2.0

package server_test

import "github.com/sallyport-mfa/sallyport/internal/duoapi"

func init() {
	for _, suffix := range suffixes {
		base := "/rest/v1/"
		document("GET " + base + "ping" + suffix)
		document("GET " + base + "check" + suffix)
		document("GET " + base + "logo" + suffix)
		document("POST "+base+"preauth"+suffix, required("user", text("nobody")), optional("ipaddr", text("192.0.2.1")),
			optional("hostname", text("db1")), optional("failmode", text("open")))
		document("POST "+base+"auth"+suffix, required("user", text("nobody")),
			required("factor", oneOf("auto", "passcode", "push", "phone", "sms")),
			required("auto", text("123456").orBlank()), // of that factor
			optional("code", text("123456")), optional("phone", text("phone1")), optional("async", flag()),
			optional("ipaddr", text("192.0.2.1")), optional("hostname", text("db1")), optional("pushinfo", text("a=b")))
		document("GET "+base+"status"+suffix, required("txid", made((*site).legacyWaiting)))
	}
}

// legacyWaiting is the txid of a login by the client of the probe.
func (s *site) legacyWaiting() string {
	var out duoapi.Auth
	s.must(s.call(s.legacyClient(), "POST", "/rest/v1/auth", params{"user": unique("nobody"), "factor": "auto", "auto": "1", "async": "1"}, &out))
	return out.TxID
}
