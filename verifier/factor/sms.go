// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"io"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// SMSDigits is the length of codes sent by SMS. It differs from that of other
// passcodes, so that none is taken for another.
const SMSDigits = 7

// SMS is a code that went to the person's phone as a text message.
type SMS struct{}

// Name implements Factor.
func (SMS) Name() string { return "sms_passcode" }

// Offers implements Prompt: a mobile number takes text messages, an unknown one may.
func (SMS) Offers(p store.Phone) bool {
	return p.Number != "" && p.Extension == "" && p.Type != "landline"
}

// NewSMSCode makes a code.
func NewSMSCode(random io.Reader) (string, error) { return Digits(random, SMSDigits) }

// HashSMS is the stored form of a code sent to a user.
func HashSMS(keys *seal.Keys, userID, code string) []byte { return keys.Hash("sms", code, userID) }

// Find implements Passcode.
func (f SMS) Find(h Holder, code string, now time.Time) ([]Match, error) {
	if len(code) != SMSDigits {
		return nil, nil
	}
	c, err := h.Reader.SMSCodeByHash(h.User.ID, HashSMS(h.Keys, h.User.ID, code))
	return optional(Match{
		Factor: f.Name(),
		Device: store.AuthDevice{Key: c.PhoneID, Name: "SMS"},
		Use:    func(w store.Writer) (bool, error) { return w.UseSMSCode(h.User.ID, c.ID, now) },
	}, err)
}
