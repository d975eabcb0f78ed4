// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"errors"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Lengths of what a YubiKey's slot is programmed with, in bytes.
const (
	YubiPrivateID = 6
	YubiAESKey    = 16
)

// YubiSecret is what a YubiKey's slot for Yubico's OTP is programmed with.
type YubiSecret struct {
	PrivateID [YubiPrivateID]byte
	AESKey    [YubiAESKey]byte
}

// SealYubiKey is the stored form of the secret of the YubiKey with that id.
func SealYubiKey(keys *seal.Keys, id string, s YubiSecret) []byte {
	return SealToken(keys, id, append(s.PrivateID[:], s.AESKey[:]...))
}

// OpenYubiKey unseals what SealYubiKey made.
func OpenYubiKey(keys *seal.Keys, t store.Token) (s YubiSecret, err error) {
	plain, err := keys.Open(t.SecretSealed, sealedToken, t.ID)
	if err != nil {
		return s, err
	}
	if t.Type != store.YubiKey || len(plain) != YubiPrivateID+YubiAESKey {
		return s, errors.New("the token is no YubiKey")
	}
	copy(s.PrivateID[:], plain)
	copy(s.AESKey[:], plain[YubiPrivateID:])
	return s, nil
}
