// SPDX-License-Identifier: Apache-2.0

package factor

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// MaxTries is how often the digits of one push may be typed.
const MaxTries = 3

// ErrAnswer means that a signed answer is not one to this request. The others wrap
// it and say why.
var (
	ErrAnswer            = errors.New("not an answer to this request")
	ErrAnswerSignature   = fmt.Errorf("%w: not signed by the authenticator's key", ErrAnswer)
	ErrAnswerAudience    = fmt.Errorf("%w: for another verifier", ErrAnswer)
	ErrAnswerTransaction = fmt.Errorf("%w: for another transaction", ErrAnswer)
	ErrAnswerContext     = fmt.Errorf("%w: the context differs from what was shown", ErrAnswer)
	ErrAnswerTime        = fmt.Errorf("%w: signed at another time", ErrAnswer)
)

// Push is a request that an authenticator answers with a signature. A verified
// push wants digits that stand on the screen of the login and that the person
// types into the authenticator, so that one cannot approve what one does not see.
type Push struct{}

// Name implements Factor.
func (Push) Name() string { return "duo_push" }

// Offers implements Prompt.
func (Push) Offers(p store.Phone) bool { return p.CanPush() }

// NewPushDigits makes the n digits of a verified push.
func NewPushDigits(random io.Reader, n int) (string, error) { return Digits(random, n) }

// HashPush is the stored form of the digits of a transaction.
func HashPush(keys *seal.Keys, txID, digits string) []byte { return keys.Hash("digits", digits, txID) }

// DigitsMatch compares typed digits with the stored hash in constant time.
func DigitsMatch(keys *seal.Keys, tx store.Transaction, typed string) bool {
	return len(tx.CodeHash) > 0 && subtle.ConstantTimeCompare(HashPush(keys, tx.TxID, Normalise(typed)), tx.CodeHash) == 1
}

// OpenAnswer checks a signed answer (compact JWS, ES256) by the key of phone p
// to transaction tx and returns its payload. Errors wrap ErrAnswer, or one that does.
func OpenAnswer(p store.Phone, tx store.Transaction, audience, compact string, now time.Time) (agentapi.Answer, error) {
	var a agentapi.Answer
	key, err := keyproof.DecodeKey(p.PublicKey)
	if err != nil {
		return a, fmt.Errorf("%w: the phone has no usable key: %w", ErrAnswer, err)
	}
	payload, err := keyproof.Open(key, compact)
	if errors.Is(err, keyproof.ErrSignature) {
		return a, ErrAnswerSignature
	}
	if err != nil {
		return a, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	if err := json.Unmarshal(payload, &a); err != nil {
		return a, fmt.Errorf("%w: decode: %w", ErrAnswer, err)
	}
	switch {
	case a.Version != 1:
		err = fmt.Errorf("%w: version %d", ErrAnswer, a.Version)
	case a.Audience != audience:
		err = ErrAnswerAudience
	case a.TxID != tx.TxID:
		err = ErrAnswerTransaction
	case a.Context != keyproof.HashBody(tx.Context):
		err = ErrAnswerContext
	case now.Sub(time.Unix(a.IssuedAt, 0)).Abs() > keyproof.MaxSkew:
		err = ErrAnswerTime
	case a.Decision != agentapi.Approve && a.Decision != agentapi.Deny && a.Decision != agentapi.Fraud:
		err = fmt.Errorf("%w: unknown decision", ErrAnswer)
	}
	return a, err
}
