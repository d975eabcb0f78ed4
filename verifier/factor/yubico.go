// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Yubico is Yubico's OTP: what a YubiKey types when it is touched, one AES block
// behind a public id. The block holds a private id, which proves the key, and two
// counters, which only rise: that of the power-ups and that of the touches since.
type Yubico struct{}

// Name implements Factor.
func (Yubico) Name() string { return "yubikey_passcode" }

// YubicoOTP is what a YubiKey's block says.
type YubicoOTP struct {
	PrivateID [YubiPrivateID]byte
	Usage     int // power-ups, 15 bits
	Session   int // touches since
}

// Counter is the place of the code among all that the key has made, as
// store.Token.Counter counts.
func (o YubicoOTP) Counter() int64 { return int64(o.Usage)<<8 | int64(o.Session) }

// Lengths of a code in letters.
const (
	yubicoBlock  = 2 * aes.BlockSize
	maxPublicID  = 32
	crcOfCorrect = 0xf0b8 // of a block with its own checksum at the end
)

// ErrYubico means that a text is no code of that YubiKey.
var ErrYubico = errors.New("not a code of this YubiKey")

// modhex is the alphabet, in the order of the values: letters that stand in the
// same place on most keyboards.
const modhex = "cbdefghijklnrtuv"

var toHex = strings.NewReplacer("c", "0", "b", "1", "d", "2", "e", "3", "f", "4", "g", "5", "h", "6", "i", "7",
	"j", "8", "k", "9", "l", "a", "n", "b", "r", "c", "t", "d", "u", "e", "v", "f")

// isYubico says whether a code has the form of Yubico's OTP, whoever's.
func isYubico(code string) bool {
	return len(code) >= yubicoBlock && len(code) <= yubicoBlock+maxPublicID && len(code)%2 == 0 && strings.Trim(code, modhex) == ""
}

// ParseYubico decrypts a code in lower case with a YubiKey's AES key. The private
// id is for the caller to compare. Errors wrap ErrYubico.
func ParseYubico(key [YubiAESKey]byte, code string) (o YubicoOTP, err error) {
	if !isYubico(code) {
		return o, fmt.Errorf("%w: not 32 to 64 letters of %s", ErrYubico, modhex)
	}
	block, err := hex.DecodeString(toHex.Replace(code[len(code)-yubicoBlock:]))
	if err != nil {
		return o, fmt.Errorf("%w: %w", ErrYubico, err)
	}
	cipher, err := aes.NewCipher(key[:])
	if err != nil {
		return o, fmt.Errorf("make the cipher of a YubiKey: %w", err)
	}
	cipher.Decrypt(block, block)
	if crc(block) != crcOfCorrect {
		return o, fmt.Errorf("%w: checksum", ErrYubico)
	}
	copy(o.PrivateID[:], block)
	o.Usage = int(binary.LittleEndian.Uint16(block[6:]) & 0x7fff)
	o.Session = int(block[11])
	return o, nil
}

// crc is the checksum of ISO 13239, of which Yubico keeps the complement.
func crc(b []byte) uint16 {
	sum := uint16(0xffff)
	for _, v := range b {
		sum ^= uint16(v)
		for range 8 {
			low := sum & 1
			sum >>= 1
			if low == 1 {
				sum ^= 0x8408
			}
		}
	}
	return sum
}

// Find implements Passcode. Caps lock does no harm.
func (f Yubico) Find(h Holder, code string, _ time.Time) ([]Match, error) {
	code = strings.ToLower(code)
	if !isYubico(code) {
		return nil, nil
	}
	var out []Match
	for _, t := range h.Tokens {
		if t.Type != store.YubiKey {
			continue
		}
		secret, err := OpenYubiKey(h.Keys, t)
		if err != nil {
			return nil, err
		}
		otp, err := ParseYubico(secret.AESKey, code)
		if errors.Is(err, ErrYubico) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if subtle.ConstantTimeCompare(otp.PrivateID[:], secret.PrivateID[:]) == 1 {
			out = append(out, tokenMatch(f, t, func(w store.Writer) (bool, error) {
				return w.UseYubicoCounter(h.User.ID, t.ID, otp.Counter())
			}))
		}
	}
	return out, nil
}
