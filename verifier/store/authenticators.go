// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// Announcement is what an authenticator has said of itself. It proves nothing.
type Announcement struct {
	PhoneID      string
	Generation   int64 // of the phone, in which it holds
	Program      string
	Capabilities []string
	Announced    time.Time
}

// UserVerification is the WebAuthn credential by which an authenticator has its
// person verified.
type UserVerification struct {
	PhoneID      string
	CredentialID string // base64url without padding
	PublicKey    []byte // COSE (RFC 9052)
	SignCount    int64  // the highest seen; 0: the credential may not count
	Created      time.Time
}

// Purposes of a VerificationChallenge.
const (
	ChallengeRegister  = "register"
	ChallengeOperation = "operation"
)

// VerificationChallenge is a challenge of WebAuthn that waits for its one use.
type VerificationChallenge struct {
	Hash       []byte // SHA-256
	PhoneID    string
	Generation int64
	Purpose    string
	Created    time.Time
	Expires    time.Time
}

// MaxChallenges is how many challenges of one authenticator wait; another voids
// the oldest.
const MaxChallenges = 8

// AuthenticatorReader reads what belongs to the key of a phone.
type AuthenticatorReader interface {
	// Announcement is what the activated phone has said in its present generation.
	Announcement(phoneID string) (Announcement, error)
	UserVerification(phoneID string) (UserVerification, error)
}

// AuthenticatorWriter changes what belongs to the key of a phone. All of it goes
// when the phone is deactivated, or activated anew.
type AuthenticatorWriter interface {
	// SetAnnouncement keeps it in place of the one before. False: the phone is not
	// activated in that generation.
	SetAnnouncement(Announcement) (bool, error)
	// AddVerification gives an activated phone of that generation, which has none,
	// user verification. Approvals that were begun without it lose.
	AddVerification(v UserVerification, generation int64) (bool, error)
	// CountVerification notes a use of that very credential: the count must move
	// forward, or be 0 as it always was.
	CountVerification(phoneID, credentialID string, signCount int64) (bool, error)
	// RemoveVerification takes that very credential away.
	RemoveVerification(phoneID, credentialID string) (bool, error)
	AddChallenge(VerificationChallenge) error
	// UseChallenge spends a challenge that was made for that purpose, and for that
	// activated phone in that generation, and has not expired.
	UseChallenge(c VerificationChallenge, now time.Time) (bool, error)
}
