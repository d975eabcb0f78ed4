// SPDX-License-Identifier: Apache-2.0

// Package notice names what people are told about their own account, so that
// somebody who uses it in their place does not stay unnoticed. It holds no text
// and no way to reach anyone; package mail has both.
package notice

import (
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Kinds of notices. Each is also the name of its text.
const (
	LinkUsed                = "link_used"                 // an enrolment link of the person was used
	AuthenticatorAdded      = "authenticator_added"       // a device can approve logins
	AuthenticatorRemoved    = "authenticator_removed"     // a device cannot any more
	AuthenticatorMoved      = "authenticator_moved"       // another device took the place of one
	TokenAdded              = "token_added"               // a program or device shows passcodes
	RecoveryCodesMade       = "recovery_codes_made"       // a new set; the one before is void
	RecoveryCodeUsed        = "recovery_code_used"        // somebody logged in with one
	UserVerificationRemoved = "user_verification_removed" // approvals need no fingerprint, face or PIN any more
	LockedAfterFraud        = "locked_after_fraud"        // a login was reported with "it was not me"
)

// Kinds lists them.
func Kinds() []string {
	return []string{
		LinkUsed, AuthenticatorAdded, AuthenticatorRemoved, AuthenticatorMoved, TokenAdded, RecoveryCodesMade, RecoveryCodeUsed,
		UserVerificationRemoved, LockedAfterFraud,
	}
}

// Facts that the texts know. All may be missing. They are data from strangers,
// which whoever shows them makes fit to be shown.
const (
	Authenticator = "authenticator" // name of the device
	Platform      = "platform"      // of the device, such as Android
	Address       = "address"       // network address that the cause came from
	Application   = "application"   // that somebody logged in to
	Host          = "host"          // that somebody logged in to
	Left          = "left"          // how many recovery codes are left
)

// Notices tells people. It is safe for concurrent use.
type Notices interface {
	// Notify puts a notice for a user into the update that causes it: it goes out
	// if the update is committed, later, and only then. A user who cannot be
	// reached is no error. It never waits for the network.
	Notify(w store.Writer, userID, kind string, facts map[string]string) error
}

// Tell is n.Notify; a nil n tells nobody.
func Tell(n Notices, w store.Writer, userID, kind string, facts map[string]string) error {
	if n == nil {
		return nil
	}
	if err := n.Notify(w, userID, kind, facts); err != nil {
		return fmt.Errorf("tell the person (%s): %w", kind, err)
	}
	return nil
}
