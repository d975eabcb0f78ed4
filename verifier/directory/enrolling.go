// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// The methods of this file are parts of an enrolment. They change within an update
// that the caller began, together with what permits the change.

// NewID makes an id: a prefix and 90 random bits.
func (d *Directory) NewID(prefix string) (string, error) { return d.newID(prefix) }

// Audit writes an entry of the administrator log. The description must hold no secret.
func (d *Directory) Audit(w store.Writer, a Actor, action string, u store.User, description map[string]any) error {
	if description == nil {
		description = map[string]any{}
	}
	description["user_id"] = u.ID
	return d.audit(w, a, action, u.Username, description)
}

// Invitee says who is to enrol.
type Invitee struct {
	Username string
	// Email becomes the address of somebody new, or of a user who has none; a user who
	// has another one keeps it, and the request is refused. Blank: as it is.
	Email  string
	Create bool // somebody whom nobody knows yet becomes a user
}

// Invite finds or makes the user who is to enrol.
func (d *Directory) Invite(w store.Writer, a Actor, q Invitee) (store.User, error) {
	name, err := Username("username", q.Username)
	if err != nil {
		return store.User{}, err
	}
	if q.Email != "" {
		if q.Email, err = address("email", q.Email); err != nil {
			return store.User{}, err
		}
	}
	u, err := w.UserByName(name)
	switch {
	case errors.Is(err, store.ErrNotFound) && q.Create:
		if u, err = d.newUser(UserChange{Username: &name, Email: &q.Email}); err != nil {
			return u, err
		}
		return u, d.addUser(w, a, u)
	case err != nil:
		return u, err
	case q.Email == "" || q.Email == u.Email:
		return u, nil
	case u.Email != "":
		return u, invalid("email", "the user has another address; change that one first")
	}
	before := u
	u.Aliases = slices.Clone(before.Aliases)
	u.Email = q.Email
	if err := w.SetUser(u); err != nil {
		return u, fmt.Errorf("set the address of a user: %w", err)
	}
	return u, d.audit(w, a, "user_update", u.Username, difference("user_id", u.ID, userFields(before), userFields(u)))
}

// AddMobile makes a phone without a number for a user, to be activated.
func (d *Directory) AddMobile(w store.Writer, a Actor, u store.User) (store.Phone, error) {
	id, err := d.newID(phonePrefix)
	if err != nil {
		return store.Phone{}, err
	}
	p := store.Phone{ID: id, Type: "mobile", Created: d.Now()}
	return p, d.addPhone(w, a, p, u.ID)
}

// NewActivation makes an activation code for a phone that the user has.
func (d *Directory) NewActivation(w store.Writer, a Actor, u store.User, p store.Phone, valid time.Duration) (Activation, error) {
	return d.activate(w, a, u, p, valid)
}

// DropMobile removes a phone that was never activated and has no number; any other
// stays.
func (d *Directory) DropMobile(w store.Writer, a Actor, phoneID string) error {
	p, err := w.Phone(phoneID)
	if errors.Is(err, store.ErrNotFound) || err == nil && (p.CanPush() || p.Number != "" || !p.Activated.IsZero()) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := w.DeletePhone(phoneID); err != nil {
		return fmt.Errorf("delete phone: %w", err)
	}
	return d.audit(w, a, "phone_delete", phoneLabel(p), whole("phone_id", phoneID, phoneFields(p)))
}

// MakeTOTP makes a TOTP token with a random secret that is nowhere kept yet: neither
// is it in the Token.
func (d *Directory) MakeTOTP(u store.User) (m MadeToken, err error) {
	n := NewToken{Type: store.TOTP6}
	if err := d.completeToken(&n); err != nil {
		return m, err
	}
	id, err := d.newID(tokenPrefix)
	if err != nil {
		return m, err
	}
	m.Token = store.Token{
		ID: id, Type: n.Type, Serial: n.Serial, LastStep: -1, Step: n.Step, Created: d.Now(),
	}
	m.User, m.Secret = &u, base32Secret(n.Secret)
	m.URI = d.tokenURI(m)
	return m, nil
}

// SealTOTP puts the secret of MakeTOTP into its token.
func (d *Directory) SealTOTP(t store.Token, secret string) (store.Token, error) {
	b, err := DecodeSecret("", secret)
	if err != nil {
		return t, err
	}
	t.SecretSealed = factor.SealToken(d.Keys, t.ID, b)
	return t, nil
}

// AddTOTP keeps a token for a user.
func (d *Directory) AddTOTP(w store.Writer, a Actor, u store.User, t store.Token) error {
	if err := w.AddToken(t); err != nil {
		return fmt.Errorf("add token: %w", err)
	}
	if err := d.audit(w, a, "hardtoken_create", t.Serial, whole("token_id", t.ID, tokenFields(t))); err != nil {
		return err
	}
	return d.attachToken(w, a, u, t)
}

// ReplaceRecoveryCodes makes a set of recovery codes for a user, in place of the one
// before, and tells the person. The codes are given this once.
func (d *Directory) ReplaceRecoveryCodes(w store.Writer, a Actor, u store.User) ([]string, error) {
	if err := w.DeleteBypassCodes(u.ID, true); err != nil {
		return nil, fmt.Errorf("void the recovery codes before: %w", err)
	}
	codes := make([]string, 0, factor.RecoveryCodes)
	for range factor.RecoveryCodes {
		id, err := d.newID(bypassPrefix)
		if err != nil {
			return nil, err
		}
		code, err := factor.NewRecoveryCode(d.Random)
		if err != nil {
			return nil, err
		}
		err = w.AddBypassCode(store.BypassCode{
			ID: id, UserID: u.ID, Hash: factor.HashRecovery(d.Keys, u.ID, code), UsesLeft: 1, Recovery: true, Created: d.Now(),
		})
		if err != nil {
			return nil, fmt.Errorf("add recovery code: %w", err)
		}
		codes = append(codes, code)
	}
	if err := d.Audit(w, a, "recovery_codes_create", u, map[string]any{"count": len(codes)}); err != nil {
		return nil, err
	}
	return codes, notice.Tell(d.Notices, w, u.ID, notice.RecoveryCodesMade, map[string]string{notice.Address: a.Address})
}

// ClientError turns what a store says about objects into what a client may read:
// a missing one, and one that is there already.
func ClientError(err error) error { return clientError(err, "") }
