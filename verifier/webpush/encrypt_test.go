// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/test/pushservice"
)

func unbase64(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func private(t testing.TB, text string) *ecdh.PrivateKey {
	t.Helper()
	key, err := ecdh.P256().NewPrivateKey(unbase64(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestRFC8291 makes the very message of RFC 8291, section 5 and appendix A.
func TestRFC8291(t *testing.T) {
	body, err := encrypt([]byte("When I grow up, I want to be a watermelon"), 0,
		private(t, "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94").PublicKey(), unbase64(t, "BTBZMqHH6r4Tts7J_aSIgg"),
		private(t, "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"), unbase64(t, "DGv6ra1nlYgDCS1FRnbzlw"))
	const want = `DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml
		mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT
		pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN`
	if err != nil || string(body) != string(unbase64(t, want)) {
		t.Errorf("got %s, %v", base64.RawURLEncoding.EncodeToString(body), err)
	}
}

// A receiver opens what is padded, up to the largest record that RFC 8291 permits.
func TestPadding(t *testing.T) {
	to := private(t, "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")
	auth := unbase64(t, "BTBZMqHH6r4Tts7J_aSIgg")
	seal := func(plain string, padTo int) ([]byte, error) {
		sender, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return encrypt([]byte(plain), padTo, to.PublicKey(), auth, sender, unbase64(t, "DGv6ra1nlYgDCS1FRnbzlw"))
	}
	for _, c := range []struct {
		plain string
		padTo int
		size  int // of the ciphertext
	}{
		{"", 0, 17}, {"a", 0, 18}, {"a", 64, 81}, {string(test.payload()), 64, 81}, {strings.Repeat("x", 70), 64, 87},
		{"ends in zeros\x00\x00", 64, 81}, {strings.Repeat("x", recordSize-17), 0, recordSize},
	} {
		body, err := seal(c.plain, c.padTo)
		if err != nil || len(body) != 21+65+c.size {
			t.Fatalf("%d bytes padded to %d: %d bytes, %v", len(c.plain), c.padTo, len(body), err)
		}
		plain, err := pushservice.Decrypt(body, to, auth)
		if err != nil || string(plain) != c.plain {
			t.Errorf("%q: %q, %v", c.plain, plain, err)
		}
	}
	if _, err := seal(strings.Repeat("x", recordSize-16), 0); err == nil {
		t.Error("what does not fit into a record was encrypted")
	}
}
