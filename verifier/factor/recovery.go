// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// RecoveryCodes is how many recovery codes a set has.
const RecoveryCodes = 10

// A recovery code is recoveryLength characters of Crockford's base32
// (https://www.crockford.com/base32.html), which is 80 bits: no guess at all
// against a hash, nor at a login.
const (
	recoveryLength   = 16
	recoveryAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	recoveryGroup    = 4
)

// Recovery is a code of the set that a person keeps for the day without a phone.
// It is a bypass code that the person made: found by its keyed hash, and named like
// one in the log, but for its device.
type Recovery struct{}

// RecoveryDevice is the name of the device in the log of a login with a recovery code.
const RecoveryDevice = "recovery code"

// Name implements Factor.
func (Recovery) Name() string { return Bypass{}.Name() }

// NewRecoveryCode makes a code in the form xxxx-xxxx-xxxx-xxxx.
func NewRecoveryCode(random io.Reader) (string, error) {
	b := make([]byte, recoveryLength)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("make a recovery code: %w", err)
	}
	var code strings.Builder
	for i, v := range b {
		if i > 0 && i%recoveryGroup == 0 {
			code.WriteByte('-')
		}
		code.WriteByte(recoveryAlphabet[v%byte(len(recoveryAlphabet))]) // 32 divides 256: all alike
	}
	return strings.ToLower(code.String()), nil
}

// canonicalRecovery is the one form of a code that was typed, without spaces and
// hyphens: upper case, with O read as 0, and I and L as 1. False: it cannot be one.
func canonicalRecovery(code string) (string, bool) {
	if len(code) != recoveryLength {
		return "", false
	}
	code = strings.NewReplacer("O", "0", "I", "1", "L", "1").Replace(strings.ToUpper(code))
	for _, c := range code {
		if !strings.ContainsRune(recoveryAlphabet, c) {
			return "", false
		}
	}
	return code, true
}

// HashRecovery is the stored form of a user's recovery code, in any form in which it
// may be typed; nil: it is none.
func HashRecovery(keys *seal.Keys, userID, code string) []byte {
	canonical, ok := canonicalRecovery(Normalise(code))
	if !ok {
		return nil
	}
	return keys.Hash("recovery", canonical, userID)
}

// Find implements Passcode.
func (f Recovery) Find(h Holder, code string, now time.Time) ([]Match, error) {
	hash := HashRecovery(h.Keys, h.User.ID, code)
	if hash == nil {
		return nil, nil
	}
	b, err := h.Reader.BypassCodeByHash(h.User.ID, hash)
	return optional(Match{
		Factor:   f.Name(),
		Recovery: true,
		Device:   store.AuthDevice{Key: b.ID, Name: RecoveryDevice},
		Use:      func(w store.Writer) (bool, error) { return w.UseBypassCode(h.User.ID, b.ID, now) },
	}, err)
}
