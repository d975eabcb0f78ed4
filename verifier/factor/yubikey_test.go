// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"bytes"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func TestYubiKeySecret(t *testing.T) {
	k := keys(t)
	in := YubiSecret{PrivateID: [6]byte{1, 2, 3, 4, 5, 6}, AESKey: [16]byte{7, 8, 9}}
	sealed := SealYubiKey(k, "DH1", in)
	if bytes.Contains(sealed, in.AESKey[:3]) {
		t.Error("the stored form holds the key in clear")
	}
	out, err := OpenYubiKey(k, store.Token{ID: "DH1", Type: store.YubiKey, SecretSealed: sealed})
	if err != nil || out != in {
		t.Errorf("%v, %v", out, err)
	}
	for name, other := range map[string]store.Token{
		"another token":    {ID: "DH2", Type: store.YubiKey, SecretSealed: sealed},
		"another type":     {ID: "DH1", Type: store.HOTP6, SecretSealed: sealed},
		"a secret of HOTP": {ID: "DH1", Type: store.YubiKey, SecretSealed: SealToken(k, "DH1", []byte(rfcSecret))},
	} {
		if _, err := OpenYubiKey(k, other); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
