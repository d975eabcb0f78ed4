// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Reasons of refused answers in the administrator log, by the code that the
// authenticator reads.
var refusalReasons = map[int]string{
	duoapi.CodeAnswerSignature:   "bad_signature",
	duoapi.CodeAnswerTransaction: "other_transaction",
	duoapi.CodeAnswerContext:     "other_context",
	duoapi.CodeAnswerAudience:    "other_audience",
	duoapi.CodeAnswerTime:        "wrong_time",
	duoapi.CodeTxDigits:          "wrong_digits",
	duoapi.CodeTxDigitsMissing:   "digits_missing",
	duoapi.CodeTxExpired:         "late",
	duoapi.CodeTxAnswered:        "answered",
	duoapi.CodeTxCanceled:        "cancelled",
	duoapi.CodeTxUnknown:         "other_account",
	duoapi.CodeVerificationNone:  "verification_missing",
	duoapi.CodeVerificationWrong: "verification_wrong",
	duoapi.CodeTxAnswer:          "does_not_fit",
}

// refusedFor is why an answer was refused; blank: it was not, or by the verifier's
// own fault.
func refusedFor(a Answer, err error) string {
	var e *duoapi.Error
	switch {
	case errors.As(err, &e):
		return refusalReasons[e.Code]
	case err == nil && a.State == store.TxPending:
		return refusalReasons[duoapi.CodeTxDigits]
	}
	return ""
}

// refusalsPerHour is how many refused answers of one authenticator are written
// into the administrator log.
const refusalsPerHour = 20

// maxRefusers bounds the memory of refusals; beyond it, who was quiet longest is forgotten.
const maxRefusers = 10_000

// refusals count refused answers by authenticator, in windows of an hour. The zero
// value is ready; it is safe for concurrent use.
type refusals struct {
	mu     sync.Mutex
	window time.Time
	counts *simplelru.LRU[string, int]
}

// take counts one and says how many there were in this hour, with it.
func (r *refusals) take(phoneID string, now time.Time) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		counts, err := simplelru.NewLRU[string, int](maxRefusers, nil)
		if err != nil {
			panic(fmt.Sprintf("refusals: %v", err)) // the size is a constant
		}
		r.counts = counts
	}
	if window := now.Truncate(time.Hour); !window.Equal(r.window) {
		r.window = window
		r.counts.Purge()
	}
	n, _ := r.counts.Get(phoneID)
	r.counts.Add(phoneID, n+1)
	return n + 1
}

// noteRefusal writes into the administrator log whose answer was refused, and why.
// The refusal stands whether that can be written or not.
func (s *Service) noteRefusal(ctx context.Context, phoneID, txID, reason string) {
	now := s.Now()
	switch n := s.refused.take(phoneID, now); {
	case n == refusalsPerHour+1:
		s.Log.Warn("an authenticator goes on with answers that are refused; more of them are not noted until the hour is over",
			"phone", phoneID, "noted", refusalsPerHour, "until", now.Truncate(time.Hour).Add(time.Hour), "reason", reason)
		return
	case n > refusalsPerHour:
		return
	}
	s.Log.Warn("refused an answer to a login request", "phone", phoneID, "txid", audit.Printable(txID), "reason", reason)
	// That the authenticator hangs up does not keep it out of the log.
	err := s.Store.Update(context.WithoutCancel(ctx), func(w store.Writer) error {
		u, reason, err := refusedUser(w, phoneID, txID, reason)
		if err != nil {
			return err
		}
		return audit.System(w, s.Now(), audit.AnswerRefused, u.Username, map[string]any{
			"user_id": u.ID, "txid": audit.Printable(txID), "phone_id": phoneID, "reason": reason,
		})
	})
	if err != nil {
		s.Log.Error("cannot note a refused answer in the administrator log", "phone", phoneID, "reason", reason, "error", err)
	}
}

// refusedUser is whose login request it was; for one that is not there, whose
// authenticator, and the reason says so.
func refusedUser(r store.Reader, phoneID, txID, reason string) (store.User, string, error) {
	tx, err := r.Transaction(txID)
	if err == nil {
		u, err := r.User(tx.UserID)
		if !errors.Is(err, store.ErrNotFound) {
			return u, reason, err
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return store.User{}, reason, err
	} else if reason == refusalReasons[duoapi.CodeTxUnknown] {
		reason = "no_such_request"
	}
	users, err := r.PhoneUsers(phoneID)
	if err != nil || len(users) == 0 {
		return store.User{Username: phoneID}, reason, err
	}
	return users[0], reason, nil
}
