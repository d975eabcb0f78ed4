// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// The ways to learn of login requests, best first.
const (
	byStream    = iota // an event stream stays open
	byLongPoll         // a call waits for a change
	byShortPoll        // a call now and then
)

const (
	// Pauses while the verifier is away; each is random within half of itself.
	firstPause = time.Second
	longPause  = 30 * time.Second
	// shortPollEvery is well within the minute that a request is open.
	shortPollEvery = 5 * time.Second
	// A way that breaks off sooner than this, and as often as that one after the
	// other, while the verifier can be reached, is held up by something between.
	soon       = 10 * time.Second
	soonBreaks = 3
	// retryBetter is when a better way is tried again.
	retryBetter = 10 * time.Minute
)

// feed learns of the open login requests to one account until its verifier refuses
// it. Every change of them goes to each, which must not block.
type feed struct {
	account authenticator.Account
	client  *agentapi.Client
	each    func([]agentapi.Transaction)
	note    func(format string, args ...any)
	now     func() time.Time
	wait    func(ctx context.Context, d time.Duration) // until then, or ctx ends

	way     int
	lowered time.Time // when way was made worse
	breaks  int       // soon, one after the other
	seen    []string
}

// run returns nil when ctx ends, and what the verifier refused.
func (f *feed) run(ctx context.Context) error {
	pauses := &backoff.ExponentialBackOff{InitialInterval: firstPause, MaxInterval: longPause, Multiplier: 2, RandomizationFactor: 0.5}
	pauses.Reset()
	var lost time.Time
	for ctx.Err() == nil {
		// This shows that the verifier can be reached, and brings what is open now.
		err := f.ask(ctx, 0)
		if err == nil {
			if !lost.IsZero() {
				f.note("connected to %s again, after %s\n", f.account.URL, f.now().Sub(lost).Round(time.Second).String())
				lost = time.Time{}
			}
			pauses.Reset()
			err = f.follow(ctx)
		} else if ctx.Err() == nil && !isRefusal(err) && lost.IsZero() {
			lost = f.now()
			f.note("lost the connection to %s: %v; trying again\n", f.account.URL, explainAnswer("ask for login requests to "+f.account.Username, err))
		}
		switch {
		case ended(ctx):
			return nil
		case isRefusal(err):
			return explainAnswer("ask "+f.account.URL+" for login requests to "+f.account.Username, err)
		case err != nil:
			f.wait(ctx, max(pauses.NextBackOff(), retryAfter(err)))
		}
	}
	return nil
}

// retryAfter is how long the verifier asks to be left alone.
func retryAfter(err error) time.Duration {
	var refused *duoapi.Error
	if errors.As(err, &refused) {
		return time.Duration(refused.RetryAfter) * time.Second
	}
	return 0
}

// ask calls for the open requests.
func (f *feed) ask(ctx context.Context, wait time.Duration) error {
	list, err := f.client.Transactions(ctx, wait, f.seen)
	if err != nil {
		return err
	}
	return f.take(list)
}

func (f *feed) take(list []agentapi.Transaction) error {
	f.seen = make([]string, 0, len(list))
	for _, tx := range list {
		f.seen = append(f.seen, tx.TxID)
	}
	f.each(list)
	return nil
}

// follow learns of requests in the present way until that breaks off. An error that
// is no refusal asks for a pause.
func (f *feed) follow(ctx context.Context) error {
	if f.way != byStream && f.now().Sub(f.lowered) > retryBetter {
		f.way, f.breaks = byStream, 0
	}
	began := f.now()
	reason, err := f.followWay(ctx)
	switch {
	case ended(ctx):
		return nil
	case isMissing(err):
		f.lower(byLongPoll) // an earlier release of the verifier
		return nil
	case isRefusal(err):
		return err
	case err == nil && reason == agentapi.EndRenew:
		f.breaks = 0
		return nil
	case reason == agentapi.EndReplaced:
		// Others listen for this account. To replace one of them in turn would go on for ever.
		f.lower(byLongPoll)
		return nil
	case reason != "":
		return errEnded // what it means, the next call says
	}
	if f.breaks++; f.now().Sub(began) >= soon {
		f.breaks = 1
	}
	if f.breaks >= soonBreaks && f.way < byShortPoll {
		f.lower(f.way + 1)
	}
	return err
}

// errEnded asks for a pause before the next call.
var errEnded = errors.New("the verifier ended the stream")

func (f *feed) lower(way int) {
	f.way, f.breaks, f.lowered = way, 0, f.now()
}

func (f *feed) followWay(ctx context.Context) (reason string, err error) {
	if f.way == byStream {
		return f.client.Stream(ctx, f.take)
	}
	for {
		wait := agentapi.MaxWait
		if f.way == byShortPoll {
			wait = 0
			f.wait(ctx, shortPollEvery)
		}
		if err := f.ask(ctx, wait); err != nil {
			return "", err
		}
		f.breaks = 0
		if f.now().Sub(f.lowered) > retryBetter {
			return agentapi.EndRenew, nil
		}
	}
}

// ended says whether the person has had enough.
func ended(ctx context.Context) bool { return ctx.Err() != nil }

// isMissing says whether the verifier does not know the call.
func isMissing(err error) bool {
	var refused *duoapi.Error
	return errors.As(err, &refused) && refused.Code/100 == http.StatusNotFound
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
