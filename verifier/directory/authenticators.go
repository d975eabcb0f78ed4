// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// What people do to their own authenticators, by one of these.

// MoveFor is how long the link is good by which an authenticator moves.
const MoveFor = 10 * time.Minute

// maxDeviceName is the longest name that an authenticator can have, in bytes.
const maxDeviceName = 64

// Self is the authenticator that calls, as it was when its proof was checked.
type Self struct {
	Phone   store.Phone
	Address string
	// Premise runs first in the update of a change, and its error ends that. It
	// repeats that Phone still is as it was.
	Premise func(store.Writer) error
}

// unknownDevice is the refusal of an authenticator that the caller may not touch. It
// does not tell one that is not there from somebody else's.
func unknownDevice() error { return duoapi.NewError(duoapi.CodeDeviceUnknown, "") }

// Authenticators lists the activated authenticators that p may change: those of
// its own users, and of nobody else beside them; p itself is always among them.
func Authenticators(r store.Reader, p store.Phone) ([]store.Phone, error) {
	users, err := r.PhoneUsers(p.ID)
	if err != nil {
		return nil, err
	}
	var out []store.Phone
	listed := map[string]bool{}
	for _, u := range users {
		phones, err := r.UserPhones(u.ID)
		if err != nil {
			return nil, err
		}
		for _, other := range phones {
			if listed[other.ID] || !other.CanPush() {
				continue
			}
			listed[other.ID] = true
			mine, err := within(r, other.ID, users)
			if err != nil {
				return nil, err
			}
			if mine {
				out = append(out, other)
			}
		}
	}
	return out, nil
}

// within says whether nobody but users has the phone.
func within(r store.Reader, phoneID string, users []store.User) (bool, error) {
	others, err := r.PhoneUsers(phoneID)
	if err != nil {
		return false, err
	}
	known := map[string]bool{}
	for _, u := range users {
		known[u.ID] = true
	}
	for _, u := range others {
		if !known[u.ID] {
			return false, nil
		}
	}
	return len(others) > 0, nil
}

// changeAuthenticator runs change on the authenticator id, if self may change it.
func (d *Directory) changeAuthenticator(ctx context.Context, self Self, id string, change func(store.Writer, store.Phone, []store.User) error) error {
	return d.update(ctx, "", func(w store.Writer) error {
		if err := self.Premise(w); err != nil {
			return err
		}
		target, err := w.Phone(id)
		if errors.Is(err, store.ErrNotFound) || err == nil && !target.CanPush() {
			return unknownDevice()
		}
		if err != nil {
			return err
		}
		users, err := w.PhoneUsers(self.Phone.ID)
		if err != nil {
			return err
		}
		mine, err := within(w, id, users)
		switch {
		case err != nil:
			return err
		case !mine:
			return unknownDevice()
		}
		if id != self.Phone.ID {
			if err := mayChange(w, users); err != nil {
				return err
			}
		}
		return change(w, target, users)
	})
}

// mayChange says that all of these people may add and change factors. After a lock,
// or a report of fraud, none of their authenticators may drive out the others.
func mayChange(w store.Writer, users []store.User) error {
	for _, u := range users {
		held, err := w.HoldEnrollable(u.ID)
		if err != nil {
			return fmt.Errorf("hold a user: %w", err)
		}
		if !held {
			return duoapi.NewError(duoapi.CodeForbidden, "the account is locked or disabled")
		}
	}
	return nil
}

// RenameAuthenticator gives an authenticator of the same people another name.
func (d *Directory) RenameAuthenticator(ctx context.Context, self Self, id, newName string) (p store.Phone, err error) {
	newName = strings.TrimSpace(newName)
	if newName == "" {
		return p, invalid("name", "is blank")
	}
	if err := text("name", newName, maxDeviceName, false); err != nil {
		return p, err
	}
	err = d.changeAuthenticator(ctx, self, id, func(w store.Writer, target store.Phone, users []store.User) error {
		p = target
		p.Name = newName
		return d.setOwn(w, self, users[0], target, p)
	})
	return p, err
}

// setOwn changes the fields of a phone on behalf of self.
func (d *Directory) setOwn(w store.Writer, self Self, u store.User, before, after store.Phone) error {
	if err := w.SetPhone(after); err != nil {
		return fmt.Errorf("change authenticator: %w", err)
	}
	description := difference("phone_id", after.ID, phoneFields(before), phoneFields(after))
	description["by_phone_id"] = self.Phone.ID
	return d.audit(w, Actor{Name: u.Username, Address: self.Address}, "phone_update", phoneLabel(after), description)
}

// RemoveAuthenticator takes the key of an authenticator of the same people, with
// all that belongs to it. The phone stays, without one.
func (d *Directory) RemoveAuthenticator(ctx context.Context, self Self, id string) (p store.Phone, err error) {
	err = d.changeAuthenticator(ctx, self, id, func(w store.Writer, target store.Phone, users []store.User) error {
		p = target
		if err := w.DeactivatePhone(id); err != nil {
			return fmt.Errorf("remove authenticator: %w", err)
		}
		return d.tellRemoved(w, self, users, target)
	})
	if err == nil {
		d.withdraw(ctx, p)
	}
	return p, err
}

// MoveAuthenticator makes a link by which another key takes the place of self's.
// Links of an earlier move are void with the first that is used.
func (d *Directory) MoveAuthenticator(ctx context.Context, self Self) (out Activation, err error) {
	err = d.changeAuthenticator(ctx, self, self.Phone.ID, func(w store.Writer, target store.Phone, users []store.User) error {
		if err := mayChange(w, users); err != nil {
			return err
		}
		user := users[0] // there is one, or it would not be self's own
		out, err = d.activate(w, Actor{Name: user.Username, Address: self.Address}, user, target, MoveFor)
		return err
	})
	return out, err
}

// tellRemoved writes into the administrator log, for each of its people, that an
// authenticator was removed, and tells them.
func (d *Directory) tellRemoved(w store.Writer, self Self, users []store.User, target store.Phone) error {
	for _, u := range users {
		err := d.audit(w, Actor{Name: u.Username, Address: self.Address}, "authenticator_remove", u.Username, map[string]any{
			"user_id": u.ID, "phone_id": target.ID, "by_phone_id": self.Phone.ID,
		})
		if err != nil {
			return err
		}
		err = notice.Tell(d.Notices, w, u.ID, notice.AuthenticatorRemoved, map[string]string{
			notice.Authenticator: target.Name, notice.Platform: target.Platform, notice.Address: self.Address,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Announce keeps what an authenticator says of itself. platform, unless it is
// blank, becomes that of the phone.
func (d *Directory) Announce(ctx context.Context, self Self, a store.Announcement, platform string) error {
	for _, value := range append([]string{a.Program}, a.Capabilities...) {
		if err := text("capabilities, program", value, maxDeviceName, false); err != nil {
			return err
		}
	}
	if err := text("platform", platform, maxDeviceName, false); err != nil {
		return err
	}
	a.PhoneID, a.Generation = self.Phone.ID, self.Phone.Generation
	return d.update(ctx, "", func(w store.Writer) error {
		if err := self.Premise(w); err != nil {
			return err
		}
		a.Announced = d.Now()
		won, err := w.SetAnnouncement(a)
		switch {
		case err != nil:
			return err
		case !won:
			return unknownDevice()
		case platform == "" || platform == self.Phone.Platform:
			return nil
		}
		users, err := w.PhoneUsers(self.Phone.ID)
		if err != nil || len(users) == 0 {
			return err
		}
		p, err := w.Phone(self.Phone.ID)
		if err != nil {
			return err
		}
		before := p
		p.Platform = platform
		return d.setOwn(w, self, users[0], before, p)
	})
}
