// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// A desktop token is an authenticator on a computer: a phone without a number,
// which only an activation can make useful.

// DesktopChange is what to set of a desktop token; nil leaves it as it is.
type DesktopChange struct {
	Name, Platform *string
}

func (c DesktopChange) phone() PhoneChange { return PhoneChange{Name: c.Name, Platform: c.Platform} }

// CreateDesktopToken makes a desktop token that belongs to nobody yet.
func (d *Directory) CreateDesktopToken(ctx context.Context, a Actor, c DesktopChange) (p store.Phone, err error) {
	id, err := d.newID(phonePrefix)
	if err != nil {
		return p, err
	}
	p = store.Phone{ID: id, Type: store.DesktopToken, Created: d.Now()}
	if err := c.phone().apply(&p); err != nil {
		return p, err
	}
	return p, d.update(ctx, "", func(w store.Writer) error { return d.addPhone(w, a, p, "") })
}

// UpdateDesktopToken changes a desktop token.
func (d *Directory) UpdateDesktopToken(ctx context.Context, a Actor, id string, c DesktopChange) (store.Phone, error) {
	return d.updatePhone(ctx, a, id, c.phone(), true)
}

// DeleteDesktopToken removes a desktop token; approvals under way on it become void.
func (d *Directory) DeleteDesktopToken(ctx context.Context, a Actor, id string) error {
	return d.deletePhone(ctx, a, id, true)
}

// ActivateDesktopToken makes an activation code for a desktop token that a user has.
func (d *Directory) ActivateDesktopToken(ctx context.Context, a Actor, id string, valid time.Duration) (Activation, error) {
	return d.activatePhone(ctx, a, id, valid, true)
}
