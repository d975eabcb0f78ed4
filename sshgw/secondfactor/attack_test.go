// SPDX-License-Identifier: Apache-2.0

package secondfactor_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// silent is an authd that answers when it is told to.
type silent struct {
	mu     sync.Mutex
	open   int
	answer chan struct{}
}

func (s *silent) Call(ctx context.Context, _ *frames.Request, _ conversation.Person) (frames.Outcome, error) {
	s.mu.Lock()
	s.open++
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.open--
		s.mu.Unlock()
	}()
	select {
	case <-s.answer:
		return frames.OutcomeAllow, nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (s *silent) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// crowd asks many questions at once, and says how each ends.
func crowd(ctx context.Context, a *secondfactor.Asker, n int, question func(int) secondfactor.Question) <-chan error {
	out := make(chan error, n)
	for i := range n {
		go func() { out <- a.Ask(ctx, question(i), conversation.Nobody{}) }()
	}
	return out
}

func of(user string, source int, kind secondfactor.Kind) secondfactor.Question {
	q := question()
	id := *q.Identity
	id.Account.Name, id.Key = user, "SHA256:"+user
	id.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(source >> 8), byte(source)}), 50000)
	q.Identity, q.Kind = &id, kind
	return q
}

// Somebody opens question after question and answers none: with one account, with many
// accounts from one source, with many of both. What is left at authd is everybody else's.
func TestAttackEveryPlaceTaken(t *testing.T) {
	for name, x := range map[string]struct {
		question func(int) secondfactor.Question
		most     int
	}{
		"one account":              {func(i int) secondfactor.Question { return of("mallory", i, secondfactor.StepUp) }, 8},
		"one account, at the door": {func(i int) secondfactor.Question { return of("mallory", i, secondfactor.Door) }, 8},
		"one source":               {func(i int) secondfactor.Question { return of(fmt.Sprint("m", i), 1, secondfactor.Door) }, 128},
		"step-ups of many":         {func(i int) secondfactor.Question { return of(fmt.Sprint("m", i), i, secondfactor.StepUp) }, 160},
		"many at the door":         {func(i int) secondfactor.Question { return of(fmt.Sprint("m", i), i, secondfactor.Door) }, 224},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				authd := &silent{answer: make(chan struct{})}
				a := &secondfactor.Asker{Client: authd}
				ctx, cancel := context.WithCancel(t.Context())
				ends := crowd(ctx, a, 300, x.question)
				synctest.Wait()
				if n := authd.asked(); n != x.most {
					t.Errorf("authd has %d questions", n)
				}
				if x.most < 224 {
					alice := crowd(ctx, a, 1, func(int) secondfactor.Question { return of("alice", 999, secondfactor.Door) })
					synctest.Wait()
					if n := authd.asked(); n != x.most+1 {
						t.Errorf("somebody else is not asked")
					}
					defer func() { <-alice }()
				}
				for range 300 - x.most {
					if err := <-ends; !errors.Is(err, secondfactor.ErrBusy) {
						t.Fatalf("one beyond: %v", err)
					}
				}
				cancel()
				for range x.most {
					<-ends
				}
				synctest.Wait()
				if n := authd.asked(); n != 0 {
					t.Errorf("%d are still open", n)
				}
			})
		})
	}
}

// What asks nobody does not stand behind the same person's open questions, and a crowd
// of it waits its turn: fifty jobs of one account at once.
func TestJobsWaitTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authd := &silent{answer: make(chan struct{})}
		a := &secondfactor.Asker{Client: authd}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		questions := crowd(ctx, a, 8, func(i int) secondfactor.Question { return of("alice", i, secondfactor.Door) })
		synctest.Wait()
		jobs := crowd(ctx, a, 50, func(i int) secondfactor.Question { return of("alice", 1, secondfactor.Batch) })
		synctest.Wait()
		if n := authd.asked(); n != 16 {
			t.Errorf("authd has %d questions", n)
		}
		close(authd.answer)
		for range 50 {
			if err := <-jobs; err != nil {
				t.Errorf("a job: %v", err)
			}
		}
		for range 8 {
			<-questions
		}
	})
}

// With one key somebody has many pushes sent at once. There is one at a time: the next
// waits for the answer to the first.
func TestAttackManyPushesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authd := &silent{answer: make(chan struct{})}
		a := &secondfactor.Asker{Client: authd}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		held := crowd(ctx, a, 5, func(i int) secondfactor.Question {
			return of("alice", i, []secondfactor.Kind{secondfactor.Hold, secondfactor.StepUpHold}[i%2])
		})
		other := crowd(ctx, a, 1, func(int) secondfactor.Question { return of("bob", 1, secondfactor.Hold) })
		for left := 5; left > 0; left-- {
			synctest.Wait()
			if n := authd.asked(); left == 5 && n != 2 || left < 5 && n != 1 {
				t.Errorf("%d pushes at once", n)
			}
			if left == 5 { // who has answered first does not matter
				authd.answer <- struct{}{}
				authd.answer <- struct{}{}
				<-other
			} else {
				authd.answer <- struct{}{}
			}
			if err := <-held; err != nil {
				t.Errorf("after the one before was approved: %v", err)
			}
		}
		// A push that nobody answers does not keep the next waiting for ever.
		begun := time.Now()
		ends := crowd(ctx, a, 2, func(i int) secondfactor.Question { return of("alice", i, secondfactor.Hold) })
		if err := <-ends; !errors.Is(err, secondfactor.ErrBusy) || time.Since(begun) < time.Minute {
			t.Errorf("%v after %s", err, time.Since(begun))
		}
		cancel()
		<-ends
	})
}

// Strangers make the gateway ask for keys. That takes no place of a question.
func TestAttackLookupsTakeEveryPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authd := &silent{answer: make(chan struct{})}
		keys := &secondfactor.Lookups{Client: authd}
		ctx, cancel := context.WithCancel(t.Context())
		ends := make(chan error, 100)
		for range 100 {
			go func() {
				_, err := keys.Call(ctx, &frames.Request{}, conversation.Nobody{})
				ends <- err
			}()
		}
		synctest.Wait()
		if n := authd.asked(); n != 16 {
			t.Errorf("authd has %d look-ups", n)
		}
		for range 84 {
			if err := <-ends; !errors.Is(err, secondfactor.ErrBusy) {
				t.Fatal(err)
			}
		}
		cancel()
		for range 16 {
			<-ends
		}
	})
}
