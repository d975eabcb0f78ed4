// SPDX-License-Identifier: Apache-2.0

package server_test

func init() {
	document("GET /admin/v1/info/summary")
	for _, name := range []string{"authentication_attempts", "user_authentication_attempts"} {
		document("GET /admin/v1/info/"+name, optional("mintime", number(0)), optional("maxtime", number(1)))
	}
}
