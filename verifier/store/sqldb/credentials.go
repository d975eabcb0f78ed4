// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const webauthnColumns = `id, user_id, credential_id, public_key, sign_count, aaguid, name, label, created, last_used`

func scanWebAuthn(s scanner) (store.WebAuthnCredential, error) {
	var (
		c             store.WebAuthnCredential
		created, used int64
	)
	err := s.Scan(&c.ID, &c.UserID, &c.CredentialID, &c.PublicKey, &c.SignCount, &c.AAGUID, &c.Name, &c.Label, &created, &used)
	c.Created, c.LastUsed = fromMicros(created), fromMicros(used)
	return c, err
}

// ofUser narrows a list to a user's.
func ofUser(userID string) (w where) {
	if userID != "" {
		w.and("user_id = ?", userID)
	}
	return w
}

// WebAuthnCredential implements store.CredentialReader.
func (t *Tx) WebAuthnCredential(id string) (store.WebAuthnCredential, error) {
	return one(t, "WebAuthn credential", scanWebAuthn, `SELECT `+webauthnColumns+` FROM webauthn_credentials WHERE id = $1`, id)
}

// WebAuthnCredentials implements store.CredentialReader.
func (t *Tx) WebAuthnCredentials(userID string, p store.Page) ([]store.WebAuthnCredential, int, error) {
	return page(t, "WebAuthn credentials", scanWebAuthn, webauthnColumns, "webauthn_credentials", "created, id", ofUser(userID), p)
}

// AddWebAuthnCredential implements store.CredentialWriter.
func (t *Tx) AddWebAuthnCredential(c store.WebAuthnCredential) error {
	if err := t.userThere(c.UserID); err != nil {
		return err
	}
	return t.add("WebAuthn credential", `INSERT INTO webauthn_credentials (`+webauthnColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
		c.ID, c.UserID, blob(c.CredentialID), blob(c.PublicKey), c.SignCount, blob(c.AAGUID), c.Name, c.Label,
		micros(c.Created), micros(c.LastUsed))
}

// userThere makes a missing user an ErrNotFound; the foreign key would be an error of the engine's.
func (t *Tx) userThere(id string) error {
	n, err := count(t, `SELECT COUNT(*) FROM users WHERE id = $1`, id)
	if err == nil && n == 0 {
		err = store.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("find user: %w", err)
	}
	return nil
}

// DeleteWebAuthnCredential implements store.CredentialWriter.
func (t *Tx) DeleteWebAuthnCredential(id string) error {
	return t.set("WebAuthn credential", `DELETE FROM webauthn_credentials WHERE id = $1`, id)
}

const desktopColumns = `id, user_id, public_key, name, os_family, created, last_used`

func scanDesktop(s scanner) (store.DesktopAuthenticator, error) {
	var (
		d             store.DesktopAuthenticator
		created, used int64
	)
	err := s.Scan(&d.ID, &d.UserID, &d.PublicKey, &d.Name, &d.OSFamily, &created, &used)
	d.Created, d.LastUsed = fromMicros(created), fromMicros(used)
	return d, err
}

// DesktopAuthenticator implements store.CredentialReader.
func (t *Tx) DesktopAuthenticator(id string) (store.DesktopAuthenticator, error) {
	return one(t, "desktop authenticator", scanDesktop, `SELECT `+desktopColumns+` FROM desktop_authenticators WHERE id = $1`, id)
}

// DesktopAuthenticators implements store.CredentialReader.
func (t *Tx) DesktopAuthenticators(userID string, p store.Page) ([]store.DesktopAuthenticator, int, error) {
	return page(t, "desktop authenticators", scanDesktop, desktopColumns, "desktop_authenticators", "created, id", ofUser(userID), p)
}

// AddDesktopAuthenticator implements store.CredentialWriter.
func (t *Tx) AddDesktopAuthenticator(d store.DesktopAuthenticator) error {
	if err := t.userThere(d.UserID); err != nil {
		return err
	}
	return t.add("desktop authenticator", `INSERT INTO desktop_authenticators (`+desktopColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		d.ID, d.UserID, d.PublicKey, d.Name, d.OSFamily, micros(d.Created), micros(d.LastUsed))
}

// DeleteDesktopAuthenticator implements store.CredentialWriter.
func (t *Tx) DeleteDesktopAuthenticator(id string) error {
	return t.set("desktop authenticator", `DELETE FROM desktop_authenticators WHERE id = $1`, id)
}
