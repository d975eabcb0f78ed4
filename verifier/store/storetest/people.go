// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// A YubiKey is kept like any token, and no rule for another type moves its counter.
func testYubiKeys(t *testing.T, s store.Store) {
	person(t, s)
	y := Token("DHyk", store.YubiKey)
	y.Step, y.Counter, y.Serial = 0, 5<<8|1, "DHh" // the serial of a token of another type
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddToken(y), w.AttachToken("DU1", "DHyk")) })
	for what, f := range map[string]func(w store.Writer) (bool, error){
		"resync":  func(w store.Writer) (bool, error) { return w.ResyncHOTP("DHyk", 9999) },
		"counter": func(w store.Writer) (bool, error) { return w.UseHOTPCounter("DU1", "DHyk", 9999) },
		"step":    func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHyk", 9999) },
	} {
		if decide(t, s, f) {
			t.Fatalf("%s moved a YubiKey's counter", what)
		}
	}
	view(t, s, func(r store.Reader) error {
		found, n, err := r.Tokens(store.TokenFilter{Type: store.YubiKey}, store.Page{})
		equal(t, "YubiKeys", found, []store.Token{y})
		equal(t, "count", n, 1)
		return err
	})
}

// A user in the trash passes nothing that a status could let pass, whatever
// anyone sets, and comes back as before, or locked.
func testTrash(t *testing.T, s store.Store) {
	person(t, s)
	policy := store.AttemptPolicy{Limit: 10}
	trash := func(at time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.TrashUser("DU1", at) })
	}
	restore := func() bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.RestoreUser("DU1") })
	}
	status := func(want store.UserStatus, trashed time.Time) {
		t.Helper()
		view(t, s, func(r store.Reader) error {
			u, err := r.User("DU1")
			equal(t, "status", []any{u.Status, u.TrashedAt}, []any{want, trashed})
			return err
		})
	}
	for _, before := range []store.UserStatus{store.Active, store.Bypass, store.Disabled, store.LockedOut} {
		update(t, s, func(w store.Writer) error { return w.SetUserStatus("DU1", before, store.LockoutAdmin, now) })
		equal(t, "restore who is not in the trash", restore(), false)
		equal(t, "trash", trash(now), true)
		equal(t, "trash again", trash(now.Add(time.Hour)), false)
		status(store.PendingDeletion, now)
		for what, f := range map[string]func(w store.Writer) (bool, error){
			"attempt": func(w store.Writer) (bool, error) { return w.BeginAttempt("DU1", policy, now) },
			"success": func(w store.Writer) (bool, error) { return w.ForgiveAttempts("DU1", now) },
			"bypass":  func(w store.Writer) (bool, error) { return w.NoteBypass("DU1", now) },
			"push": func(w store.Writer) (bool, error) {
				return w.SpendPush("DU1", store.PushPolicy{Limit: 10, Window: time.Hour}, now)
			},
			"step":   func(w store.Writer) (bool, error) { return w.UseTOTPStep("DU1", "DHt", 500) },
			"unlock": func(w store.Writer) (bool, error) { return w.UnlockExpired("DU1", time.Second, now.Add(time.Hour)) },
		} {
			if decide(t, s, f) {
				t.Fatalf("%s of a user in the trash", what)
			}
		}
		for _, set := range []store.UserStatus{store.Active, store.Bypass, store.Disabled, store.LockedOut} {
			wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.SetUserStatus("DU1", set, "", now) })
		}
		wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddUser(User("DUn", "alice")) })
		// A report of fraud is not lost: the lock is there when the user comes back.
		locked := decide(t, s, func(w store.Writer) (bool, error) { return w.LockUser("DU1", store.LockoutFraud, now) })
		equal(t, "lock in the trash", locked, before == store.Active)
		status(store.PendingDeletion, now)
		equal(t, "restore", restore(), true)
		if locked {
			before = store.LockedOut
		}
		status(before, time.Time{})
	}
	trash(now)
	del := func(until time.Time) bool {
		return decide(t, s, func(w store.Writer) (bool, error) { return w.DeleteTrashed("DU1", until) })
	}
	view(t, s, func(r store.Reader) error {
		early, err := r.TrashedUsers(now.Add(-time.Second), 10)
		equal(t, "due early", len(early), 0)
		due, err2 := r.TrashedUsers(now, 10)
		equal(t, "due", len(due) == 1 && due[0].ID == "DU1", true)
		return errors.Join(err, err2)
	})
	equal(t, "delete before its time", del(now.Add(-time.Second)), false)
	restore()
	equal(t, "delete who was restored", del(now), false)
	trash(now)
	equal(t, "delete", del(now), true)
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { _, err := w.User("DU1"); return err })
}

func testAttributes(t *testing.T, s store.Store) {
	u := User("DU1", "alice")
	u.Attributes = map[string]string{"cost centre": "42"}
	update(t, s, func(w store.Writer) error { return w.AddUser(u) })
	for _, want := range []map[string]string{u.Attributes, {"a": "1", "b": "\"2\""}, nil} {
		u.Attributes = want
		update(t, s, func(w store.Writer) error { return w.SetUser(u) })
		view(t, s, func(r store.Reader) error {
			got, err := r.UserByName("alice")
			equal(t, "attributes", got.Attributes, want)
			return err
		})
	}
}

func testDesktopTokens(t *testing.T, s store.Store) {
	person(t, s)
	d := Phone("DPd")
	d.Type, d.Number, d.PreDelay, d.PostDelay = store.DesktopToken, "", "1", "2"
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddPhone(d), w.AttachPhone("DU1", "DPd")) })
	view(t, s, func(r store.Reader) error {
		phones, n, err := r.Phones(store.PhoneFilter{}, store.Page{})
		equal(t, "phones", phones, []store.Phone{Phone("DP1")})
		equal(t, "count", n, 1)
		desktops, n, err2 := r.Phones(store.PhoneFilter{Desktops: true}, store.Page{})
		equal(t, "desktop tokens", desktops, []store.Phone{d})
		equal(t, "count", n, 1)
		mine, err3 := r.UserPhones("DU1")
		equal(t, "both are the user's", len(mine), 2)
		return errors.Join(err, err2, err3)
	})
	d.PreDelay, d.PostDelay = "", "9"
	update(t, s, func(w store.Writer) error { return w.SetPhone(d) })
	view(t, s, func(r store.Reader) error {
		got, err := r.Phone("DPd")
		equal(t, "changed", got, d)
		return err
	})
}

func testCredentials(t *testing.T, s store.Store) {
	person(t, s)
	update(t, s, func(w store.Writer) error { return w.AddUser(User("DU2", "bob")) })
	a := store.WebAuthnCredential{
		ID: "WA1", UserID: "DU1", CredentialID: []byte{1}, PublicKey: []byte{2}, SignCount: 3, AAGUID: []byte{4},
		Name: "model", Label: "Security Key", Created: now, LastUsed: now.Add(time.Second),
	}
	b := store.WebAuthnCredential{ID: "WA2", UserID: "DU2", CredentialID: []byte{9}, PublicKey: []byte{2}, AAGUID: []byte{8}, Created: now}
	d := store.DesktopAuthenticator{ID: "DA1", UserID: "DU1", PublicKey: "K", Name: "pc", OSFamily: "Linux", Created: now}
	e := store.DesktopAuthenticator{ID: "DA2", UserID: "DU2", PublicKey: "L", Created: now}
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.AddWebAuthnCredential(a), w.AddWebAuthnCredential(b), w.AddDesktopAuthenticator(d), w.AddDesktopAuthenticator(e))
	})
	again, nobody := a, a
	again.ID, nobody.ID, nobody.UserID, nobody.CredentialID = "WA3", "WA4", "DUx", []byte{7}
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddWebAuthnCredential(again) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.AddWebAuthnCredential(nobody) })
	d2, d3 := d, d
	d2.ID, d3.ID, d3.UserID, d3.PublicKey = "DA3", "DA4", "DUx", "M"
	wantErr(t, s, store.ErrConflict, func(w store.Writer) error { return w.AddDesktopAuthenticator(d2) })
	wantErr(t, s, store.ErrNotFound, func(w store.Writer) error { return w.AddDesktopAuthenticator(d3) })
	view(t, s, func(r store.Reader) error {
		got, err := r.WebAuthnCredential("WA1")
		equal(t, "credential", got, a)
		all, n, err2 := r.WebAuthnCredentials("", store.Page{})
		equal(t, "all", all, []store.WebAuthnCredential{a, b})
		equal(t, "count", n, 2)
		mine, n, err3 := r.WebAuthnCredentials("DU2", store.Page{})
		equal(t, "bob's", mine, []store.WebAuthnCredential{b})
		equal(t, "count", n, 1)
		desk, err4 := r.DesktopAuthenticator("DA1")
		equal(t, "desktop authenticator", desk, d)
		desks, n, err5 := r.DesktopAuthenticators("", store.Page{})
		equal(t, "desktop authenticators", desks, []store.DesktopAuthenticator{d, e})
		equal(t, "count", n, 2)
		hers, _, err6 := r.DesktopAuthenticators("DU1", store.Page{})
		equal(t, "alice's", hers, []store.DesktopAuthenticator{d})
		return errors.Join(err, err2, err3, err4, err5, err6)
	})
	update(t, s, func(w store.Writer) error {
		return errors.Join(w.DeleteWebAuthnCredential("WA1"), w.DeleteDesktopAuthenticator("DA1"), w.DeleteUser("DU2"))
	})
	for _, f := range []func(w store.Writer) error{
		func(w store.Writer) error { return w.DeleteWebAuthnCredential("WA1") },
		func(w store.Writer) error { return w.DeleteDesktopAuthenticator("DA1") },
		func(w store.Writer) error { _, err := w.WebAuthnCredential("WA2"); return err },
		func(w store.Writer) error { _, err := w.DesktopAuthenticator("DA2"); return err },
	} {
		wantErr(t, s, store.ErrNotFound, f)
	}
}

func testSMSCodesSent(t *testing.T, s store.Store) {
	person(t, s)
	update(t, s, func(w store.Writer) error { return errors.Join(w.AddPhone(Phone("DP2")), w.AttachPhone("DU1", "DP2")) })
	for _, want := range []bool{false, true} {
		view(t, s, func(r store.Reader) error {
			sent, err := r.SMSCodesSent("DP2")
			equal(t, "sent", sent, want)
			return err
		})
		update(t, s, func(w store.Writer) error {
			return w.ReplaceSMSCodes("DU1", "DP2", []store.SMSCode{{ID: "S1", Hash: []byte("h"), Created: now, Expires: now.Add(time.Hour)}})
		})
	}
}
