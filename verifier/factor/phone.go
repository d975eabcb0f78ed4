// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"strings"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Phone is a call that the person answers with a key.
type Phone struct{}

// Name implements Factor.
func (Phone) Name() string { return "phone_call" }

// Offers implements Prompt.
func (Phone) Offers(p store.Phone) bool { return p.Number != "" }

// Mask hides a number but for its last four digits.
func Mask(number string) string {
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, number)
	if len(digits) < 8 { // too short to hide anything behind four
		return strings.Repeat("X", len(digits))
	}
	return "XXX-XXX-" + digits[len(digits)-4:]
}
