// SPDX-License-Identifier: Apache-2.0

// Package offlinecode is the arithmetic of offline codes, which verifier, host
// and authenticator share: from root to key, from key to code. It keeps nothing,
// and decides about no code.
package offlinecode

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
)

const (
	// Size is the length of a root and of a key, in bytes.
	Size = 32
	// Digits is the length of a code.
	Digits = 8
	// Window is how many numbers, from the next one on, a host takes (RFC 4226, 7.4).
	Window = 20
)

// info begins the info of HKDF: it keeps these keys apart from whatever else may
// one day be derived from a root.
const info = "sallyport offline v1"

// ID is what a key is for.
type ID struct {
	HostID, UserID, PhoneID string
	Generation, Edition     int64
}

// Key derives a host's key from the root of an authenticator (HKDF-SHA256, RFC
// 5869). docs/explanation/offline-codes.md has the form of the info.
func Key(root []byte, id ID) ([]byte, error) {
	if len(root) != Size {
		return nil, fmt.Errorf("derive an offline key: the root has %d bytes, not %d", len(root), Size)
	}
	var b []byte
	for _, part := range []string{
		info, id.HostID, id.UserID, id.PhoneID, strconv.FormatInt(id.Generation, 10), strconv.FormatInt(id.Edition, 10),
	} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		b = append(b, part...)
	}
	return hkdf.Key(sha256.New, root, nil, string(b), Size)
}

// Code is the code of a number: HOTP (RFC 4226) with HMAC-SHA-1 and 8 digits.
func Code(key []byte, number int64) (string, error) {
	if number < 0 {
		return "", fmt.Errorf("make an offline code: number %d is negative", number)
	}
	secret := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)
	code, err := hotp.GenerateCodeCustom(secret, uint64(number), hotp.ValidateOpts{Digits: Digits, Algorithm: otp.AlgorithmSHA1})
	if err != nil {
		return "", fmt.Errorf("make an offline code: %w", err)
	}
	return code, nil
}

// Find looks for the number of a code in [from, to). It takes as long for a code
// that is there as for one that is not.
func Find(key []byte, code string, from, to int64) (number int64, found bool, err error) {
	for n := max(from, 0); n < to; n++ {
		want, err := Code(key, n)
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare([]byte(want), []byte(code)) == 1 && !found {
			number, found = n, true
		}
	}
	return number, found, nil
}

// Normalise drops the spaces and hyphens with which people group digits. ok says
// whether what is left can be a code.
func Normalise(typed string) (code string, ok bool) {
	code = strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '\t' {
			return -1
		}
		return r
	}, strings.TrimSpace(typed))
	if len(code) != Digits || strings.Trim(code, "0123456789") != "" {
		return "", false
	}
	return code, true
}

// labelID is how many characters of a host's id stand in its label.
const labelID = 4

// Label names a host for people: the first part of its name, and the first
// characters of its id behind the prefix.
func Label(name, hostID string) string {
	short, _, _ := strings.Cut(name, ".")
	id := strings.TrimPrefix(hostID, "HO")
	return short + "-" + id[:min(labelID, len(id))]
}
