// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func init() {
	wildcard("token_id", (*site).newToken)
	document("GET /admin/v1/tokens", optional("limit", number(10)), optional("offset", number(0)),
		optional("type", text("t6")), optional("serial", text("1")))
	document("POST /admin/v1/tokens", required("type", oneOf("t6", "t8", "h6", "h8")), optional("serial", fresh("serial")),
		optional("secret", text("3132333435363738393031323334353637383930")), optional("secret_base32", text("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")),
		optional("counter", number(0)), optional("totp_step", number(30)),
		optional("private_id", text("010203040506").guess().alsoCalled("aes_key")), optional("aes_key", text("000102030405060708090a0b0c0d0e0f").guess().alsoCalled("private_id")),
		optional("user_id", made(func(s *site) string { return s.user(unique("user")) })))
	document("GET /admin/v1/tokens/{token_id}")
	document("POST /admin/v1/tokens/{token_id}", required("totp_step", number(30).orBlank()))
	document("DELETE /admin/v1/tokens/{token_id}")
	document("POST /admin/v1/tokens/{token_id}/resync", on("token_id", func(s *site) string { return s.tokenOf(store.HOTP6) }),
		required("code1", text("123456").guess()), required("code2", text("123457").guess()), required("code3", text("123458").guess()))
}

// newToken is the id of a token that nobody has.
func (s *site) newToken() string { return s.tokenOf(store.TOTP6) }

func (s *site) tokenOf(kind store.TokenType) string {
	m, err := s.dir.CreateToken(s.t.Context(), directory.Actor{Name: "test"}, directory.NewToken{Type: kind})
	s.must(err)
	return m.Token.ID
}
