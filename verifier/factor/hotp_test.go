// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// rfc4226 holds the values of RFC 4226, appendix D.
var rfc4226 = []string{"755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"}

func TestHOTPVectors(t *testing.T) {
	k := keys(t)
	for i, code := range rfc4226 {
		if s := use(t, find(t, HOTP{}, holder(k, token(k, store.HOTP6)), code, time.Time{})); s.counter != int64(i) {
			t.Errorf("%s is counter %d, want %d", code, s.counter, i)
		}
	}
}

func TestHOTPLookAhead(t *testing.T) {
	k := keys(t)
	tok := token(k, store.HOTP6)
	for _, c := range []struct {
		next  int64
		code  string
		found bool
	}{
		{3, rfc4226[2], false}, {3, rfc4226[3], true}, {0, rfc4226[9], true},
		{1 << 40, rfc4226[0], false},
	} {
		tok.Counter = c.next
		if got := len(find(t, HOTP{}, holder(k, tok), c.code, time.Time{})) == 1; got != c.found {
			t.Errorf("next %d, code %s: found %v", c.next, c.code, got)
		}
	}
	tok.Counter = 0
	far, err := value("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", LookAhead, 6)
	if err != nil {
		t.Fatal(err)
	}
	if m := find(t, HOTP{}, holder(k, tok), far, time.Time{}); counts(t, m) {
		t.Errorf("a code %d ahead was found", LookAhead)
	}
	if m := find(t, HOTP{}, holder(k, token(k, store.HOTP8)), rfc4226[0], time.Time{}); len(m) != 0 {
		t.Error("6 digits for a token of 8")
	}
	if m := find(t, HOTP{}, holder(k, token(k, store.TOTP6)), rfc4226[0], time.Unix(0, 0)); len(m) != 0 {
		t.Error("a TOTP token was taken for an HOTP token")
	}
}

func TestResync(t *testing.T) {
	k := keys(t)
	tok := token(k, store.HOTP6)
	next, ok, err := Resync(k, tok, rfc4226[5:8])
	if err != nil || !ok || next != 8 {
		t.Fatalf("%d, %v, %v", next, ok, err)
	}
	tok.Counter = 6
	if _, ok, err := Resync(k, tok, rfc4226[5:8]); err != nil || ok {
		t.Fatalf("codes before the counter: %v, %v", ok, err)
	}
	tok.Counter = 0
	for _, codes := range [][]string{nil, {rfc4226[1]}, {rfc4226[1], rfc4226[3]}, {rfc4226[2], rfc4226[1]}} {
		if _, ok, err := Resync(k, tok, codes); err != nil || ok {
			t.Errorf("%v: %v, %v", codes, ok, err)
		}
	}
}
