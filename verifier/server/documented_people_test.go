// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func init() {
	page := []parameter{optional("limit", number(10)), optional("offset", number(0))}
	wildcard("webauthnkey", func(s *site) string { return s.webauthn(s.user(unique("user"))) })
	wildcard("dakey", func(s *site) string { return s.desktopAuthenticator(s.user(unique("user"))) })
	wildcard("desktoptoken_id", (*site).newDesktopToken)
	wildcard("registration_id", always("no-such-token"))

	noMail := flag() // the sites have no mail
	noMail.good = always("0")
	document("POST /sallyport/v1/admin/enrollment_links",
		required("username", made(func(s *site) string {
			name := unique("user")
			s.user(name)
			return name
		})),
		optional("email", made(func(*site) string { return unique("user") + "@example.org" })),
		optional("valid_secs", number(3600)), optional("send", noMail), optional("create", flag()))
	document("DELETE /sallyport/v1/admin/users/{user_id}/enrollment_links")
	document("POST /admin/v1/users/bulk_create",
		required("users", made(func(*site) string { return fmt.Sprintf(`[{"username":%q}]`, unique("user")) })))
	document("POST /admin/v1/users/bulk_send_to_trash", required("user_id_list", made(func(s *site) string { return fmt.Sprintf("[%q]", s.user(unique("user"))) })))
	document("POST /admin/v1/users/bulk_restore", required("user_id_list", made((*site).trashed)))
	document("POST /admin/v1/bulk", required("operations",
		made(func(*site) string {
			return `[{"method":"POST","path":"/admin/v1/users","body":{"username":"` + unique("user") + `"}}]`
		})))
	document("POST /admin/v1/users/{user_id}/send_verification_push", required("phone_id", text("DPNONE").guess()))
	document("GET /admin/v1/users/{user_id}/verification_push_response", required("push_id", text("none").guess()))
	for _, what := range []string{"webauthncredentials/{webauthnkey}", "desktop_authenticators/{dakey}", "desktoptokens/{desktoptoken_id}"} {
		document("GET /admin/v1/" + what)
		document("DELETE /admin/v1/" + what)
	}
	for _, what := range []string{"webauthncredentials", "desktop_authenticators", "desktoptokens", "u2ftokens"} {
		document("GET /admin/v1/"+what, page...)
	}
	document("GET /admin/v1/u2ftokens/{registration_id}")
	document("DELETE /admin/v1/u2ftokens/{registration_id}")
	document("POST /admin/v1/desktoptokens", required("platform", text("linux")), optional("name", text("n")))
	document("POST /admin/v1/desktoptokens/{desktoptoken_id}", optional("platform", text("linux")), optional("name", text("n")))
	document("POST /admin/v1/desktoptokens/{desktoptoken_id}/activate", optional("valid_secs", number(3600)))
	texted := on("phone_id", (*site).newMobile)
	document("POST /admin/v1/phones/{phone_id}/send_sms_activation", texted, optional("valid_secs", number(3600)),
		optional("install", flag()), optional("installation_msg", text("<insturl>")), optional("activation_msg", text("<acturl>")))
	document("POST /admin/v1/phones/{phone_id}/send_sms_installation", texted, optional("installation_msg", text("<insturl>")))
	document("POST /admin/v1/phones/{phone_id}/send_sms_passcodes", texted)
}

// trashed is a list with a user who is in the trash.
func (s *site) trashed() string {
	id := s.user(unique("user"))
	_, err := s.dir.TrashUsers(s.t.Context(), directory.Actor{Name: "test"}, []string{id})
	s.must(err)
	return fmt.Sprintf("[%q]", id)
}

// webauthn is the key of a WebAuthn credential of a user.
func (s *site) webauthn(userID string) string {
	id := unique("WA")
	s.must(s.store.Update(s.t.Context(), func(w store.Writer) error {
		return w.AddWebAuthnCredential(store.WebAuthnCredential{
			ID: id, UserID: userID, CredentialID: []byte(id), PublicKey: []byte{1}, Name: "YubiKey 5", Label: "Security Key", Created: s.clock.Now(),
		})
	}))
	return id
}

// desktopAuthenticator is the key of a desktop authenticator of a user.
func (s *site) desktopAuthenticator(userID string) string {
	id := unique("DA")
	s.must(s.store.Update(s.t.Context(), func(w store.Writer) error {
		return w.AddDesktopAuthenticator(store.DesktopAuthenticator{
			ID: id, UserID: userID, PublicKey: id, Name: "pc", OSFamily: "Linux", Created: s.clock.Now(),
		})
	}))
	return id
}

// newDesktopToken is the id of a desktop token of somebody.
func (s *site) newDesktopToken() string {
	a := directory.Actor{Name: "test"}
	p, err := s.dir.CreateDesktopToken(s.t.Context(), a, directory.DesktopChange{Platform: ptr("linux")})
	s.must(err)
	s.must(s.dir.AttachPhone(s.t.Context(), a, s.user(unique("user")), p.ID))
	return p.ID
}

// newMobile is the id of somebody's phone that takes SMS, and a telephony provider takes them all.
func (s *site) newMobile() string {
	s.dir.Texts = texter{}
	p, err := s.dir.CreatePhone(s.t.Context(), directory.Actor{Name: "test"}, s.user(unique("user")), directory.PhoneChange{Number: ptr("+15551234567")})
	s.must(err)
	return p.ID
}

// texter is a telephony provider that takes every message, or answers all with err.
type texter struct{ err error }

func (x texter) SendText(context.Context, store.Phone, string, func(store.Writer) error) error {
	return x.err
}

func (x texter) SendPasscodes(context.Context, store.Phone, []store.User, func(store.Writer) error) error {
	return x.err
}
