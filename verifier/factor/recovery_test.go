// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"bytes"
	"crypto/rand"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
)

func TestRecoveryCodeForms(t *testing.T) {
	keys, err := seal.Create(filepath.Join(t.TempDir(), "keys"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := regexp.MustCompile(`^[0-9a-hjkmnp-tv-z]{4}(-[0-9a-hjkmnp-tv-z]{4}){3}$`)
	seen := map[string]bool{}
	for range 200 {
		code, err := NewRecoveryCode(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !form.MatchString(code) || seen[code] {
			t.Fatalf("code %q", code)
		}
		seen[code] = true
		want := HashRecovery(keys, "DU1", code)
		plain := strings.ReplaceAll(code, "-", "")
		for _, typed := range []string{strings.ToUpper(code), plain, " " + strings.ReplaceAll(code, "-", " ") + " "} {
			if want == nil || !bytes.Equal(HashRecovery(keys, "DU1", typed), want) {
				t.Errorf("%q is not read as %q", typed, code)
			}
		}
		if bytes.Equal(HashRecovery(keys, "DU2", code), want) {
			t.Error("two people's codes have one hash")
		}
	}
	same := HashRecovery(keys, "DU1", "0011-1abc-defg-hjkm")
	for _, typed := range []string{"oO1l-IABC-DEFG-HJKM", "OOILiabcdefghjkm"} {
		if !bytes.Equal(HashRecovery(keys, "DU1", typed), same) {
			t.Errorf("%q is not read as 0011-1abc-defg-hjkm", typed)
		}
	}
	for _, no := range []string{"", "0011-1abc-defg-hjk", "0011-1abc-defg-hjkmm", "0011-1abc-defg-hjku", "0011-1abc-defg-hjk!", "ccccccbcgujhingjrdejhgfnuetrgigvejhhgbkugded"} {
		if HashRecovery(keys, "DU1", no) != nil {
			t.Errorf("%q is taken for a recovery code", no)
		}
	}
}
