// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"sync"
	"time"

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

// maxRefusers bounds the memory of refusals; beyond it the counts start anew.
const maxRefusers = 10_000

// refusals count refused answers by authenticator, in windows of an hour. The zero
// value is ready; it is safe for concurrent use.
type refusals struct {
	mu     sync.Mutex
	window time.Time
	counts map[string]int
}

// take counts one and says whether it is within the limit.
func (r *refusals) take(phoneID string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if window := now.Truncate(time.Hour); r.counts == nil || !window.Equal(r.window) || len(r.counts) >= maxRefusers {
		r.window, r.counts = window, map[string]int{}
	}
	r.counts[phoneID]++
	return r.counts[phoneID] <= refusalsPerHour
}

// noteRefusal writes into the administrator log whose answer was refused, and why.
// The refusal stands whether that can be written or not.
func (s *Service) noteRefusal(ctx context.Context, phoneID, txID, reason string) {
	if !s.refused.take(phoneID, s.Now()) {
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
