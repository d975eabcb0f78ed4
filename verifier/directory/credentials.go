// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// DeleteWebAuthnCredential takes a security key, or a platform's authenticator, from its user.
func (d *Directory) DeleteWebAuthnCredential(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		c, err := w.WebAuthnCredential(id)
		if err != nil {
			return err
		}
		u, err := w.User(c.UserID)
		if err != nil {
			return err
		}
		if err := w.DeleteWebAuthnCredential(id); err != nil {
			return fmt.Errorf("delete WebAuthn credential: %w", err)
		}
		return d.audit(w, a, "webauthncredential_delete", u.Username, whole("webauthnkey", id, fields{
			"user_id": u.ID, "credential_name": c.Name, "label": c.Label,
		}))
	})
}

// DeleteDesktopAuthenticator takes a desktop authenticator from its user.
func (d *Directory) DeleteDesktopAuthenticator(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		c, err := w.DesktopAuthenticator(id)
		if err != nil {
			return err
		}
		u, err := w.User(c.UserID)
		if err != nil {
			return err
		}
		if err := w.DeleteDesktopAuthenticator(id); err != nil {
			return fmt.Errorf("delete desktop authenticator: %w", err)
		}
		return d.audit(w, a, "desktop_authenticator_delete", u.Username, whole("dakey", id, fields{
			"user_id": u.ID, "device_name": c.Name, "os_family": c.OSFamily,
		}))
	})
}
