// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// PushSubscription is where an authenticator is notified. It counts while the
// phone has a key and is in that generation.
type PushSubscription struct {
	PhoneID    string
	Generation int64
	Edition    string // random: tells it from the one before and the one after
	Sealed     []byte
	Created    time.Time
}

// PushKeyID is the id of the one push key.
const PushKeyID = "vapid"

// PushReader reads what Web Push needs.
type PushReader interface {
	// PushKey is the sealed key by which push services know the verifier.
	PushKey() ([]byte, error)
	// PushSubscription is the subscription of a phone that counts.
	PushSubscription(phoneID string) (PushSubscription, error)
}

// PushWriter changes what Web Push needs.
type PushWriter interface {
	// AddPushKey keeps the key, once and for all. False: there is one already.
	AddPushKey(sealed []byte, now time.Time) (bool, error)
	// SetPushSubscription puts a subscription in the place of the phone's other one.
	// False: the phone has no key, or is in another generation.
	SetPushSubscription(s PushSubscription) (bool, error)
	// DeletePushSubscription deletes the phone's subscription, if it is of that
	// generation and edition; an empty edition stands for any. False: it is not.
	DeletePushSubscription(phoneID string, generation int64, edition string) (bool, error)
}
