// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"encoding/base64"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Cost of a password's hash: argon2id, RFC 9106, the second recommended option.
const (
	passwordTime    = 3
	passwordMemory  = 64 << 10 // KiB
	passwordThreads = 4
	passwordSalt    = 16
	passwordHash    = 32
	maxPassword     = 256
)

// hashPassword gives the hash in the PHC string format.
func (d *Directory) hashPassword(password string) (string, error) {
	salt := make([]byte, passwordSalt)
	if _, err := io.ReadFull(d.Random, salt); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	hash := argon2.IDKey([]byte(password), salt, passwordTime, passwordMemory, passwordThreads, passwordHash)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, passwordMemory, passwordTime, passwordThreads,
		b64.EncodeToString(salt), b64.EncodeToString(hash)), nil
}

// checkPassword compares a password with what the settings ask of one.
func checkPassword(s store.Settings, password string) error {
	if len(password) > maxPassword || !utf8.ValidString(password) {
		return invalid("password", fmt.Sprintf("longer than %d bytes", maxPassword))
	}
	if n := utf8.RuneCountInString(password); n < s.MinimumPasswordLength {
		return invalid("password", fmt.Sprintf("shorter than %d characters", s.MinimumPasswordLength))
	}
	var upper, lower, digit, special bool
	for _, c := range password {
		switch {
		case unicode.IsUpper(c):
			upper = true
		case unicode.IsLower(c):
			lower = true
		case unicode.IsDigit(c):
			digit = true
		default:
			special = true
		}
	}
	for _, need := range []struct {
		asked, has bool
		what       string
	}{
		{s.PasswordRequiresUpper, upper, "an upper-case letter"}, {s.PasswordRequiresLower, lower, "a lower-case letter"},
		{s.PasswordRequiresNumeric, digit, "a digit"}, {s.PasswordRequiresSpecial, special, "a character that is neither letter nor digit"},
	} {
		if need.asked && !need.has {
			return invalid("password", "lacks "+need.what)
		}
	}
	return nil
}
