// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"io"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// BypassDigits is the length of bypass codes; those given by hand are no shorter.
// With the lock-out after failures a guess has less than one chance in 10^8 each time.
const BypassDigits = 9

// Bypass is a code that an administrator hands out. It is found by its keyed
// hash, so that neither the database nor the time of the search betrays it.
type Bypass struct{}

// Name implements Factor.
func (Bypass) Name() string { return "bypass_code" }

// NewBypassCode makes a code.
func NewBypassCode(random io.Reader) (string, error) { return Digits(random, BypassDigits) }

// HashBypass is the stored form of a user's bypass code.
func HashBypass(keys *seal.Keys, userID, code string) []byte {
	return keys.Hash("bypass", code, userID)
}

// Find implements Passcode.
func (f Bypass) Find(h Holder, code string, now time.Time) ([]Match, error) {
	if len(code) < BypassDigits {
		return nil, nil
	}
	b, err := h.Reader.BypassCodeByHash(h.User.ID, HashBypass(h.Keys, h.User.ID, code))
	return optional(Match{
		Factor: f.Name(),
		Device: store.AuthDevice{Key: b.ID, Name: "bypass code"},
		Use:    func(w store.Writer) (bool, error) { return w.UseBypassCode(h.User.ID, b.ID, now) },
	}, err)
}
