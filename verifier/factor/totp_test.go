// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// rfc6238 holds the SHA-1 values of RFC 6238, appendix B.
var rfc6238 = []struct {
	at   int64
	code string
}{
	{59, "94287082"}, {1111111109, "07081804"}, {1111111111, "14050471"},
	{1234567890, "89005924"}, {2000000000, "69279037"}, {20000000000, "65353130"},
}

func TestTOTPVectors(t *testing.T) {
	k := keys(t)
	for _, v := range rfc6238 {
		for _, c := range []struct {
			typ  store.TokenType
			code string
		}{{store.TOTP8, v.code}, {store.TOTP6, v.code[2:]}} {
			if s := use(t, find(t, TOTP{}, holder(k, token(k, c.typ)), c.code, time.Unix(v.at, 0))); s.step != v.at/30 {
				t.Errorf("%s at %d is step %d, want %d", c.code, v.at, s.step, v.at/30)
			}
		}
	}
}

func TestTOTPWindow(t *testing.T) {
	k := keys(t)
	step := int64(1234567890 / 30)
	for _, c := range []struct {
		off   int64 // of the clock from the code's step, in steps
		last  int64 // watermark
		found bool
	}{
		{-2, -1, false}, {-1, -1, true}, {0, -1, true}, {1, -1, true}, {2, -1, false},
		{0, step, false}, {0, step + 1, false}, {0, step - 1, true}, {1, step - 1, true},
	} {
		tok := token(k, store.TOTP8)
		tok.LastStep = c.last
		m := find(t, TOTP{}, holder(k, tok), "89005924", time.Unix((step+c.off)*30, 0))
		if got := counts(t, m); got != c.found {
			t.Errorf("clock %+d steps, watermark %d: found %v", c.off, c.last, got)
		}
	}
	slow := token(k, store.TOTP8)
	slow.Step = 60
	if s := use(t, find(t, TOTP{}, holder(k, slow), "94287082", time.Unix(119, 0))); s.step != 1 {
		t.Errorf("step of 60 s: %d", s.step)
	}
	// At the beginning of time there is no step before.
	if m := find(t, TOTP{}, holder(k, token(k, store.TOTP6)), "000000", time.Unix(0, 0)); len(m) != 0 {
		t.Errorf("%d matches", len(m))
	}
}
