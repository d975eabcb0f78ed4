// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// shelf is a reader that holds one bypass code and one SMS code.
type shelf struct {
	store.Reader
	bypass, sms []byte
}

func (s shelf) BypassCodeByHash(_ string, hash []byte) (store.BypassCode, error) {
	if !bytes.Equal(hash, s.bypass) {
		return store.BypassCode{}, store.ErrNotFound
	}
	return store.BypassCode{ID: "DB1"}, nil
}

func (s shelf) SMSCodeByHash(_ string, hash []byte) (store.SMSCode, error) {
	if !bytes.Equal(hash, s.sms) {
		return store.SMSCode{}, store.ErrNotFound
	}
	return store.SMSCode{ID: "DS1", PhoneID: "DP1"}, nil
}

func TestCodes(t *testing.T) {
	k := keys(t)
	for _, c := range []struct {
		factor Passcode
		make   func() (string, error)
		hash   func(*seal.Keys, string, string) []byte
		digits int
		id     string
	}{
		{Bypass{}, func() (string, error) { return NewBypassCode(rand.Reader) }, HashBypass, BypassDigits, "DB1"},
		{SMS{}, func() (string, error) { return NewSMSCode(rand.Reader) }, HashSMS, SMSDigits, "DS1"},
	} {
		code, err := c.make()
		if err != nil || len(code) != c.digits {
			t.Fatalf("%s: %q, %v", c.factor.Name(), code, err)
		}
		hash := c.hash(k, "DU1", code)
		h := holder(k)
		h.Reader = shelf{bypass: hash, sms: hash}
		if s := use(t, find(t, c.factor, h, code, time.Time{})); s.code != c.id {
			t.Errorf("%s uses %q", c.factor.Name(), s.code)
		}
		if m := find(t, c.factor, h, code+"0", time.Time{}); len(m) != 0 {
			t.Errorf("%s: another code was found", c.factor.Name())
		}
		h.User.ID = "DU2"
		if m := find(t, c.factor, h, code, time.Time{}); len(m) != 0 {
			t.Errorf("%s: another user's code was found", c.factor.Name())
		}
	}
	if bytes.Equal(HashBypass(k, "DU1", "1234567"), HashSMS(k, "DU1", "1234567")) {
		t.Error("a bypass code and an SMS code have the same hash")
	}
}
