// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func TestOffers(t *testing.T) {
	for _, c := range []struct {
		name             string
		phone            store.Phone
		push, call, text bool
	}{
		{"nothing", store.Phone{}, false, false, false},
		{"authenticator", store.Phone{PublicKey: "K"}, true, false, false},
		{"mobile", store.Phone{Number: "+15550100123", Type: "mobile"}, false, true, true},
		{"unknown", store.Phone{Number: "+15550100123", Type: "unknown"}, false, true, true},
		{"landline", store.Phone{Number: "+15550100123", Type: "landline"}, false, true, false},
		{"extension", store.Phone{Number: "+15550100123", Extension: "7"}, false, true, false},
	} {
		if (Push{}).Offers(c.phone) != c.push || (Phone{}).Offers(c.phone) != c.call || (SMS{}).Offers(c.phone) != c.text {
			t.Errorf("%s: push %v, call %v, SMS %v", c.name, Push{}.Offers(c.phone), Phone{}.Offers(c.phone), SMS{}.Offers(c.phone))
		}
	}
}

func TestMask(t *testing.T) {
	for in, want := range map[string]string{"+1 555 010 0123": "XXX-XXX-0123", "": "", "12345": "XXXXX", "+4930123456": "XXX-XXX-3456"} {
		if got := Mask(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
