// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// TelephonyEvent implements API.
func (s *Service) TelephonyEvent(ctx context.Context, e TelephonyEvent) error {
	if e.TxID == "" {
		s.Log.Info("telephony report", "id", audit.Printable(e.ID), "event", audit.Printable(e.Event))
		return nil
	}
	var tx store.Transaction
	err := s.Store.View(ctx, func(r store.Reader) (err error) {
		tx, err = r.Transaction(e.TxID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("telephony event: %w", err)
	}
	if tx.Factor != duoapi.FactorPhone { // a report about a call must not approve a push
		return nil
	}
	d, result, reason := callOutcome(e)
	switch {
	case d.State != "":
		d.TxID, d.PhoneID, d.NeedsPhone = tx.TxID, tx.PhoneID, d.State == store.TxApproved
		return s.callEnds(ctx, tx, d, result, reason)
	case e.Event == CallAnswered:
		return s.callAnswered(ctx, tx)
	}
	return nil
}

// callOutcome is the decision that a report makes; none if it is only progress
// or a key without a meaning.
func callOutcome(e TelephonyEvent) (d store.Decision, result, reason string) {
	switch {
	case e.Event == CallKeypress && e.Key == KeyApprove:
		return store.Decision{State: store.TxApproved, Status: "allow", StatusMsg: msgAllow}, audit.Success, audit.UserApproved
	case e.Event == CallKeypress && e.Key == KeyFraud:
		return store.Decision{State: store.TxFraud, Status: "fraud", StatusMsg: msgFraud}, audit.Fraud, audit.UserMarkedFraud
	case e.Event == CallHangup:
		return store.Decision{State: store.TxDenied, Status: "deny", StatusMsg: msgNoKey}, audit.Denied, audit.NoKeysPressed
	case e.Event == CallNoAnswer:
		return store.Decision{State: store.TxDenied, Status: "deny", StatusMsg: msgNoAnswer}, audit.Denied, audit.NoResponse
	case e.Event == CallFailed:
		return store.Decision{State: store.TxFailed, Status: "call_failed", StatusMsg: msgCallFailed}, audit.Denied, audit.Error
	}
	return store.Decision{}, "", ""
}

func (s *Service) callEnds(ctx context.Context, tx store.Transaction, d store.Decision, result, reason string) error {
	var won bool
	var made ending
	err := s.Store.Update(ctx, func(w store.Writer) (err error) {
		d.Now = s.Now()
		made, won, err = s.decideAnswer(w, tx, d, result, reason)
		return err
	})
	if err != nil {
		return fmt.Errorf("telephony event: %w", err)
	}
	if won {
		_, err = s.outcome(ctx, tx, true, made)
	}
	return err
}

func (s *Service) callAnswered(ctx context.Context, tx store.Transaction) error {
	var news bool
	err := s.Store.Update(ctx, func(w store.Writer) (err error) {
		news, err = w.SetTransactionStatus(tx.TxID, "answered", msgAnswered, s.Now())
		return err
	})
	if err != nil {
		return fmt.Errorf("telephony event: %w", err)
	}
	if news {
		s.Hub.Wake(push.Transaction(tx.TxID))
	}
	return nil
}
