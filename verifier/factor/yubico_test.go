// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"crypto/aes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func bytesOf(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestYubicoVectors: the first code and key are those of ykparse in Yubico's
// libyubikey, the second those of a widely used Python library.
func TestYubicoVectors(t *testing.T) {
	for _, c := range []struct {
		key, code, id  string
		usage, session int
	}{
		{"ecde18dbe76fbd0c33330f1c354871db", "dteffujehknhfjbrjnlnldnhcujvddbikngjrtgh", "8792ebfe26cc", 19, 17},
		{hex.EncodeToString([]byte("0123456789abcdef")), "htikicighdhrhkhehkhfefnijnthcvncrgbrrklcfrhndchilifi", "", 5, 0},
	} {
		key := [YubiAESKey]byte(bytesOf(t, c.key))
		o, err := ParseYubico(key, c.code)
		if err != nil || o.Usage != c.usage || o.Session != c.session || c.id != "" && hex.EncodeToString(o.PrivateID[:]) != c.id {
			t.Errorf("%s: %+v, %v", c.code, o, err)
		}
		if o.Counter() != int64(c.usage)*256+int64(c.session) {
			t.Errorf("counter %d", o.Counter())
		}
		// Any other letter in the block breaks the checksum.
		for i := len(c.code) - 32; i < len(c.code); i++ {
			other := c.code[:i] + string(modhex[(strings.IndexByte(modhex, c.code[i])+1)%16]) + c.code[i+1:]
			if _, err := ParseYubico(key, other); !errors.Is(err, ErrYubico) {
				t.Errorf("%s: %v", other, err)
			}
		}
		key[0] ^= 1
		if _, err := ParseYubico(key, c.code); !errors.Is(err, ErrYubico) {
			t.Errorf("another key: %v", err)
		}
	}
	if sum := crc([]byte("123456789")); sum^0xffff != 0x906e {
		t.Errorf("checksum %04x, want the check value of CRC-16/X-25", sum^0xffff)
	}
}

// typed is what the YubiKey types.
func typed(t testing.TB, s YubiSecret, usage, session int) string {
	t.Helper()
	block := make([]byte, aes.BlockSize)
	copy(block, s.PrivateID[:])
	binary.LittleEndian.PutUint16(block[6:], uint16(usage))
	block[11] = byte(session)
	binary.LittleEndian.PutUint16(block[14:], ^crc(block[:14]))
	c, err := aes.NewCipher(s.AESKey[:])
	if err != nil {
		t.Fatal(err)
	}
	c.Encrypt(block, block)
	out := "vvccbd"
	for _, b := range block {
		out += string(modhex[b>>4]) + string(modhex[b&15])
	}
	return out
}

func TestYubicoFind(t *testing.T) {
	k := keys(t)
	secret := YubiSecret{PrivateID: [6]byte{1, 2, 3, 4, 5, 6}, AESKey: [16]byte{7}}
	token := store.Token{ID: "DHyk", Type: store.YubiKey, SecretSealed: SealYubiKey(k, "DHyk", secret)}
	h := holder(k, token)
	code := typed(t, secret, 3, 2)
	if s := use(t, find(t, Yubico{}, h, code, time.Time{})); s.counter != 3<<8|2 {
		t.Errorf("counter %d", s.counter)
	}
	if m := find(t, Yubico{}, h, strings.ToUpper(code), time.Time{}); len(m) != 1 || m[0].Factor != "yubikey_passcode" {
		t.Errorf("with caps lock: %+v", m)
	}
	if s := use(t, find(t, Yubico{}, h, typed(t, secret, 0x8003, 2), time.Time{})); s.counter != 3<<8|2 {
		t.Errorf("the flag above the counter counts: %x", s.counter)
	}
	stranger := secret
	stranger.PrivateID[5]++
	for what, other := range map[string]string{
		"another private id": typed(t, stranger, 3, 2), "cut": code[2:6] + code[8:], "odd": code + "c", "no modhex": "a" + code[1:],
		"block alone of another": strings.Repeat("c", 32), "digits": "123456", "long": strings.Repeat("c", 34) + code[6:],
	} {
		if m := find(t, Yubico{}, h, other, time.Time{}); len(m) != 0 {
			t.Errorf("%s was found", what)
		}
	}
	if m := find(t, Yubico{}, h, code[6:], time.Time{}); len(m) != 1 {
		t.Error("without a public id it was not found")
	}
	token.ID = "DHother"
	if _, err := (Yubico{}).Find(holder(k, token), code, time.Time{}); err == nil {
		t.Error("a secret sealed for another token was opened")
	}
}

func FuzzYubico(f *testing.F) {
	secret := YubiSecret{PrivateID: [6]byte{1, 2, 3, 4, 5, 6}, AESKey: [16]byte{7}}
	f.Add(typed(f, secret, 3, 2))
	f.Add("dteffujehknhfjbrjnlnldnhcujvddbikngjrtgh")
	f.Add(strings.Repeat("c", 64))
	f.Fuzz(func(t *testing.T, code string) {
		o, err := ParseYubico(secret.AESKey, code)
		if err != nil {
			return
		}
		if o.Usage < 0 || o.Usage > 0x7fff || o.Session < 0 || o.Session > 0xff || !isYubico(code) {
			t.Fatalf("%q: %+v", code, o)
		}
	})
}
