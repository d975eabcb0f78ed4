// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// streams are the open streams of each authenticator. The zero value is ready; it
// is safe for concurrent use.
type streams struct {
	mu   sync.Mutex
	open map[string][]chan struct{}
}

// add opens a stream. replaced is closed when another takes its place: an
// authenticator has agentapi.MaxStreams at most, and the newest count.
func (s *streams) add(phoneID string) (replaced <-chan struct{}, leave func()) {
	mine := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string][]chan struct{}{}
	}
	list := append(s.open[phoneID], mine)
	if len(list) > agentapi.MaxStreams {
		close(list[0])
		list = list[1:]
	}
	s.open[phoneID] = list
	return mine, func() { s.remove(phoneID, mine) }
}

func (s *streams) remove(phoneID string, mine chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(s.open[phoneID]), func(c chan struct{}) bool { return c == mine })
	if len(list) == 0 {
		delete(s.open, phoneID)
		return
	}
	s.open[phoneID] = list
}

// stream tells an authenticator of its login requests for as long as it listens.
// Beside the wake-ups it reads the store every recheckEvery.
func (a *API) stream(ctx context.Context, r *gate.Request, out *gate.Events) error {
	if err := a.hold(r.Phone.ID); err != nil {
		return err
	}
	if err := a.touch(ctx, r.Phone); err != nil {
		return err
	}
	replaced, leave := a.streams.add(r.Phone.ID)
	defer leave()
	renew := time.NewTimer(agentapi.StreamFor)
	defer renew.Stop()
	recheck := time.NewTicker(recheckEvery)
	defer recheck.Stop()
	alive := time.NewTicker(agentapi.StreamEvery)
	defer alive.Stop()

	topic := push.Phone(r.Phone.ID)
	woken, stop := a.Hub.Wait(topic)
	defer func() { stop() }()
	end := func(reason string) error { return out.Send(agentapi.StreamEnd, agentapi.End{Reason: reason}) }
	var sent []agentapi.Transaction
	for first := true; ; first = false {
		list, over, err := a.openRequests(ctx, r.Phone)
		switch {
		case err != nil:
			return fmt.Errorf("read the login requests of a stream: %w", err)
		case over != "":
			return end(over)
		case first || !slices.Equal(list, sent):
			if err := out.Send(agentapi.StreamTransactions, agentapi.Transactions{Transactions: list}); err != nil {
				return err
			}
			sent = list
		}
		for again := false; !again; {
			select {
			case <-woken:
				stop()
				woken, stop = a.Hub.Wait(topic)
				again = true
			case <-recheck.C:
				again = true
			case <-alive.C:
				if err := out.Comment(); err != nil {
					return err
				}
			case <-renew.C:
				return end(agentapi.EndRenew)
			case <-replaced:
				return end(agentapi.EndReplaced)
			case <-a.Stopping:
				return end(agentapi.EndStopping)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// openRequests lists the login requests of an authenticator that proved itself as
// was. over is why it must not be told any more; blank: it may.
func (a *API) openRequests(ctx context.Context, was store.Phone) (list []agentapi.Transaction, over string, err error) {
	list = []agentapi.Transaction{}
	err = a.Store.View(ctx, func(r store.Reader) error {
		p, err := r.Phone(was.ID)
		if errors.Is(err, store.ErrNotFound) || err == nil && p.PublicKey != was.PublicKey {
			over = agentapi.EndRemoved
			return nil
		}
		if err != nil {
			return err
		}
		if p.Generation != was.Generation {
			over = agentapi.EndRenew // the key is the same: its proof is to be checked anew
			return nil
		}
		users, err := r.PhoneUsers(was.ID)
		if err != nil {
			return err
		}
		if len(users) == 0 {
			over = agentapi.EndRemoved
			return nil
		}
		pending, err := login.PendingOf(r, was.ID, a.Now())
		list = transactions(pending)
		return err
	})
	return list, over, err
}

func transactions(pending []login.PendingPush) []agentapi.Transaction {
	list := make([]agentapi.Transaction, 0, len(pending))
	for _, p := range pending {
		list = append(list, agentapi.Transaction{
			TxID: p.TxID, Context: string(p.Context), Verified: p.Verified, Created: p.Created.Unix(), Expires: p.Expires.Unix(),
		})
	}
	return list
}
