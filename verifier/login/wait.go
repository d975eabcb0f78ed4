// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Thousands may wait at once, and what the functions below have on their stacks is
// there for each of them: so they hold a progress and no transaction, and leave the
// store to functions that have returned by then.

// progress is what a client is told of a transaction, and all that waiting for it takes.
type progress struct {
	txID    string
	pending bool
	expires time.Time
	answer  duoapi.Auth
}

func progressOf(tx store.Transaction) progress {
	p := progress{
		txID: tx.TxID, pending: tx.State == store.TxPending, expires: tx.Expires,
		answer: duoapi.Auth{Result: duoapi.ResultDeny, Status: tx.Status, StatusMsg: tx.StatusMsg},
	}
	switch tx.State {
	case store.TxPending:
		p.answer.Result = duoapi.ResultWaiting
	case store.TxApproved:
		p.answer.Result = duoapi.ResultAllow
	}
	return p
}

// change waits until the transaction is not pending any more or has another status
// than p says, at most until giveUp (zero: as long as it is pending), and sets p to
// how it then stands. It costs a channel and a timer, and nothing of the store.
func (s *Service) change(ctx context.Context, p *progress, giveUp time.Time) error {
	was := p.answer.Status
	for {
		woken, stop := s.Hub.Wait(push.Transaction(p.txID)) // before reading, so that no change is missed
		if err := s.look(ctx, p); err != nil || !p.pending || p.answer.Status != was {
			stop()
			return err
		}
		now, until := s.Now(), p.expires
		if !giveUp.IsZero() && giveUp.Before(until) {
			until = giveUp
		}
		if !giveUp.IsZero() && !now.Before(giveUp) {
			stop()
			return nil
		}
		select {
		case <-woken:
		case <-s.After(until.Sub(now)):
		case <-ctx.Done():
			stop()
			return ctx.Err()
		}
		stop()
	}
}

// look reads how the transaction stands; one whose time is over it ends.
func (s *Service) look(ctx context.Context, p *progress) error {
	tx, err := s.reread(ctx, store.Transaction{TxID: p.txID})
	if err != nil {
		return err
	}
	*p = progressOf(tx)
	return nil
}

// reread reads tx again; one whose time is over it ends.
func (s *Service) reread(ctx context.Context, tx store.Transaction) (store.Transaction, error) {
	err := s.Store.View(ctx, func(r store.Reader) (err error) {
		tx, err = r.Transaction(tx.TxID)
		return err
	})
	if err != nil {
		return tx, fmt.Errorf("read the transaction: %w", err)
	}
	if tx.State == store.TxPending && !s.Now().Before(tx.Expires) {
		return s.expire(ctx, tx)
	}
	return tx, nil
}

// await waits for the end of the transaction. A caller that goes away calls it off:
// nobody would learn of an approval.
func (s *Service) await(ctx context.Context, p *progress) error {
	for p.pending {
		err := s.change(ctx, p, time.Time{})
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), s.callOff(context.WithoutCancel(ctx), p.txID))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) callOff(ctx context.Context, txID string) error {
	tx, err := s.reread(ctx, store.Transaction{TxID: txID})
	if err == nil {
		_, err = s.decide(ctx, tx, store.Decision{State: store.TxCancelled, Status: "deny", StatusMsg: msgCancelled}, audit.UserCancelled)
	}
	return err
}
