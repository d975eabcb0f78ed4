// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/policy"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// MaxAliases is the most aliases that a user can have.
const MaxAliases = 8

// MaxAttributes is the most attributes that a user can have.
const MaxAttributes = 32

// attributePrefix begins the parameters that set attributes.
const attributePrefix = "custom_attributes."

// UserChange is what to set; nil leaves it as it is.
type UserChange struct {
	Username, RealName, FirstName, LastName, Email, Notes *string

	Status *store.UserStatus
	// Aliases are the new aliases as a whole; a blank one leaves its place free.
	Aliases *[]string
	// AliasAt sets single places, counted from 0, of those the user has when the
	// change is made, so that two who set different places lose nothing.
	AliasAt map[int]string
	// Attributes sets single attributes; a blank value removes one.
	Attributes map[string]string
}

func (c UserChange) apply(u *store.User) error {
	if c.Username != nil {
		n, err := Username("username", *c.Username)
		if err != nil {
			return err
		}
		u.Username = n
	}
	for _, f := range []struct {
		param string
		value *string
		place *string
		multi bool
	}{
		{"realname", c.RealName, &u.RealName, false},
		{"firstname", c.FirstName, &u.FirstName, false},
		{"lastname", c.LastName, &u.LastName, false},
		{"email", c.Email, &u.Email, false},
		{"notes", c.Notes, &u.Notes, true},
	} {
		if f.value == nil {
			continue
		}
		if err := text(f.param, *f.value, maxText, f.multi); err != nil {
			return err
		}
		*f.place = *f.value
	}
	if c.Status != nil {
		if !slices.Contains([]store.UserStatus{store.Active, store.Bypass, store.Disabled}, *c.Status) {
			return invalid("status", "not one of active, bypass, disabled")
		}
		u.Status = *c.Status
	}
	if c.Aliases != nil || len(c.AliasAt) > 0 {
		aliases, err := cleanAliases(c.aliases(u.Aliases))
		if err != nil {
			return err
		}
		u.Aliases = aliases
	}
	if slices.Contains(u.Aliases, u.Username) {
		return invalid("alias", "is the user's own name")
	}
	return c.applyAttributes(u)
}

func (c UserChange) applyAttributes(u *store.User) error {
	if len(c.Attributes) == 0 {
		return nil
	}
	u.Attributes = maps.Clone(u.Attributes) // the user as it was stands in the log
	if u.Attributes == nil {
		u.Attributes = map[string]string{}
	}
	for key, value := range c.Attributes {
		param := attributePrefix + key
		if _, err := name(attributePrefix+"NAME", key); err != nil {
			return err
		}
		if err := text(param, value, maxText, true); err != nil {
			return err
		}
		u.Attributes[key] = value
		if value == "" {
			delete(u.Attributes, key)
		}
	}
	if len(u.Attributes) > MaxAttributes {
		return invalid(attributePrefix+"NAME", fmt.Sprintf("more than %d of one user", MaxAttributes))
	}
	return nil
}

// aliases are the user's with the change, not yet checked.
func (c UserChange) aliases(have []string) []string {
	if c.Aliases != nil {
		have = *c.Aliases
	}
	out := slices.Clone(have)
	for i, alias := range c.AliasAt {
		for len(out) <= i {
			out = append(out, "")
		}
		out[i] = alias
	}
	return out
}

func cleanAliases(in []string) ([]string, error) {
	var out []string
	for i, a := range in {
		if strings.TrimSpace(a) == "" {
			continue
		}
		a, err := Username("alias", a)
		if err != nil {
			return nil, err
		}
		if slices.Contains(out, a) {
			return nil, invalid("alias", "given twice: "+strconv.Quote(a))
		}
		for len(out) < i { // free places stay where they are
			out = append(out, "")
		}
		out = append(out, a)
	}
	if len(out) > MaxAliases {
		return nil, invalid("aliases", fmt.Sprintf("more than %d", MaxAliases))
	}
	return out, nil
}

const nameTaken = "username or alias: another user has that name or alias"

// CreateUser makes a user; Username must be set in c.
func (d *Directory) CreateUser(ctx context.Context, a Actor, c UserChange) (u store.User, err error) {
	u, err = d.newUser(c)
	if err != nil {
		return u, err
	}
	err = d.update(ctx, nameTaken, func(w store.Writer) error { return d.addUser(w, a, u) })
	return u, err
}

func (d *Directory) newUser(c UserChange) (store.User, error) {
	id, err := d.newID(userPrefix)
	if err != nil {
		return store.User{}, err
	}
	u := store.User{ID: id, Status: store.Active, Created: d.Now()}
	if c.Username == nil {
		return u, duoapi.NewError(duoapi.CodeMissingParameter, "username")
	}
	return u, c.apply(&u)
}

func (d *Directory) addUser(w store.Writer, a Actor, u store.User) error {
	if err := w.AddUser(u); err != nil {
		return fmt.Errorf("add user: %w", err)
	}
	return d.audit(w, a, "user_create", u.Username, whole("user_id", u.ID, userFields(u)))
}

// UpdateUser changes a user. Setting the status active also ends a lock-out.
func (d *Directory) UpdateUser(ctx context.Context, a Actor, id string, c UserChange) (u store.User, err error) {
	var phones []store.Phone
	err = d.update(ctx, nameTaken, func(w store.Writer) error {
		before, err := w.User(id)
		if err != nil {
			return err
		}
		u = before
		u.Aliases = slices.Clone(before.Aliases)
		if err := c.apply(&u); err != nil {
			return err
		}
		if err := w.SetUser(u); err != nil {
			return fmt.Errorf("set user: %w", err)
		}
		if c.Status != nil {
			if !before.TrashedAt.IsZero() {
				return invalid("status", "the user is pending deletion: restore the user first")
			}
			if err := w.SetUserStatus(id, *c.Status, "", d.Now()); err != nil {
				return fmt.Errorf("set status of user: %w", err)
			}
		}
		if err := d.audit(w, a, "user_update", u.Username, difference("user_id", id, userFields(before), userFields(u))); err != nil {
			return err
		}
		if u, err = w.User(id); err != nil || u.Status != store.Disabled {
			return err
		}
		phones, err = w.UserPhones(id)
		return err
	})
	if err == nil {
		d.withdraw(ctx, phones...)
	}
	return u, err
}

func userFields(u store.User) fields {
	return fields{
		"username": u.Username, "realname": u.RealName, "firstname": u.FirstName, "lastname": u.LastName, "email": u.Email,
		"notes": u.Notes, "status": u.Status, "aliases": append([]string{}, u.Aliases...),
		"custom_attributes": maps.Clone(u.Attributes),
	}
}

// DeleteUser removes a user and what belongs to nobody else: bypass codes,
// associations, open activations.
func (d *Directory) DeleteUser(ctx context.Context, a Actor, id string) error {
	var phones []store.Phone
	err := d.update(ctx, "", func(w store.Writer) error {
		u, err := w.User(id)
		if err != nil {
			return err
		}
		if phones, err = w.UserPhones(id); err != nil {
			return err
		}
		if err := w.DeleteUser(id); err != nil {
			return fmt.Errorf("delete user: %w", err)
		}
		return d.audit(w, a, "user_delete", u.Username, whole("user_id", id, userFields(u)))
	})
	if err == nil {
		d.withdraw(ctx, phones...)
	}
	return err
}

// EnrollRequest asks for a user with a phone that waits for its activation.
type EnrollRequest struct {
	Username    string // blank: a random one
	Email       string
	Valid       time.Duration // of the activation code
	BypassCodes int
	// By is the key of the Auth API integration that asks, blank for administrators.
	// It may only where it and its policies say so to everyone: else a stolen secret
	// of a host would make people up.
	By string
	// Existing allows a user that is there already: it gets one more phone. Only
	// for administrators, since a new phone of an existing person can log in as them.
	Existing bool
}

// Enrollment is what EnrollRequest gave.
type Enrollment struct {
	User        store.User
	Activation  // of the user's new phone
	BypassCodes []string
}

// Enroll makes a user with a phone and the activation code for it.
func (d *Directory) Enroll(ctx context.Context, a Actor, q EnrollRequest) (e Enrollment, err error) {
	if q.By != "" && q.Existing {
		return e, errors.New("enrol: an application cannot give a phone to somebody who is there already")
	}
	if q.Username == "" {
		if q.Username, err = d.random(16, base32Digits); err != nil {
			return e, err
		}
	}
	u, err := d.newUser(UserChange{Username: &q.Username, Email: &q.Email})
	if err != nil {
		return e, err
	}
	id, err := d.newID(phonePrefix)
	if err != nil {
		return e, err
	}
	phone := store.Phone{ID: id, Type: "mobile", Created: d.Now()}
	err = d.update(ctx, "username: a user of that name exists", func(w store.Writer) error {
		if err := mayEnroll(w, q.By); err != nil {
			return err
		}
		if e.User, err = d.userToEnroll(w, a, u, q.Existing); err != nil {
			return err
		}
		if err := d.addPhone(w, a, phone, e.User.ID); err != nil {
			return err
		}
		if e.Activation, err = d.activate(w, a, e.User, phone, q.Valid); err != nil {
			return err
		}
		e.BypassCodes = nil
		if q.BypassCodes == 0 {
			return nil
		}
		e.BypassCodes, err = d.addBypassCodes(w, a, e.User, BypassRequest{Count: q.BypassCodes, Uses: 1, KeepExisting: true})
		return err
	})
	return e, err
}

// mayEnroll refuses an application that may not enrol people whom nobody knows yet.
func mayEnroll(w store.Writer, by string) error {
	if by == "" {
		return nil
	}
	if _, err := w.HoldPolicies(); err != nil {
		return err
	}
	i, err := w.Integration(by)
	if err != nil {
		return err
	}
	settings, err := w.Settings()
	if err != nil {
		return err
	}
	applied, err := w.AppliedPolicies(by)
	if err != nil {
		return err
	}
	because, err := policy.MayEnroll(i, settings, applied)
	if err != nil {
		return fmt.Errorf("evaluate the policies: %w", err)
	}
	if because != "" {
		return duoapi.NewError(duoapi.CodeForbidden, "enrolment is refused by "+because)
	}
	return nil
}

func (d *Directory) userToEnroll(w store.Writer, a Actor, u store.User, existing bool) (store.User, error) {
	if existing {
		if found, err := w.UserByName(u.Username); err == nil {
			return found, nil
		}
	}
	return u, d.addUser(w, a, u)
}
