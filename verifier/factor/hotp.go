// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// LookAhead is how many counters from the next one on count, for a token whose
	// button was pressed without logging in (RFC 4226, section 7.4).
	LookAhead = 10
	// farAhead is how many are tried: a code beyond LookAhead does not count, but the
	// code after it does.
	farAhead = 100
	// resyncTime is how long the code after one that was too far off counts.
	resyncTime = 5 * time.Minute
)

// HOTP is the event-based one-time password of RFC 4226 with SHA-1 and 6 or 8 digits.
type HOTP struct{}

// Name implements Factor.
func (HOTP) Name() string { return "hardware_token" }

// Find implements Passcode.
func (f HOTP) Find(h Holder, code string, now time.Time) ([]Match, error) {
	var out []Match
	for _, t := range h.Tokens {
		if (t.Type != store.HOTP6 && t.Type != store.HOTP8) || !fits(t, code) {
			continue
		}
		counter, ok, err := search(h.Keys, t, code, t.Counter, t.Counter+farAhead)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		out = append(out, f.match(h, t, counter, now))
	}
	return out, nil
}

func (f HOTP) match(h Holder, t store.Token, counter int64, now time.Time) Match {
	return tokenMatch(f, t, func(w store.Writer) (bool, error) {
		switch {
		case counter < t.Counter+LookAhead:
			return w.UseHOTPCounter(h.User.ID, t.ID, counter)
		case inResync(t, counter, now):
			return w.UseResync(h.User.ID, t.ID, counter, 0, now)
		}
		return false, noteResync(w, h, t, counter, now)
	})
}

// inResync says whether the code at that counter or step is the one after a code
// that was right but too far off. UseResync decides.
func inResync(t store.Token, at int64, now time.Time) bool {
	return at == t.ResyncNext && now.Before(t.ResyncUntil)
}

// noteResync lets the code after that counter or step count for a while.
func noteResync(w store.Writer, h Holder, t store.Token, at int64, now time.Time) error {
	_, err := w.NoteResync(h.User.ID, t.ID, at+1, now.Add(resyncTime))
	return err
}

// ResyncWindow is how far from its next counter Resync looks for a token.
const ResyncWindow = 1000

// Resync finds the counter after which the token gave these codes one after
// the other, within ResyncWindow of the next one, and returns the counter to go on with.
func Resync(keys *seal.Keys, t store.Token, codes []string) (next int64, ok bool, err error) {
	if len(codes) < 2 {
		return 0, false, nil
	}
	secret, err := open(keys, t)
	if err != nil {
		return 0, false, err
	}
	run := int64(len(codes))
	values := make([]string, ResyncWindow+run)
	for i := range values {
		if values[i], err = value(secret, t.Counter+int64(i), TokenDigits(t.Type)); err != nil {
			return 0, false, err
		}
	}
	for i := range int64(ResyncWindow) {
		same := 1
		for j, code := range codes {
			same &= subtle.ConstantTimeCompare([]byte(values[i+int64(j)]), []byte(Normalise(code)))
		}
		if same == 1 && !ok {
			next, ok = t.Counter+i+run, true
		}
	}
	return next, ok, nil
}

// TokenDigits is how many digits the codes of a token type have.
func TokenDigits(t store.TokenType) int {
	if t == store.TOTP8 || t == store.HOTP8 {
		return 8
	}
	return 6
}

func fits(t store.Token, code string) bool { return len(code) == TokenDigits(t.Type) && isDigits(code) }

func tokenMatch(f Factor, t store.Token, use func(store.Writer) (bool, error)) Match {
	return Match{Factor: f.Name(), Device: store.AuthDevice{Key: t.ID, Name: t.Serial}, Use: use}
}

// search looks for code among the values of the moving factor in [from, to).
// It computes all of them whether it finds one or not, and returns the first.
func search(keys *seal.Keys, t store.Token, code string, from, to int64) (at int64, ok bool, err error) {
	secret, err := open(keys, t)
	if err != nil {
		return 0, false, err
	}
	for i := from; i < to; i++ {
		v, err := value(secret, i, TokenDigits(t.Type))
		if err != nil {
			return 0, false, err
		}
		if subtle.ConstantTimeCompare([]byte(v), []byte(code)) == 1 && !ok {
			at, ok = i, true
		}
	}
	return at, ok, nil
}

// sealedToken is the kind of row to which a token's secret is bound.
const sealedToken = "token"

// SealToken is the stored form of the secret of the token with that id.
func SealToken(keys *seal.Keys, id string, secret []byte) []byte {
	return keys.Seal(secret, sealedToken, id)
}

// open unseals the secret of a token, in the library's base32.
func open(keys *seal.Keys, t store.Token) (string, error) {
	raw, err := keys.Open(t.SecretSealed, sealedToken, t.ID)
	if err != nil {
		return "", fmt.Errorf("open the secret of token %s: %w", t.ID, err)
	}
	return base32.StdEncoding.EncodeToString(raw), nil
}

func value(secret string, moving int64, digits int) (string, error) {
	v, err := hotp.GenerateCodeCustom(secret, uint64(moving), hotp.ValidateOpts{
		Digits: otp.Digits(digits), Algorithm: otp.AlgorithmSHA1,
	})
	if err != nil {
		return "", fmt.Errorf("compute a one-time password: %w", err)
	}
	return v, nil
}
