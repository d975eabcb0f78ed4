// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/verification/verificationtest"
)

// agent is a client with the key of an authenticator.
func (s *site) agent(userID string) *agentapi.Client {
	s.t.Helper()
	key, phone := s.authenticator(userID)
	return &agentapi.Client{BaseURL: s.base, Key: key, KeyID: phone, HTTP: s.admin.HTTP, Now: s.clock.Now}
}

// agent is a client with the key of the push's authenticator.
func (p pending) agent(s *site) *agentapi.Client {
	return &agentapi.Client{BaseURL: s.base, Key: p.key, KeyID: p.phone, HTTP: s.admin.HTTP, Now: s.clock.Now}
}

// verifies registers user verification.
func (s *site) verifies(c *agentapi.Client) *verificationtest.Authenticator {
	s.t.Helper()
	device := verificationtest.New(s.t, s.base.Hostname(), s.base.String())
	begun, err := c.BeginVerification(s.t.Context())
	s.must(err)
	state, err := c.FinishVerification(s.t.Context(), agentapi.VerificationCredential{Credential: device.Register(begun.Options)})
	s.must(err)
	if !state.Registered || !state.Available {
		s.t.Fatalf("%+v", state)
	}
	return device
}

// assertion is one over a new challenge.
func (s *site) assertion(c *agentapi.Client, device *verificationtest.Authenticator) agentapi.Verification {
	s.t.Helper()
	made, err := c.VerificationChallenge(s.t.Context())
	s.must(err)
	return agentapi.Verification{Verification: device.Answer(made.Options)}
}

func TestAuthenticatorSelf(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	s.must(s.call(s.admin, "POST", "/admin/v1/settings", params{"helpdesk_message": "call 1234"}, nil))
	c := s.agent(alice)
	got, err := c.AuthenticatorSelf(t.Context())
	s.must(err)
	want := []string{agentapi.CapabilityDigits, agentapi.CapabilityStream, agentapi.CapabilityDevices, agentapi.CapabilityUserVerification}
	if got.AuthenticatorID != c.KeyID || got.UserID != alice || got.Username != "alice" || got.URL != s.base.String() ||
		!slices.Equal(got.Capabilities, want) || got.WebPushKey != "" || got.PushSeconds != 60 || got.HelpdeskMessage != "call 1234" ||
		got.ServerVersion == "" || got.Activated == 0 || got.UserVerification != (agentapi.VerificationState{Available: true}) {
		t.Errorf("%+v", got)
	}
	got, err = c.Announce(t.Context(), agentapi.Announcement{Capabilities: []string{"digits", "from the future"}, Program: "test/1", Platform: "Plan 9"})
	s.must(err)
	if got.Platform != "Plan 9" {
		t.Errorf("platform %q", got.Platform)
	}
	s.must(s.store.View(t.Context(), func(r store.Reader) error {
		a, err := r.Announcement(c.KeyID)
		if a.Program != "test/1" || !slices.Equal(a.Capabilities, []string{"digits", "from the future"}) {
			t.Errorf("announced %+v", a)
		}
		return err
	}))
	for _, wrong := range []agentapi.Announcement{
		{Capabilities: slices.Repeat([]string{"x"}, agentapi.MaxCapabilities+1)},
		{Capabilities: []string{strings.Repeat("x", agentapi.MaxCapabilityBytes+1)}},
		{Program: "two\nlines"}, {Platform: strings.Repeat("x", 65)},
	} {
		if _, err := c.Announce(t.Context(), wrong); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%.40v: %v", wrong, err)
		}
	}
}

func TestDevices(t *testing.T) {
	s := newSite(t)
	alice, mallory := s.user("alice"), s.user("mallory")
	laptop, phone, other := s.agent(alice), s.agent(alice), s.agent(mallory)
	if _, err := laptop.RenameDevice(t.Context(), phone.KeyID, "  my phone "); err != nil {
		t.Fatal(err)
	}
	s.verifies(phone)
	list, err := laptop.Devices(t.Context())
	s.must(err)
	if len(list) != 2 || list[0].AuthenticatorID != laptop.KeyID || !list[0].This || list[0].UserVerification ||
		list[1].Name != "my phone" || list[1].This || !list[1].UserVerification || list[1].LastSeen == 0 {
		t.Errorf("%+v", list)
	}
	for _, id := range []string{other.KeyID, "DPNOSUCHPHONE", "", s.newMobile()} {
		if _, err := laptop.RenameDevice(t.Context(), id, "mine"); code(err) == 0 {
			t.Errorf("renamed %q", id)
		}
		if _, err := laptop.RemoveDevice(t.Context(), id, agentapi.Verification{}); code(err) == 0 {
			t.Errorf("removed %q", id)
		}
	}
	for _, name := range []string{"", "  ", "a\x1bb", strings.Repeat("x", 65)} {
		if _, err := laptop.RenameDevice(t.Context(), phone.KeyID, name); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%q: %v", name, err)
		}
	}
	// The laptop has no user verification, and the phone's is not asked for.
	if _, err := laptop.RemoveDevice(t.Context(), phone.KeyID, agentapi.Verification{}); err != nil {
		t.Fatal(err)
	}
	if _, err := phone.AuthenticatorSelf(t.Context()); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("the removed one: %v", err)
	}
	if _, err := laptop.RemoveDevice(t.Context(), laptop.KeyID, agentapi.Verification{}); err != nil {
		t.Fatal(err)
	}
	if _, err := laptop.Devices(t.Context()); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("the one that removed itself: %v", err)
	}
	s.wantActions("phone_update", "authenticator_remove", "user_verification_add")
}

// TestSharedDevice: who shares a phone with somebody does not manage the phones of both.
func TestSharedDevice(t *testing.T) {
	s := newSite(t)
	alice, bob := s.user("alice"), s.user("bob")
	mine, shared := s.agent(alice), s.agent(alice)
	s.must(s.dir.AttachPhone(t.Context(), directory.Actor{Name: "test"}, bob, shared.KeyID))
	if _, err := mine.RemoveDevice(t.Context(), shared.KeyID, agentapi.Verification{}); code(err) != duoapi.CodeDeviceUnknown {
		t.Errorf("alice alone removes what bob has too: %v", err)
	}
	list, err := mine.Devices(t.Context())
	s.must(err)
	if len(list) != 1 {
		t.Errorf("%+v", list)
	}
	if _, err := shared.RemoveDevice(t.Context(), mine.KeyID, agentapi.Verification{}); err != nil {
		t.Errorf("who answers for both: %v", err)
	}
}

func TestMove(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	old := s.agent(alice)
	moved, err := old.Move(t.Context(), agentapi.Verification{})
	s.must(err)
	if base, token, err := invite.ParseLink(moved.Link); err != nil || base.Host != s.base.Host || token.String() != moved.Code {
		t.Errorf("link %s, code %s: %v", moved.Link, moved.Code, err)
	}
	if left := time.Unix(moved.Expires, 0).Sub(s.clock.Now()); left > directory.MoveFor || left < directory.MoveFor-time.Minute {
		t.Errorf("good for %s", left)
	}
	if len(moved.QR) < 21 {
		t.Errorf("%d rows", len(moved.QR))
	}
	for _, row := range moved.QR {
		if len(row) != len(moved.QR) || strings.Trim(row, "01") != "" {
			t.Errorf("row %q", row)
		}
	}
	if _, err := old.AuthenticatorSelf(t.Context()); err != nil {
		t.Errorf("before the move: %v", err)
	}
	key := s.newKey()
	var got agentapi.Activated
	s.must(s.activate(key, moved.Code, &got))
	if got.AuthenticatorID != old.KeyID {
		t.Errorf("moved to %s", got.AuthenticatorID)
	}
	if _, err := old.AuthenticatorSelf(t.Context()); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("the old key: %v", err)
	}
	late := &agentapi.Client{BaseURL: s.base, Key: key, KeyID: got.AuthenticatorID, HTTP: s.admin.HTTP, Now: s.clock.Now}
	moved, err = late.Move(t.Context(), agentapi.Verification{})
	s.must(err)
	s.clock.Add(directory.MoveFor)
	if err := s.activate(s.newKey(), moved.Code, nil); code(err) != duoapi.CodeActivateExpired {
		t.Errorf("a late move: %v", err)
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice, params{"status": "disabled"}, nil))
	if _, err := late.Move(t.Context(), agentapi.Verification{}); code(err) != duoapi.CodeForbidden {
		t.Errorf("a disabled user: %v", err)
	}
}

// TestLockedOutChangesNothing: whoever holds another authenticator of a person who
// is locked out drives out none, hands none on, and activates none, also not by a
// link from before, nor after the unlock.
func TestLockedOutChangesNothing(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	thief, owner := s.agent(alice), s.agent(alice)
	moved, err := thief.Move(t.Context(), agentapi.Verification{})
	s.must(err)
	s.must(s.store.Update(t.Context(), func(w store.Writer) error {
		_, err := w.LockUser(alice, store.LockoutFraud, s.clock.Now())
		return err
	}))
	refused := func(what string, want int, err error) {
		t.Helper()
		if code(err) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = thief.RemoveDevice(t.Context(), owner.KeyID, agentapi.Verification{})
	refused("remove the other", duoapi.CodeForbidden, err)
	_, err = thief.RenameDevice(t.Context(), owner.KeyID, "x")
	refused("rename the other", duoapi.CodeForbidden, err)
	_, err = thief.Move(t.Context(), agentapi.Verification{})
	refused("move", duoapi.CodeForbidden, err)
	refused("the link from before", duoapi.CodeActivateExpired, s.activate(s.newKey(), moved.Code, nil))
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice, params{"status": "active"}, nil))
	refused("the link from before, after the unlock", duoapi.CodeActivateExpired, s.activate(s.newKey(), moved.Code, nil))
	_, err = thief.RemoveDevice(t.Context(), thief.KeyID, agentapi.Verification{})
	s.must(err)
}

// TestVerifiedOperations: once registered, what takes rights away or hands them on
// needs the person, once for each.
func TestVerifiedOperations(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	c, other := s.agent(alice), s.agent(alice)
	device := s.verifies(c)
	operations := map[string]func(agentapi.Verification) error{
		"move": func(v agentapi.Verification) error { _, err := c.Move(t.Context(), v); return err },
		"remove another": func(v agentapi.Verification) error {
			_, err := c.RemoveDevice(t.Context(), other.KeyID, v)
			return err
		},
		"remove verification": func(v agentapi.Verification) error { _, err := c.RemoveVerification(t.Context(), v); return err },
	}
	used := s.assertion(c, device)
	s.must(operations["move"](used))
	for name, do := range operations {
		if err := do(agentapi.Verification{}); code(err) != duoapi.CodeVerificationNone {
			t.Errorf("%s, without: %v", name, err)
		}
		if err := do(used); code(err) != duoapi.CodeVerificationWrong {
			t.Errorf("%s, with a used one: %v", name, err)
		}
		if err := do(agentapi.Verification{Verification: device.Assert([]byte("a challenge of one's own"))}); code(err) != duoapi.CodeVerificationWrong {
			t.Errorf("%s, over no challenge: %v", name, err)
		}
		late := s.assertion(c, device)
		s.clock.Add(5 * time.Minute)
		if err := do(late); code(err) != duoapi.CodeVerificationWrong {
			t.Errorf("%s, late: %v", name, err)
		}
		spoilt := s.assertion(c, device)
		spoilt.Verification = json.RawMessage(`{"id":1}`)
		if err := do(spoilt); code(err) != duoapi.CodeVerificationWrong {
			t.Errorf("%s, malformed: %v", name, err)
		}
	}
	if _, err := c.BeginVerification(t.Context()); code(err) != duoapi.CodeVerificationOff {
		t.Errorf("a second registration: %v", err)
	}
	s.must(operations["remove another"](s.assertion(c, device)))
	s.must(operations["remove verification"](s.assertion(c, device)))
	s.must(operations["move"](agentapi.Verification{}))
	if _, err := c.VerificationChallenge(t.Context()); code(err) != duoapi.CodeVerificationOff {
		t.Errorf("a challenge without a credential: %v", err)
	}
	s.wantActions("user_verification_remove")
}

// TestVerifiedAnswers: once registered, nothing but the person at the device
// approves, and every approval needs them anew.
func TestVerifiedAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*site, *verificationtest.Authenticator)
		over  func(answer string) []byte // nil: as it should be
		code  int
	}{
		"right":                 {code: 0},
		"another answer":        {over: func(string) []byte { return agentapi.AnswerChallenge("x") }, code: duoapi.CodeVerificationWrong},
		"person not verified":   {spoil: func(_ *site, d *verificationtest.Authenticator) { d.Flags = verificationtest.Present }, code: duoapi.CodeVerificationWrong},
		"person not there":      {spoil: func(_ *site, d *verificationtest.Authenticator) { d.Flags = verificationtest.Verified }, code: duoapi.CodeVerificationWrong},
		"another origin":        {spoil: func(_ *site, d *verificationtest.Authenticator) { d.Origin = "https://verifier.example" }, code: duoapi.CodeVerificationWrong},
		"another relying party": {spoil: func(_ *site, d *verificationtest.Authenticator) { d.RPID = "example" }, code: duoapi.CodeVerificationWrong},
		"in a frame":            {spoil: func(_ *site, d *verificationtest.Authenticator) { d.Cross = true }, code: duoapi.CodeVerificationWrong},
		"a copy":                {spoil: func(_ *site, d *verificationtest.Authenticator) { d.Count = 0 }, code: duoapi.CodeVerificationWrong},
		"another credential": {spoil: func(s *site, d *verificationtest.Authenticator) {
			d.ID = []byte("another")
		}, code: duoapi.CodeVerificationWrong},
		"another key": {spoil: func(s *site, d *verificationtest.Authenticator) { d.Key = s.newKey() }, code: duoapi.CodeVerificationWrong},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.push()
			agent := p.agent(s)
			device := s.verifies(agent)
			if c.spoil != nil {
				c.spoil(s, device)
			}
			tx := agentapi.Transaction{TxID: p.txID, Context: p.context}
			signed, err := agent.SignAnswer(tx, agentapi.Approve, p.code)
			s.must(err)
			challenge := agentapi.AnswerChallenge(signed)
			if c.over != nil {
				challenge = c.over(signed)
			}
			_, err = agent.SendAnswer(t.Context(), p.txID, agentapi.SignedAnswer{Answer: signed, Verification: device.Assert(challenge)})
			if code(err) != c.code {
				t.Fatalf("%v, want %d", err, c.code)
			}
			if c.code == 0 {
				return
			}
			s.wantRefusal(p.txID, "verification_wrong")
			// To say no, nobody has to prove who they are.
			if _, err := agent.Answer(t.Context(), tx, agentapi.Deny, ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// refusedAnswers are the refused answers in the administrator log, newest first.
func (s *site) refusedAnswers() (list []struct{ TxID, Phone, Reason, Object string }) {
	s.t.Helper()
	var log []struct{ Action, Description, Object string }
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", nil, &log))
	for _, e := range log {
		if e.Action != "answer_refused" {
			continue
		}
		var d struct {
			TxID   string `json:"txid"`
			Phone  string `json:"phone_id"`
			Reason string `json:"reason"`
		}
		s.must(json.Unmarshal([]byte(e.Description), &d))
		list = append(list, struct{ TxID, Phone, Reason, Object string }{d.TxID, d.Phone, d.Reason, e.Object})
	}
	return list
}

func (s *site) wantRefusal(txID, reason string) {
	s.t.Helper()
	list := s.refusedAnswers()
	for _, e := range list {
		if e.TxID == txID && e.Reason == reason && e.Object == "alice" {
			return
		}
	}
	s.t.Errorf("no %s of %s in %+v", reason, txID, list)
}

// TestRefusedAnswers: each way in which an answer does not fit has its own code,
// and its own reason in the administrator log.
func TestRefusedAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		spoil    func(s *site, p *pending)
		decision string
		code     int
		reason   string
	}{
		"changed digits": {func(_ *site, p *pending) { p.code = "00000x" }, login.Approve, duoapi.CodeTxDigits, "wrong_digits"},
		"no digits":      {func(_ *site, p *pending) { p.code = "" }, login.Approve, duoapi.CodeTxDigitsMissing, "digits_missing"},
		"changed context": {func(_ *site, p *pending) { p.context = strings.Replace(p.context, "alice", "admin", 1) },
			login.Approve, duoapi.CodeAnswerContext, "other_context"},
		"changed key": {func(s *site, p *pending) { p.signer = s.newKey() }, login.Approve, duoapi.CodeAnswerSignature, "bad_signature"},
		"changed transaction": {func(s *site, p *pending) { p.signedTx = "another" },
			login.Approve, duoapi.CodeAnswerTransaction, "other_transaction"},
		"changed audience":    {func(_ *site, p *pending) { p.audience = "https://other.example" }, login.Approve, duoapi.CodeAnswerAudience, "other_audience"},
		"signed long ago":     {func(_ *site, p *pending) { p.age = 6 * time.Minute }, login.Approve, duoapi.CodeAnswerTime, "wrong_time"},
		"an unknown decision": {func(*site, *pending) {}, "allow", duoapi.CodeTxAnswer, "does_not_fit"},
		"replayed":            {func(s *site, p *pending) { s.must(p.answer(s, login.Deny, "")) }, login.Deny, duoapi.CodeTxAnswered, "answered"},
		"late":                {func(s *site, _ *pending) { s.clock.Add(time.Minute) }, login.Approve, duoapi.CodeTxExpired, "late"},
		"called off": {func(s *site, p *pending) {
			s.must(s.call(s.auth, "POST", "/sallyport/v1/transactions/"+p.txID+"/cancel", nil, nil))
		}, login.Approve, duoapi.CodeTxCanceled, "cancelled"},
		"from another account": {func(s *site, p *pending) { p.key, p.phone = s.authenticator(s.user("mallory")) },
			login.Approve, duoapi.CodeTxUnknown, "other_account"},
		"without verification": {func(s *site, p *pending) { s.verifies(p.agent(s)) }, login.Approve, duoapi.CodeVerificationNone, "verification_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			p := s.push()
			c.spoil(s, &p)
			if err := p.answer(s, c.decision, p.code); code(err) != c.code {
				t.Fatalf("%v, want %d", err, c.code)
			}
			s.wantRefusal(p.txID, c.reason)
			if list := s.refusedAnswers(); len(list) != 1 || list[0].Phone != p.phone {
				t.Errorf("%+v", list)
			}
		})
	}
}

// TestRemovedDeviceAnswers: a removed authenticator proves nothing, so nothing is kept.
func TestRemovedDeviceAnswers(t *testing.T) {
	s := newSite(t)
	p := s.push()
	_, err := p.agent(s).RemoveDevice(t.Context(), p.phone, agentapi.Verification{})
	s.must(err)
	if err := p.answer(s, login.Approve, p.code); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("%v", err)
	}
	if list := s.refusedAnswers(); len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestRefusalsAreBounded: an authenticator does not fill the log.
func TestRefusalsAreBounded(t *testing.T) {
	s := newSite(t)
	p := s.push()
	p.context += " "
	for range 25 {
		if err := p.answer(s, login.Approve, p.code); code(err) != duoapi.CodeAnswerContext {
			t.Fatal(err)
		}
	}
	if n := len(s.refusedAnswers()); n != 20 {
		t.Errorf("%d entries", n)
	}
}

// TestPacedAuthenticator: one that changes too much waits; to answer it never has to.
func TestPacedAuthenticator(t *testing.T) {
	s := newSite(t)
	p := s.push()
	agent := p.agent(s)
	var err error
	for n := 0; err == nil && n < 200; n++ {
		_, err = agent.Announce(t.Context(), agentapi.Announcement{})
	}
	var refused *duoapi.Error
	if !errors.As(err, &refused) || refused.Code != duoapi.CodeTooManyRequests || refused.RetryAfter != 1 {
		t.Fatal(err)
	}
	s.must(p.answer(s, login.Approve, p.code))
}

// TestAuditedChangesArePaced: what the administrator log keeps is changed at a rate
// that it bears, and another platform is such a change; the same one is not.
func TestAuditedChangesArePaced(t *testing.T) {
	s := newSite(t)
	p := s.push()
	agent := p.agent(s)
	refused := func(what string, err error) {
		t.Helper()
		var e *duoapi.Error
		if !errors.As(err, &e) || e.Code != duoapi.CodeTooManyRequests || e.RetryAfter != 120 {
			t.Errorf("%s: %v", what, err)
		}
	}
	announce := func(platform string) error {
		s.clock.Add(time.Second) // not too fast
		_, err := agent.Announce(t.Context(), agentapi.Announcement{Platform: platform})
		return err
	}
	rename := func(name string) error {
		s.clock.Add(time.Second)
		_, err := agent.RenameDevice(t.Context(), p.phone, name)
		return err
	}
	for i := range 15 {
		s.must(announce("platform " + strconv.Itoa(i)))
		s.must(rename("name " + strconv.Itoa(i)))
	}
	refused("another platform", announce("other"))
	refused("another name", rename("other"))
	_, err := agent.Move(t.Context(), agentapi.Verification{})
	refused("a move", err)
	for range 15 {
		s.must(announce("platform 14"))
	}
	s.clock.Add(3 * time.Minute)
	s.must(announce("other"))
	refused("another name", rename("other"))
}

// TestOldAuthenticator speaks only the messages that there were before capabilities
// were announced, written out, and gets the answers of then.
func TestOldAuthenticator(t *testing.T) {
	s := newSite(t)
	p := s.push() // activates, and lists the login requests
	var list map[string]any
	s.must(s.proved(p.key, p.phone, "GET", "/sallyport/v1/authenticator/transactions?wait=25", "", &list, nil))
	transactions, ok := list["transactions"].([]any)
	if !ok || len(list) != 1 || len(transactions) != 1 {
		t.Fatalf("%v", list)
	}
	tx, ok := transactions[0].(map[string]any)
	if !ok || len(tx) != 5 || tx["txid"] != p.txID || tx["context"] != p.context || tx["verified"] != true {
		t.Errorf("%v", tx)
	}
	for _, member := range []string{"created", "expires"} {
		if _, number := tx[member].(float64); !number {
			t.Errorf("%s: %v", member, tx[member])
		}
	}
	wrong := p.answer(s, login.Approve, "12345x")
	var refused *duoapi.Error
	if !errors.As(wrong, &refused) || refused.Code != 40334 || refused.Detail != "2 tries left" {
		t.Errorf("wrong digits: %v", wrong)
	}
	var answered map[string]any
	s.must(p.answerInto(s, login.Approve, p.code, &answered))
	if len(answered) != 2 || answered["txid"] != p.txID || answered["decision"] != "approve" {
		t.Errorf("%v", answered)
	}
	var hosts map[string]any
	s.must(s.proved(p.key, p.phone, "GET", "/sallyport/v1/authenticator/hosts", "", &hosts, nil))
	if _, there := hosts["hosts"]; !there || len(hosts) != 1 {
		t.Errorf("%v", hosts)
	}
	s.must(s.store.View(t.Context(), func(r store.Reader) error {
		if _, err := r.Announcement(p.phone); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("announced: %v", err)
		}
		return nil
	}))
}

// TestOtherKeys: a host's key, however it calls itself, is nobody's authenticator,
// and an authenticator's is no host.
func TestOtherKeys(t *testing.T) {
	s := newSite(t)
	p := s.push()
	host := s.joinedHost("db1")
	each := func([]agentapi.Transaction) error { return errors.New("heard something") }
	for _, kid := range []string{host.id, p.phone} {
		c := &agentapi.Client{BaseURL: s.base, Key: host.key, KeyID: kid, HTTP: s.admin.HTTP, Now: s.clock.Now}
		calls := map[string]error{}
		_, calls["self"] = c.AuthenticatorSelf(t.Context())
		_, calls["devices"] = c.Devices(t.Context())
		_, calls["move"] = c.Move(t.Context(), agentapi.Verification{})
		_, calls["remove"] = c.RemoveDevice(t.Context(), p.phone, agentapi.Verification{})
		_, calls["begin"] = c.BeginVerification(t.Context())
		_, calls["stream"] = c.Stream(t.Context(), each)
		_, calls["answer"] = c.Answer(t.Context(), agentapi.Transaction{TxID: p.txID, Context: p.context}, agentapi.Approve, p.code)
		for name, err := range calls {
			if code(err) != duoapi.CodeInvalidProof {
				t.Errorf("%s as %s: %v", name, kid, err)
			}
		}
	}
	if _, err := p.agent(s).Self(t.Context()); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("an authenticator as a host: %v", err)
	}
	s.must(p.answer(s, login.Approve, p.code))
}

// TestPollEnds: a poll that was open when the key changed hears of nothing more.
func TestPollEnds(t *testing.T) {
	s := newSite(t)
	agent := s.agent(s.user("alice"))
	done := make(chan error, 1)
	go func() {
		list, err := agent.Transactions(t.Context(), agentapi.MaxWait, nil)
		if err == nil && len(list) != 0 {
			err = fmt.Errorf("heard of %+v", list)
		}
		done <- err
	}()
	for deadline := time.Now().Add(patience); s.hub.Waiters(push.Phone(agent.KeyID)) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nobody waits")
		}
	}
	p := pending{phone: agent.KeyID}
	p.key, _ = s.activateAgain(agent.KeyID)
	var pre duoapi.Preauth
	s.must(s.call(s.auth, "POST", "/auth/v2/preauth", params{"username": "alice", "client_supports_verified_push": "1"}, &pre))
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{
		"username": "alice", "factor": "push", "device": p.phone, "txid": pre.TxID, "async": "1",
	}, nil))
	select {
	case err := <-done:
		s.must(err)
	case <-time.After(patience):
		t.Fatal("the poll goes on")
	}
	if list, err := p.agent(s).Transactions(t.Context(), 0, nil); err != nil || len(list) != 1 {
		t.Errorf("the new key: %+v, %v", list, err)
	}
}

// TestRegistration: only the person at a page of the verifier registers, by the
// challenge that was made for it, once.
func TestRegistration(t *testing.T) {
	s := newSite(t)
	c, other := s.agent(s.user("alice")), s.agent(s.user("bob"))
	for name, spoil := range map[string]func(*verificationtest.Authenticator){
		"person not verified":   func(d *verificationtest.Authenticator) { d.Flags = verificationtest.Present },
		"another origin":        func(d *verificationtest.Authenticator) { d.Origin = "https://verifier.example:8444" },
		"another relying party": func(d *verificationtest.Authenticator) { d.RPID = "other.example" },
		"in a frame":            func(d *verificationtest.Authenticator) { d.Cross = true },
		"no id":                 func(d *verificationtest.Authenticator) { d.ID = nil },
	} {
		device := verificationtest.New(t, s.base.Hostname(), s.base.String())
		spoil(device)
		begun, err := c.BeginVerification(t.Context())
		s.must(err)
		_, err = c.FinishVerification(t.Context(), agentapi.VerificationCredential{Credential: device.Register(begun.Options)})
		if code(err) != duoapi.CodeVerificationWrong {
			t.Errorf("%s: %v", name, err)
		}
	}
	device := verificationtest.New(t, s.base.Hostname(), s.base.String())
	foreign, err := other.BeginVerification(t.Context())
	s.must(err)
	_, err = c.FinishVerification(t.Context(), agentapi.VerificationCredential{Credential: device.Register(foreign.Options)})
	if code(err) != duoapi.CodeVerificationWrong {
		t.Errorf("another's challenge: %v", err)
	}
	_, err = c.FinishVerification(t.Context(), agentapi.VerificationCredential{Credential: device.Register(json.RawMessage(`{"challenge":"AAAA"}`))})
	if code(err) != duoapi.CodeVerificationWrong {
		t.Errorf("a challenge of one's own: %v", err)
	}
	if _, err := c.FinishVerification(t.Context(), agentapi.VerificationCredential{}); code(err) != duoapi.CodeMissingParameter {
		t.Errorf("nothing: %v", err)
	}
	begun, err := c.BeginVerification(t.Context())
	s.must(err)
	credential := agentapi.VerificationCredential{Credential: device.Register(begun.Options)}
	_, err = c.FinishVerification(t.Context(), credential)
	s.must(err)
	if _, err = c.FinishVerification(t.Context(), credential); code(err) != duoapi.CodeVerificationOff {
		t.Errorf("twice: %v", err)
	}
}

// told notes notices.
type told struct {
	mu    sync.Mutex
	kinds []string
}

func (n *told) Notify(_ store.Writer, _, kind string, _ map[string]string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kinds = append(n.kinds, kind)
	return nil
}

// TestPeopleAreTold: what somebody else might have done to an account does not stay unnoticed.
func TestPeopleAreTold(t *testing.T) {
	var notices told
	s := newSiteWith(t, func(c *server.Config, _ *login.Config) { c.Directory.Notices = &notices })
	c := s.agent(s.user("alice"))
	device := s.verifies(c)
	_, err := c.RemoveVerification(t.Context(), s.assertion(c, device))
	s.must(err)
	moved, err := c.Move(t.Context(), agentapi.Verification{})
	s.must(err)
	c.Key = s.newKey()
	s.must(s.activate(c.Key, moved.Code, nil))
	_, err = c.RemoveDevice(t.Context(), c.KeyID, agentapi.Verification{})
	s.must(err)
	want := []string{notice.AuthenticatorAdded, notice.UserVerificationRemoved, notice.AuthenticatorMoved, notice.AuthenticatorRemoved}
	if !slices.Equal(notices.kinds, want) {
		t.Errorf("told %v, want %v", notices.kinds, want)
	}
}

// TestKeyGone: who waits for an authenticator hears at once that nobody can answer
// any more, whoever saw to that.
func TestKeyGone(t *testing.T) {
	admin := directory.Actor{Name: "test"}
	owner := func(s *site, p pending) (id string) {
		s.must(s.store.View(t.Context(), func(r store.Reader) error {
			users, err := r.PhoneUsers(p.phone)
			if err == nil && len(users) == 1 {
				id = users[0].ID
			}
			return err
		}))
		return id
	}
	for name, change := range map[string]func(*site, pending){
		"removed": func(s *site, p pending) {
			_, err := p.agent(s).RemoveDevice(t.Context(), p.phone, agentapi.Verification{})
			s.must(err)
		},
		"moved":               func(s *site, p pending) { s.activateAgain(p.phone) },
		"phone deleted":       func(s *site, p pending) { s.must(s.dir.DeletePhone(t.Context(), admin, p.phone)) },
		"taken from its user": func(s *site, p pending) { s.must(s.dir.DetachPhone(t.Context(), admin, owner(s, p), p.phone)) },
		"user deleted":        func(s *site, p pending) { s.must(s.dir.DeleteUser(t.Context(), admin, owner(s, p))) },
		"user put into the trash": func(s *site, p pending) {
			_, err := s.dir.TrashUsers(t.Context(), admin, []string{owner(s, p)})
			s.must(err)
		},
		"user disabled": func(s *site, p pending) {
			_, err := s.dir.UpdateUser(t.Context(), admin, owner(s, p), directory.UserChange{Status: ptr(store.Disabled)})
			s.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			p := s.push()
			change(s, p)
			var got duoapi.Auth
			s.must(s.call(s.auth, "GET", "/auth/v2/auth_status", params{"txid": p.txID}, &got))
			if got.Result != duoapi.ResultDeny || got.Status != "push_failed" {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestServeEndsStreams: a server that stops does not wait for those who listen.
func TestServeEndsStreams(t *testing.T) {
	s := newSite(t)
	l, _ := s.listens(s.agent(s.user("alice")))
	network, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.srv.Serve(ctx, network) }()
	cancel()
	l.wantEnd(agentapi.EndStopping)
	s.must(<-served)
}
