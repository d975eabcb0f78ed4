// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func init() {
	wildcard("bypass_code_id", (*site).newBypassCode)
	document("GET /admin/v1/bypass_codes", optional("limit", number(10)), optional("offset", number(0)))
	document("GET /admin/v1/bypass_codes/{bypass_code_id}")
	document("DELETE /admin/v1/bypass_codes/{bypass_code_id}")
	document("POST /admin/v1/users/{user_id}/bypass_codes", optional("codes", list("123456789")), optional("count", number(1)),
		optional("reuse_count", number(1)), optional("preserve_existing", flag()), optional("endpoint_verification", text("0")),
		optional("valid_secs", number(3600)))
}

// newBypassCode is the id of a code of somebody.
func (s *site) newBypassCode() (id string) {
	user := s.user(unique("user"))
	_, err := s.dir.AddBypassCodes(s.t.Context(), directory.Actor{Name: "test"}, user, directory.BypassRequest{Count: 1, Uses: 1})
	s.must(err)
	s.must(s.store.View(s.t.Context(), func(r store.Reader) error {
		codes, _, err := r.BypassCodes(user, store.Page{Limit: 1})
		id = codes[0].ID
		return err
	}))
	return id
}
