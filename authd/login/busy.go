// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// maxBusy is how often one login waits because the verifier is busy.
const maxBusy = 3

// busyMargin is what must be left of login_timeout after such a wait, for the
// call that it was for.
const busyMargin = time.Second

// busy is a refusal because of too many requests that did not fit this login.
type busy struct {
	setting string // what it did not fit; empty: it came too often
	err     error
}

func (b *busy) Error() string { return b.err.Error() }
func (b *busy) Unwrap() error { return b.err }

// retryAfter is how long a verifier that is busy, and has said so by 429, asks to
// wait (RFC 9110, section 10.2.3); 0: it has not said. Such a request was not
// looked at, so that the same passcode may be sent again. A 5xx is an outage
// whatever it says of later.
func retryAfter(err error) (wait time.Duration, isBusy bool) {
	var answer *duoapi.Error
	if !errors.As(err, &answer) || answer.Status() != http.StatusTooManyRequests {
		return 0, false
	}
	return time.Duration(answer.RetryAfter) * time.Second, true
}

// busy makes v the verdict of a login for which the verifier was too busy.
func (v verdict) busy(late *busy, contact string) verdict {
	v.outcome = outcomeDeny
	return v.by(late.setting).saying(textTooBusy(contact))
}

// patiently is machine for a call to the verifier: where that is busy and says
// for how long, the call is made again after that, if it fits what is left of
// login_timeout.
func (l *login) patiently(ctx context.Context, setting string, d time.Duration, call func(context.Context) error) error {
	for {
		err := l.machine(ctx, setting, d, call)
		wait, isBusy := retryAfter(err)
		switch {
		case !isBusy:
			return err
		case wait == 0:
			return &busy{err: fmt.Errorf("verifier is busy and names no time: %w", err)}
		case wait+busyMargin > l.budget:
			return &busy{setting: "login_timeout", err: fmt.Errorf("verifier is busy for %s, %s are left of login_timeout: %w", wait, l.budget.Round(time.Millisecond), err)}
		case l.waits >= maxBusy:
			return &busy{err: fmt.Errorf("verifier was busy %d times: %w", maxBusy+1, err)}
		}
		l.waits++
		l.log.Info("verifier is busy", slog.String("event", "busy"), slog.Duration("wait", wait))
		if !l.ssh.present && l.req.Flags&pamSilent == 0 {
			_ = l.conv.Show(frames.StyleInfo, textVerifierBusy(wait)) // a peer that is gone shows at the next frame
		}
		if err := l.machine(ctx, "login_timeout", wait+busyMargin, func(ctx context.Context) error { return sleep(ctx, wait) }); err != nil {
			return err
		}
	}
}

// sleep waits for d, or returns the cause of the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
