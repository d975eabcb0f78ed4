// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// WebAuthnCredential is a security key or a platform's authenticator of a user.
type WebAuthnCredential struct {
	ID           string // WA and 18 characters
	UserID       string
	CredentialID []byte // as the authenticator made it; unique
	PublicKey    []byte // COSE
	SignCount    int64
	AAGUID       []byte
	Name         string // of the model
	Label        string // Security Key, Touch ID, …
	Created      time.Time
	LastUsed     time.Time
}

// DesktopAuthenticator is a program on a user's computer that answers for them.
type DesktopAuthenticator struct {
	ID        string // DA and 18 characters
	UserID    string
	PublicKey string // base64 of the SubjectPublicKeyInfo; unique
	Name      string // of the computer
	OSFamily  string
	Created   time.Time
	LastUsed  time.Time
}

// CredentialReader reads what users hold beside phones and tokens. Lists are
// oldest first; userID "" lists everyone's.
type CredentialReader interface {
	WebAuthnCredential(id string) (WebAuthnCredential, error)
	WebAuthnCredentials(userID string, p Page) ([]WebAuthnCredential, int, error)
	DesktopAuthenticator(id string) (DesktopAuthenticator, error)
	DesktopAuthenticators(userID string, p Page) ([]DesktopAuthenticator, int, error)
}

// CredentialWriter changes them. To add one of a user who is not there gives ErrNotFound.
type CredentialWriter interface {
	CredentialReader
	AddWebAuthnCredential(WebAuthnCredential) error
	DeleteWebAuthnCredential(id string) error
	AddDesktopAuthenticator(DesktopAuthenticator) error
	DeleteDesktopAuthenticator(id string) error
}
