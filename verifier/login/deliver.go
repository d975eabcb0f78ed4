// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// notifyPatience is how long the caller of Auth waits to hear whether the
	// request can be delivered; notifyTime bounds the attempt itself.
	notifyPatience = 2 * time.Second
	notifyTime     = 10 * time.Second
	// lateAfter is when an authenticator that listens, and yet has not answered, is
	// notified all the same: the connection of a phone that sleeps, or has lost its
	// network, looks alive for minutes.
	lateAfter = 10 * time.Second
)

// statusPushFailed is the status of a push that could not be delivered.
const statusPushFailed = "push_failed"

// deliver brings the authenticator of tx to look: it wakes one that listens, and
// else has it notified. It returns when it is known whether the notification was
// taken, and at the latest after notifyPatience. A push that nobody can get has
// ended by then, as failed; one of which that is not yet known goes on.
func (s *Service) deliver(ctx context.Context, tx store.Transaction) {
	listens := s.listens(tx) // before the wake-up, which ends the waiting
	s.wake(tx)
	switch {
	case s.Notifier == nil:
		return
	case listens:
		s.late.add(tx, s.Now().Add(lateAfter))
		return
	}
	select {
	case <-s.notify(tx):
	case <-s.After(notifyPatience):
	case <-ctx.Done():
	}
}

// listens says whether the authenticator of tx is connected and waits for requests.
func (s *Service) listens(tx store.Transaction) bool {
	return s.Hub.Waiters(push.Phone(tx.PhoneID)) > 0
}

// notify has the authenticator of tx notified beside the caller. If that fails and
// it does not listen either, the push ends. The channel is closed after that.
func (s *Service) notify(tx store.Transaction) <-chan struct{} {
	done := make(chan struct{})
	s.senders.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), notifyTime)
		defer cancel()
		outcome, err := s.Notifier.Notify(ctx, tx.PhoneID)
		if outcome == push.Taken || outcome == push.Unsubscribed { // then it is opened by hand
			s.Log.Debug("notified an authenticator", "txid", tx.TxID, "phone", tx.PhoneID, "outcome", outcome)
			return
		}
		s.Log.Warn("could not notify an authenticator", "txid", tx.TxID, "phone", tx.PhoneID, "outcome", outcome, "error", err)
		if s.listens(tx) || s.polls.within(tx.PhoneID, s.Now()) {
			return
		}
		if err := s.undelivered(tx, outcome); err != nil {
			s.Log.Error("could not end a push that was not delivered", "txid", tx.TxID, "error", err)
		}
	})
	return done
}

// undelivered ends a push that nobody can get, unless it has been answered.
func (s *Service) undelivered(tx store.Transaction, outcome push.Outcome) error {
	return s.unanswerable(tx, "the push was not delivered: notification "+string(outcome))
}

// Withdraw implements API.
func (s *Service) Withdraw(ctx context.Context, phoneID string) {
	s.polls.forget(phoneID)
	s.Hub.Wake(push.Phone(phoneID))
	if err := s.withdraw(context.WithoutCancel(ctx), phoneID); err != nil {
		s.Log.Error("logins go on waiting for an authenticator that cannot answer", "phone", phoneID, "error", err)
	}
}

func (s *Service) withdraw(ctx context.Context, phoneID string) error {
	var list []store.Transaction
	err := s.Store.View(ctx, func(r store.Reader) error {
		p, err := r.Phone(phoneID)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		users, err := r.PhoneUsers(phoneID)
		if err != nil {
			return err
		}
		all, err := r.PhoneTransactions(phoneID, s.Now())
		for _, tx := range all {
			able := slices.ContainsFunc(users, func(u store.User) bool {
				return u.ID == tx.UserID && u.Status != store.Disabled && u.Status != store.PendingDeletion
			})
			if tx.Generation != p.Generation || !able {
				list = append(list, tx)
			}
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("find the pushes that nobody can answer: %w", err)
	}
	for _, tx := range list {
		if err := s.unanswerable(tx, "the authenticator or its user was removed, moved or disabled"); err != nil {
			return fmt.Errorf("end a push that nobody can answer: %w", err)
		}
	}
	return nil
}

// unanswerable ends a push that nobody can answer.
func (s *Service) unanswerable(tx store.Transaction, why string) error {
	e, err := eventOf(tx)
	if err != nil {
		return err
	}
	e.Detail = why
	if tx.Event, err = encodeEvent(e); err != nil {
		return err
	}
	d := store.Decision{State: store.TxFailed, Status: statusPushFailed, StatusMsg: msgPushFailed}
	_, err = s.decide(context.Background(), tx, d, audit.Error)
	return err
}

// late is the pushes whose authenticators listened, in the order of their time.
type late struct {
	mu    sync.Mutex
	queue []lateOne
}

type lateOne struct {
	txID string
	at   time.Time
}

func (l *late) add(tx store.Transaction, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, lateOne{tx.TxID, at})
}

// due takes those out whose time has come.
func (l *late) due(now time.Time) []lateOne {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for n < len(l.queue) && !l.queue[n].at.After(now) {
		n++
	}
	out := l.queue[:n:n]
	l.queue = l.queue[n:]
	return out
}

// notifyLate notifies the authenticators that seemed to listen and have not answered.
func (s *Service) notifyLate(ctx context.Context) {
	for _, one := range s.late.due(s.Now()) {
		var tx store.Transaction
		err := s.Store.View(ctx, func(r store.Reader) (err error) {
			tx, err = r.Transaction(one.txID)
			return err
		})
		if err == nil && tx.State == store.TxPending {
			s.notify(tx)
		}
	}
}
