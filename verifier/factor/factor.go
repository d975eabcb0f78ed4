// SPDX-License-Identifier: Apache-2.0

// Package factor knows each way to prove who one is: how its codes and answers
// are made and recognised. A factor is one file. It never decides that someone
// may log in: what it finds is a Match, and only the store's conditional
// statement behind Match.Use says whether it counts.
package factor

import (
	"errors"
	"fmt"
	"io"
	"math/big"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Factor is a way to prove who one is.
type Factor interface {
	// Name is the factor's name in the authentication log.
	Name() string
}

// Passcode is a Factor that a typed code proves.
type Passcode interface {
	Factor
	// Find looks among what the person holds for everything that code would use.
	// It changes nothing and takes as long for a wrong code as for a right one
	// of the same length.
	Find(h Holder, code string, now time.Time) ([]Match, error)
}

// Prompt is a Factor that reaches the person over another channel.
type Prompt interface {
	Factor
	// Offers says whether the factor can reach a person on that phone.
	Offers(p store.Phone) bool
}

// Holder is a person and what they hold, read before the decision.
type Holder struct {
	Reader store.Reader
	Keys   *seal.Keys
	User   store.User
	Tokens []store.Token
}

// Match is a possible use of a code. It counts only if Use wins.
type Match struct {
	Factor string // name in the authentication log
	Device store.AuthDevice
	// Recovery says that it is a recovery code, of whose use the person is told.
	Recovery bool
	Use      func(w store.Writer) (bool, error)
}

// Passcodes lists the passcode factors in the order in which their matches are tried.
func Passcodes() []Passcode { return []Passcode{TOTP{}, HOTP{}, Yubico{}, SMS{}, Bypass{}, Recovery{}} }

// Names lists the names under which factors stand in the authentication log.
func Names() []string {
	return []string{Push{}.Name(), Phone{}.Name(), SMS{}.Name(), TOTP{}.Name(), Yubico{}.Name(), Bypass{}.Name()}
}

// maxCode bounds what is looked at as a passcode, in bytes.
const maxCode = 64

// Normalise takes the spaces and hyphens out of a passcode that people put in
// to read it better. What no passcode can be becomes empty.
func Normalise(code string) string {
	if len(code) > maxCode {
		return ""
	}
	code = strings.NewReplacer(" ", "", "-", "").Replace(strings.TrimSpace(code))
	for _, c := range code {
		if c < '!' || c > '~' {
			return ""
		}
	}
	return code
}

// Find collects the matches of all passcode factors for a normalised code.
func Find(h Holder, code string, now time.Time) ([]Match, error) {
	var out []Match
	if code == "" {
		return nil, nil
	}
	for _, f := range Passcodes() {
		found, err := f.Find(h, code, now)
		if err != nil {
			return nil, fmt.Errorf("check %s: %w", f.Name(), err)
		}
		out = append(out, found...)
	}
	return out, nil
}

// Digits makes a code of n decimal digits, each value equally likely.
func Digits(random io.Reader, n int) (string, error) {
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
	v, err := uniform(random, limit)
	if err != nil {
		return "", fmt.Errorf("make a code: %w", err)
	}
	return fmt.Sprintf("%0*d", n, v), nil
}

// uniform is rand.Int without its dependence on the reader being the global one.
func uniform(random io.Reader, limit *big.Int) (*big.Int, error) {
	bits := limit.BitLen()
	buf := make([]byte, (bits+7)/8)
	for {
		if _, err := io.ReadFull(random, buf); err != nil {
			return nil, err
		}
		v := new(big.Int).SetBytes(buf)
		v.Rsh(v, uint(len(buf)*8-bits))
		if v.Cmp(limit) < 0 {
			return v, nil
		}
	}
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// optional turns "not found" into an empty list of matches.
func optional(m Match, err error) ([]Match, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []Match{m}, nil
}
