// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/offline"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// How long an activation code is good for, in seconds.
const (
	DefaultActivationSecs = 86_400
	MaxActivationSecs     = 30 * 86_400
)

// PhoneChange is what to set; nil leaves it as it is.
type PhoneChange struct {
	Number, Extension, Name, Type, Platform *string
	// PreDelay and PostDelay are seconds before and after the extension is dialled; blank: none.
	PreDelay, PostDelay *string
}

func (c PhoneChange) apply(p *store.Phone) error {
	if c.Number != nil {
		number, err := Number(*c.Number)
		if err != nil {
			return err
		}
		p.Number = number
	}
	if c.Extension != nil {
		if strings.Trim(*c.Extension, digits+"#*,") != "" || len(*c.Extension) > 32 {
			return invalid("extension", "at most 32 of the characters 0 to 9, #, * and the comma")
		}
		p.Extension = *c.Extension
	}
	if c.Type != nil {
		kind := strings.ToLower(*c.Type)
		if !slices.Contains([]string{"mobile", "landline", "unknown"}, kind) {
			return invalid("type", "not one of mobile, landline, unknown")
		}
		p.Type = kind
	}
	for _, f := range []struct {
		param        string
		value, place *string
	}{{"predelay", c.PreDelay, &p.PreDelay}, {"postdelay", c.PostDelay, &p.PostDelay}} {
		if f.value == nil {
			continue
		}
		if strings.Trim(*f.value, digits) != "" || len(*f.value) > 2 {
			return invalid(f.param, "not a whole number of seconds from 0 to 99")
		}
		*f.place = *f.value
	}
	for _, f := range []struct {
		param        string
		value, place *string
	}{{"name", c.Name, &p.Name}, {"platform", c.Platform, &p.Platform}} {
		if f.value == nil {
			continue
		}
		if err := text(f.param, *f.value, maxName, false); err != nil {
			return err
		}
		*f.place = strings.TrimSpace(*f.value)
	}
	return nil
}

// Number reads a telephone number in E.164: +, country code, number. Blanks,
// dots, dashes, slashes and parentheses are dropped; an empty one stays empty.
func Number(s string) (string, error) {
	n := strings.Map(func(c rune) rune {
		if strings.ContainsRune(" .-/()", c) {
			return -1
		}
		return c
	}, s)
	if n == "" {
		return "", nil
	}
	rest, ok := strings.CutPrefix(n, "+")
	if !ok || len(rest) < 5 || len(rest) > 15 || strings.Trim(rest, digits) != "" || rest[0] == '0' {
		return "", invalid("number", "not of the form +15551234567 (country code and number)")
	}
	return n, nil
}

// CreatePhone makes a phone and, with a userID, gives it to that user.
func (d *Directory) CreatePhone(ctx context.Context, a Actor, userID string, c PhoneChange) (p store.Phone, err error) {
	id, err := d.newID(phonePrefix)
	if err != nil {
		return p, err
	}
	p = store.Phone{ID: id, Type: "unknown", Created: d.Now()}
	if err := c.apply(&p); err != nil {
		return p, err
	}
	err = d.update(ctx, "number: another phone has that number and extension", func(w store.Writer) error {
		return d.addPhone(w, a, p, userID)
	})
	return p, err
}

func (d *Directory) addPhone(w store.Writer, a Actor, p store.Phone, userID string) error {
	if err := w.AddPhone(p); err != nil {
		return fmt.Errorf("add phone: %w", err)
	}
	if err := d.audit(w, a, "phone_create", phoneLabel(p), whole("phone_id", p.ID, phoneFields(p))); err != nil {
		return err
	}
	if userID == "" {
		return nil
	}
	return d.attachPhone(w, a, userID, p)
}

func phoneLabel(p store.Phone) string {
	for _, s := range []string{p.Name, p.Number} {
		if s != "" {
			return s
		}
	}
	return p.ID
}

func (d *Directory) attachPhone(w store.Writer, a Actor, userID string, p store.Phone) error {
	u, err := w.User(userID)
	if err != nil {
		return err
	}
	if err := w.AttachPhone(userID, p.ID); err != nil {
		return fmt.Errorf("attach phone: %w", err)
	}
	return d.audit(w, a, "phone_associate", u.Username, map[string]any{"user_id": userID, "phone_id": p.ID})
}

// AttachPhone gives a phone to a user.
func (d *Directory) AttachPhone(ctx context.Context, a Actor, userID, phoneID string) error {
	return d.update(ctx, "phone_id: the user has that phone", func(w store.Writer) error {
		p, err := w.Phone(phoneID)
		if err != nil {
			return err
		}
		return d.attachPhone(w, a, userID, p)
	})
}

// DetachPhone takes a phone from a user.
func (d *Directory) DetachPhone(ctx context.Context, a Actor, userID, phoneID string) error {
	var p store.Phone
	err := d.update(ctx, "", func(w store.Writer) error {
		u, err := w.User(userID)
		if err != nil {
			return err
		}
		if p, err = w.Phone(phoneID); err != nil {
			return err
		}
		if err := w.DetachPhone(userID, phoneID); err != nil {
			return fmt.Errorf("detach phone: %w", err)
		}
		if err := d.tellTaken(w, a, u, p); err != nil {
			return err
		}
		return d.audit(w, a, "phone_disassociate", u.Username, map[string]any{"user_id": userID, "phone_id": phoneID})
	})
	if err == nil {
		d.withdraw(ctx, p)
	}
	return err
}

// tellTaken tells a person that an authenticator was taken away; that a telephone
// was is no news.
func (d *Directory) tellTaken(w store.Writer, a Actor, u store.User, p store.Phone) error {
	if !p.CanPush() {
		return nil
	}
	return notice.Tell(d.Notices, w, u.ID, notice.AuthenticatorRemoved, map[string]string{
		notice.Authenticator: p.Name, notice.Platform: p.Platform, notice.Address: a.Address,
	})
}

// phoneOf reads a phone, or a desktop token; one is not found as the other.
func phoneOf(r store.Reader, id string, desktop bool) (store.Phone, error) {
	p, err := r.Phone(id)
	if err == nil && (p.Type == store.DesktopToken) != desktop {
		err = store.ErrNotFound
	}
	return p, err
}

// UpdatePhone changes a phone.
func (d *Directory) UpdatePhone(ctx context.Context, a Actor, id string, c PhoneChange) (store.Phone, error) {
	return d.updatePhone(ctx, a, id, c, false)
}

func (d *Directory) updatePhone(ctx context.Context, a Actor, id string, c PhoneChange, desktop bool) (p store.Phone, err error) {
	err = d.update(ctx, "number: another phone has that number and extension", func(w store.Writer) error {
		before, err := phoneOf(w, id, desktop)
		if err != nil {
			return err
		}
		p = before
		if err := c.apply(&p); err != nil {
			return err
		}
		if err := w.SetPhone(p); err != nil {
			return fmt.Errorf("set phone: %w", err)
		}
		return d.audit(w, a, "phone_update", phoneLabel(p), difference("phone_id", id, phoneFields(before), phoneFields(p)))
	})
	return p, err
}

func phoneFields(p store.Phone) fields {
	return fields{
		"number": p.Number, "extension": p.Extension, "predelay": p.PreDelay, "postdelay": p.PostDelay,
		"name": p.Name, "type": p.Type, "platform": p.Platform,
	}
}

// DeletePhone removes a phone; approvals under way on it become void.
func (d *Directory) DeletePhone(ctx context.Context, a Actor, id string) error {
	return d.deletePhone(ctx, a, id, false)
}

func (d *Directory) deletePhone(ctx context.Context, a Actor, id string, desktop bool) error {
	var p store.Phone
	err := d.update(ctx, "", func(w store.Writer) (err error) {
		if p, err = phoneOf(w, id, desktop); err != nil {
			return err
		}
		users, err := w.PhoneUsers(id)
		if err != nil {
			return err
		}
		if err := w.DeletePhone(id); err != nil {
			return fmt.Errorf("delete phone: %w", err)
		}
		for _, u := range users {
			if err := d.tellTaken(w, a, u, p); err != nil {
				return err
			}
		}
		return d.audit(w, a, "phone_delete", phoneLabel(p), whole("phone_id", id, phoneFields(p)))
	})
	if err == nil {
		d.withdraw(ctx, p)
	}
	return err
}

// Activation is a code that makes a phone an authenticator.
type Activation struct {
	Code    string // sa1.…; shown once, stored as a hash
	Link    string
	Barcode string // URL of a QR picture of Link
	Expires time.Time
}

// BarcodePath serves QR pictures of activation links.
const BarcodePath = "/frame/qr"

// ActivatePhone makes an activation code for a phone that a user has.
func (d *Directory) ActivatePhone(ctx context.Context, a Actor, phoneID string, valid time.Duration) (Activation, error) {
	return d.activatePhone(ctx, a, phoneID, valid, false)
}

func (d *Directory) activatePhone(ctx context.Context, a Actor, phoneID string, valid time.Duration, desktop bool) (out Activation, err error) {
	err = d.update(ctx, "", func(w store.Writer) error {
		p, err := phoneOf(w, phoneID, desktop)
		if err != nil {
			return err
		}
		users, err := w.PhoneUsers(phoneID)
		if err != nil {
			return err
		}
		if len(users) == 0 {
			return invalid("phone_id", "the phone belongs to no user")
		}
		out, err = d.activate(w, a, users[0], p, valid)
		return err
	})
	return out, err
}

func (d *Directory) activate(w store.Writer, a Actor, u store.User, p store.Phone, valid time.Duration) (Activation, error) {
	token := invite.New(invite.Activate, d.Pin)
	link := invite.Link(d.Base, token)
	barcode := *d.Base
	barcode.Path, barcode.RawQuery = BarcodePath, url.Values{"value": {link}}.Encode()
	out := Activation{Code: token.String(), Link: link, Barcode: barcode.String(), Expires: d.Now().Add(valid)}
	err := w.AddActivation(store.Activation{
		Hash: token.Hash(), UserID: u.ID, PhoneID: p.ID, Created: d.Now(), Expires: out.Expires,
	})
	if err != nil {
		return out, fmt.Errorf("add activation: %w", err)
	}
	return out, d.audit(w, a, "activation_create", u.Username, map[string]any{
		"user_id": u.ID, "phone_id": p.ID, "expires": out.Expires.Unix(),
	})
}

// Answers of EnrollStatus.
const (
	EnrollSuccess = "success"
	EnrollInvalid = "invalid"
	EnrollWaiting = "waiting"
)

// EnrollStatus says what has become of an activation code of the user.
func (d *Directory) EnrollStatus(ctx context.Context, userID, code string) (string, error) {
	hash, ok := activationHash(code)
	if !ok {
		return EnrollInvalid, nil
	}
	var act store.Activation
	err := d.Store.View(ctx, func(r store.Reader) (err error) {
		act, err = r.Activation(hash)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return EnrollInvalid, nil
	case err != nil:
		return "", fmt.Errorf("find activation: %w", err)
	case act.UserID != userID:
		return EnrollInvalid, nil
	case !act.UsedAt.IsZero():
		return EnrollSuccess, nil
	case !d.Now().Before(act.Expires):
		return EnrollInvalid, nil
	}
	return EnrollWaiting, nil
}

// activationHash takes a code or a whole link.
func activationHash(code string) ([]byte, bool) {
	if _, token, err := invite.ParseLink(code); err == nil {
		return token.Hash(), true
	}
	token, err := invite.Parse(invite.Activate, code)
	return token.Hash(), err == nil
}

// Activated is what an authenticator learns of itself.
type Activated struct {
	Phone store.Phone
	User  store.User
	// OfflineRoot is what its offline codes are made from.
	OfflineRoot []byte
}

// UseActivation spends an activation code: its phone becomes an authenticator
// with that key. The proof that the caller holds the key is the caller's to check.
func (d *Directory) UseActivation(ctx context.Context, code string, key store.DeviceKey, address string) (out Activated, err error) {
	for param, value := range map[string]string{"name": key.Name, "platform": key.Platform, "model": key.Model} {
		if err := text(param, value, 64, false); err != nil {
			return out, err
		}
	}
	hash, ok := activationHash(code)
	if !ok {
		return out, duoapi.NewError(duoapi.CodeActivateUnknown, "")
	}
	err = d.update(ctx, "public_key: another authenticator has that key", func(w store.Writer) error {
		kind, err := activationNotice(w, hash)
		if err != nil {
			return err
		}
		phone, won, err := w.UseActivation(hash, key, d.Now())
		if err != nil {
			return fmt.Errorf("use activation: %w", err)
		}
		if !won {
			return whyNoActivation(w, hash)
		}
		act, err := w.Activation(hash)
		if err != nil {
			return err
		}
		user, err := w.User(act.UserID)
		if err != nil {
			return err
		}
		out = Activated{Phone: phone, User: user}
		var sealed store.OfflineRoot
		if out.OfflineRoot, sealed, err = offline.NewRoot(d.Keys, d.Random, phone); err != nil {
			return err
		}
		if err := w.SetOfflineRoot(sealed); err != nil {
			return fmt.Errorf("keep the offline root: %w", err)
		}
		event, err := d.enrollmentEvent(user, phone, address)
		if err != nil {
			return err
		}
		if err := w.AddEvent(event); err != nil {
			return fmt.Errorf("log enrollment: %w", err)
		}
		people, err := w.PhoneUsers(phone.ID)
		if err != nil {
			return err
		}
		for _, u := range people {
			err := notice.Tell(d.Notices, w, u.ID, kind, map[string]string{
				notice.Authenticator: phone.Name, notice.Platform: phone.Platform, notice.Address: address,
			})
			if err != nil {
				return err
			}
		}
		return d.audit(w, Actor{Name: user.Username, Address: address}, "activation_use", user.Username, map[string]any{
			"user_id": user.ID, "phone_id": phone.ID, "name": phone.Name, "platform": phone.Platform,
		})
	})
	if err == nil {
		d.withdraw(ctx, out.Phone) // the key before, if there was one
	}
	return out, err
}

// activationNotice is what people are told of an activation: that there is another
// authenticator, or that one has moved.
func activationNotice(r store.Reader, hash []byte) (string, error) {
	act, err := r.Activation(hash)
	if err == nil {
		var p store.Phone
		if p, err = r.Phone(act.PhoneID); err == nil && p.CanPush() {
			return notice.AuthenticatorMoved, nil
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		err = nil
	}
	return notice.AuthenticatorAdded, err
}

func whyNoActivation(r store.Reader, hash []byte) error {
	act, err := r.Activation(hash)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return duoapi.NewError(duoapi.CodeActivateUnknown, "")
	case err != nil:
		return err
	case !act.UsedAt.IsZero():
		return duoapi.NewError(duoapi.CodeActivateUsed, "")
	}
	u, err := r.User(act.UserID)
	switch {
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	case err == nil && u.Status != store.Active && u.Status != store.Bypass:
		return duoapi.NewError(duoapi.CodeActivateExpired, "the account is locked or disabled: ask your administrator")
	}
	return duoapi.NewError(duoapi.CodeActivateExpired, "ask for another link")
}

func (d *Directory) enrollmentEvent(u store.User, p store.Phone, address string) (store.Event, error) {
	txID, err := d.random(32, alphanumeric)
	return audit.Outcome(store.Event{
		TxID: txID, EventType: "enrollment", Factor: "duo_push",
		User: store.EventUser{Key: u.ID, Name: u.Username, Groups: []string{}}, Email: u.Email,
		AuthDevice: store.AuthDevice{Key: p.ID, Name: p.Name, IP: address},
	}, d.Now(), audit.Success, "user_approved"), err
}

// TouchPhone notes that an authenticator was heard of.
func (d *Directory) TouchPhone(ctx context.Context, id string) error {
	return d.update(ctx, "", func(w store.Writer) error { return w.TouchPhone(id, d.Now()) })
}
