// SPDX-License-Identifier: Apache-2.0

// Package breakglass owns the codes that let a host's owner in when authd or the
// verifier cannot: their form, the store in which each works once, the copy of
// authd's rules that stands while authd does not, and authd's way to ask
// sallyport-breakglass. It never decides a login by itself, it never prints or
// keeps a code but to hand it out once, and it needs neither network nor
// configuration file. docs/explanation/break-glass.md has the whole of it.
package breakglass

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A code is bg-SSSS-XXXX-XXXX-XXXX-XXXX-XXCC in Crockford's base32: four
// characters that name it, 18 of secret, two that tell a slip of the finger.
const (
	prefix      = "BG"
	idLength    = 4
	secretChars = 18
	checkChars  = 2
	codeLength  = idLength + secretChars + checkChars
	groupLength = 4
	alphabet    = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)

// SecretBits is the entropy of a code beside its name, in bits.
const SecretBits = secretChars * 5

// Code is one break-glass code. The zero value is none.
type Code struct {
	id     string
	secret string
}

// ID is the part that names the code: four characters, no secret.
func (c Code) ID() string { return c.id }

// Reveal is the code as it is printed and typed.
func (c Code) Reveal() string {
	text := c.id + c.secret + check(c.id, c.secret)
	var b strings.Builder
	b.WriteString(strings.ToLower(prefix))
	for i := 0; i < len(text); i += groupLength {
		b.WriteString("-" + text[i:i+groupLength])
	}
	return b.String()
}

// String hides the secret, so that no log can have it.
func (c Code) String() string { return "bg-" + c.id + "-…" }

// GoString hides the secret from %#v.
func (c Code) GoString() string { return c.String() }

// Errors of ParseCode.
var (
	// ErrForm says that the text is no break-glass code at all.
	ErrForm = errors.New("not a break-glass code: it has the form bg-XXXX-XXXX-XXXX-XXXX-XXXX-XXXX")
	// ErrTypo says that the text has the form of a code but its check characters
	// are wrong: mistyped, not guessed.
	ErrTypo = errors.New("the code is mistyped: its last two characters do not fit the rest")
)

// ParseCode reads a code as a person types it: in either case, with blanks and
// hyphens anywhere, O for 0, I and L for 1, the prefix left out. Errors are
// ErrForm and ErrTypo.
func ParseCode(text string) (Code, error) {
	plain, ok := normalize(text)
	if !ok || len(plain) != codeLength {
		return Code{}, ErrForm
	}
	c := Code{id: plain[:idLength], secret: plain[idLength : idLength+secretChars]}
	want := check(c.id, c.secret)
	if subtle.ConstantTimeCompare([]byte(want), []byte(plain[codeLength-checkChars:])) != 1 {
		return Code{}, ErrTypo
	}
	return c, nil
}

// LooksLike says that an answer at a prompt is meant as a break-glass code, a
// mistyped one too: it begins with bg-, or has the length and the letters of one.
// No passcode of the verifier and no offline code does.
func LooksLike(answer string) bool {
	trimmed := strings.ToUpper(strings.TrimSpace(answer))
	if strings.HasPrefix(trimmed, prefix+"-") {
		return true
	}
	plain, ok := normalize(answer)
	return ok && len(plain) == codeLength && strings.ContainsAny(plain, alphabet[10:])
}

// maxTyped bounds what is looked at: a code with a blank or hyphen after each
// character is shorter.
const maxTyped = 128

// normalize gives the characters of a code without prefix; ok is false where one
// belongs to no code.
func normalize(text string) (plain string, ok bool) {
	if len(text) > maxTyped {
		return "", false
	}
	var b strings.Builder
	for _, r := range strings.ToUpper(text) {
		switch r {
		case '-', ' ', '\t', '\r', '\n':
			continue
		case 'O':
			r = '0'
		case 'I', 'L':
			r = '1'
		}
		if !strings.ContainsRune(alphabet, r) {
			return "", false
		}
		b.WriteRune(r)
	}
	plain = b.String()
	if len(plain) == len(prefix)+codeLength {
		plain = strings.TrimPrefix(plain, prefix)
	}
	return plain, true
}

// check makes the check characters: ten bits of a hash, which miss one slip in a
// thousand.
func check(id, secret string) string {
	sum := sha256.Sum256([]byte("sallyport break-glass code\x00" + id + secret))
	return string([]byte{alphabet[sum[0]&31], alphabet[sum[1]&31]})
}

// newCode makes a code whose name is not taken.
func newCode(random io.Reader, taken func(id string) bool) (Code, error) {
	for range 100 {
		id, err := randomText(random, idLength)
		if err != nil {
			return Code{}, err
		}
		if taken(id) {
			continue
		}
		secret, err := randomText(random, secretChars)
		return Code{id: id, secret: secret}, err
	}
	return Code{}, errors.New("make a code: no free name found in a hundred tries")
}

// randomText makes characters of five random bits each.
func randomText(random io.Reader, n int) (string, error) {
	b := make([]byte, n)
	if _, err := io.ReadFull(random, b); err != nil {
		return "", fmt.Errorf("make a code: read random bytes: %w", err)
	}
	for i := range b {
		b[i] = alphabet[b[i]&31]
	}
	return string(b), nil
}
