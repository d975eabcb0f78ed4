// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// reported remembers which status of a pending transaction its client was told
// last, so that the next call waits for another one. It is only a hint: a
// verifier that does not remember answers at once.
type reported struct {
	mu   sync.Mutex
	last map[string]report
}

type report struct {
	status  string
	expires time.Time
}

// tell notes the status and reports whether it is news.
func (r *reported) tell(p progress) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == nil {
		r.last = map[string]report{}
	}
	was, known := r.last[p.txID]
	r.last[p.txID] = report{p.answer.Status, p.expires}
	return !known || was.status != p.answer.Status
}

func (r *reported) forget(txID string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.last, txID)
}

// sweep forgets transactions that ended without their client asking again.
func (r *reported) sweep(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, last := range r.last {
		if now.After(last.expires) {
			delete(r.last, id)
		}
	}
}

// Status implements API.
func (s *Service) Status(ctx context.Context, integrationKey, txID string) (duoapi.Auth, error) {
	var p progress
	if err := s.begun(ctx, integrationKey, txID, &p); err != nil {
		return duoapi.Auth{}, err
	}
	if p.pending && !s.seen.tell(p) {
		if err := s.change(ctx, &p, s.Now().Add(statusWait)); err != nil {
			return duoapi.Auth{}, fmt.Errorf("status: %w", err)
		}
	}
	if p.pending {
		s.seen.tell(p)
	} else {
		s.seen.forget(txID)
	}
	return p.answer, nil
}

// begun is the progress of a transaction that the integration began.
func (s *Service) begun(ctx context.Context, integrationKey, txID string, p *progress) error {
	tx, err := s.transaction(ctx, integrationKey, txID)
	if err == nil {
		*p = progressOf(tx)
	}
	return err
}

// transaction finds a transaction that the integration began.
func (s *Service) transaction(ctx context.Context, integrationKey, txID string) (store.Transaction, error) {
	var tx store.Transaction
	err := s.Store.View(ctx, func(r store.Reader) (err error) {
		tx, err = r.Transaction(txID)
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && (tx.IntegrationKey != integrationKey || tx.State == store.TxOffered) {
		return tx, duoapi.NewError(duoapi.CodeInvalidParameter, "txid")
	}
	if err != nil {
		return tx, fmt.Errorf("find the transaction: %w", err)
	}
	if tx.State == store.TxPending && !s.Now().Before(tx.Expires) {
		return s.expire(ctx, tx)
	}
	return tx, nil
}

// Cancel implements API.
func (s *Service) Cancel(ctx context.Context, c Client, txID string) (bool, error) {
	tx, err := s.transaction(ctx, c.Integration.Key, txID)
	var refused *duoapi.Error
	if errors.As(err, &refused) {
		return false, duoapi.NewError(duoapi.CodeNotFound, "txid")
	}
	if err != nil || tx.State != store.TxPending {
		return false, err
	}
	return s.decide(ctx, tx, store.Decision{State: store.TxCancelled, Status: "deny", StatusMsg: msgCancelled}, audit.UserCancelled)
}

// decide ends a pending transaction with a denial, its event in the same update,
// and wakes those who wait. False: it had ended, or a premise no longer held.
func (s *Service) decide(ctx context.Context, tx store.Transaction, d store.Decision, reason string) (bool, error) {
	d.TxID = tx.TxID
	var won bool
	var made ending
	err := s.Store.Update(ctx, func(w store.Writer) (err error) {
		d.Now = s.Now()
		made, won, err = s.decideIn(w, tx, d, audit.Denied, reason)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("end the transaction: %w", err)
	}
	if won {
		s.ended(tx, made)
	}
	return won, nil
}

// ending is how a transaction ended: an approval may have become a denial.
type ending struct {
	state          store.TxState
	result, reason string
	fatigue        bool // with it the administrators were told of prompts that go unheeded
}

// decideIn is decide inside an update.
func (s *Service) decideIn(w store.Writer, tx store.Transaction, d store.Decision, result, reason string) (ending, bool, error) {
	verification, err := isVerification(w, tx)
	if err != nil {
		return ending{}, false, err
	}
	if d.State == store.TxApproved && !verification {
		v, denied, err := s.recheck(w, tx)
		if err != nil {
			return ending{}, false, err
		}
		if denied {
			d.State, d.Status, d.StatusMsg = store.TxDenied, v.status, v.message
			result, reason = v.logResult, v.reason
		}
	}
	made := ending{state: d.State, result: result, reason: reason}
	won, err := w.DecideTransaction(d)
	if err != nil || !won {
		return made, false, err
	}
	if d.State == store.TxApproved && !verification {
		if won, err = w.ForgiveAttempts(tx.UserID, d.Now); err != nil || !won {
			return made, false, errors.Join(err, errNotActive(won))
		}
	}
	e, err := eventOf(tx)
	if err != nil {
		return made, false, err
	}
	if err := w.AddEvent(audit.Outcome(e, d.Now, result, reason)); err != nil {
		return made, false, err
	}
	if d.State == store.TxDenied || d.State == store.TxFraud {
		made.fatigue, err = s.unheeded(w, tx, d.Now)
	}
	return made, true, err
}

// errNotActive undoes an approval whose user turned out not to be active; the
// deciding statement has that premise, so it cannot come to this.
func errNotActive(active bool) error {
	if active {
		return nil
	}
	return errors.New("the user of an approved transaction is not active")
}

// ended wakes and logs after a decision was committed.
func (s *Service) ended(tx store.Transaction, made ending) {
	s.wake(tx)
	s.Log.Info("authentication", "txid", tx.TxID, "user_id", tx.UserID, "integration", tx.IntegrationKey, "factor", tx.Factor,
		"result", made.result, "reason", made.reason)
	if made.fatigue {
		s.Log.Warn("login requests of a user are denied or not answered, again and again", "event", audit.PushFatigue,
			"user_id", tx.UserID, "txid", tx.TxID, "integration", tx.IntegrationKey)
	}
}

// expire ends a transaction whose time is over and returns it as it then stands.
func (s *Service) expire(ctx context.Context, tx store.Transaction) (store.Transaction, error) {
	reason := audit.NoResponse
	if tx.Factor == duoapi.FactorPhone {
		reason = audit.CallTimedOut
	}
	var won bool
	made := ending{state: store.TxExpired, result: audit.Denied, reason: reason}
	err := s.Store.Update(ctx, func(w store.Writer) (err error) {
		now := s.Now()
		made.fatigue = false
		if won, err = w.ExpireTransaction(tx.TxID, "timeout", msgTimeout, now); err != nil {
			return err
		}
		if won {
			e, err := eventOf(tx)
			if err != nil {
				return err
			}
			if err := w.AddEvent(audit.Outcome(e, now, audit.Denied, reason)); err != nil {
				return err
			}
			if made.fatigue, err = s.unheeded(w, tx, now); err != nil {
				return err
			}
		}
		tx, err = w.Transaction(tx.TxID)
		return err
	})
	if err != nil {
		return tx, fmt.Errorf("expire the transaction: %w", err)
	}
	if won {
		s.ended(tx, made)
	}
	return tx, nil
}

// Run implements API.
func (s *Service) Run(ctx context.Context) error {
	defer s.senders.Wait()
	purged := s.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.After(sweepEvery):
		}
		if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("could not expire transactions", "error", err)
		}
		s.notifyLate(ctx)
		if now := s.Now(); now.Sub(purged) >= purgeEvery {
			purged = now
			if err := s.purge(ctx, now); err != nil && ctx.Err() == nil {
				s.Log.Error("could not delete what has ended", "error", err)
			}
		}
	}
}

func (s *Service) purge(ctx context.Context, now time.Time) error {
	return s.Store.Update(ctx, func(w store.Writer) error {
		if err := w.PurgeTransactions(now.Add(-txAfter)); err != nil {
			return err
		}
		return w.Purge(now.Add(-codesAfter))
	})
}

// sweep expires what is overdue.
func (s *Service) sweep(ctx context.Context) error {
	s.seen.sweep(s.Now())
	var overdue []store.Transaction
	err := s.Store.View(ctx, func(r store.Reader) (err error) {
		overdue, err = r.OverdueTransactions(s.Now(), 100)
		return err
	})
	if err != nil {
		return err
	}
	for _, tx := range overdue {
		if _, err := s.expire(ctx, tx); err != nil {
			return err
		}
	}
	return nil
}
