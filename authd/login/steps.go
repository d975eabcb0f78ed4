// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// The outcomes by short names.
const (
	outcomeAllow       = frames.OutcomeAllow
	outcomeDeny        = frames.OutcomeDeny
	outcomeMaxTries    = frames.OutcomeMaxTries
	outcomeUnavailable = frames.OutcomeUnavailable
	outcomeAborted     = frames.OutcomeAborted
)

// deadline is the cause of a context that this package ends; it names the setting.
type deadline struct{ setting string }

func (d *deadline) Error() string { return d.setting + " ran out" }

// withDeadline bounds a wait by the setting of that name.
func (l *login) withDeadline(ctx context.Context, setting string, d time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, &deadline{setting})
}

func isDeadline(ctx context.Context) bool {
	var d *deadline
	return ctx.Err() != nil && errors.As(context.Cause(ctx), &d)
}

// machine runs a step during which the person waits for machines. The step may
// take d, bounded by what is left of login_timeout; the module is told. Time at
// a prompt does not count: nobody can make a person type.
func (l *login) machine(ctx context.Context, setting string, d time.Duration, step func(context.Context) error) error {
	if l.budget <= 0 {
		return &deadline{"login_timeout"}
	}
	if d >= l.budget {
		setting, d = "login_timeout", l.budget
	}
	if err := l.conv.Wait(d + waitMargin); err != nil {
		return err
	}
	ctx, cancel := l.withDeadline(ctx, setting, d)
	defer cancel()
	begun := l.Now()
	err := step(ctx)
	l.budget -= l.Now().Sub(begun)
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

// lookups bounds what the name service and the rules look up.
func (l *login) lookups(ctx context.Context) (context.Context, context.CancelFunc) {
	if l.budget < l.cfg.Timeouts.NSS {
		return l.withDeadline(ctx, "login_timeout", l.budget)
	}
	return l.withDeadline(ctx, "nss_timeout", l.cfg.Timeouts.NSS)
}

// countLookups takes what the name service and the rules have used up so far off
// login_timeout. A verifier that could then not be given its time is not asked:
// what ran out is this host's, and must not look like an outage.
func (l *login) countLookups() error {
	l.budget -= l.Now().Sub(l.begun)
	if l.budget < min(l.cfg.Timeouts.Request, l.cfg.Timeouts.Login/2) {
		return &deadline{"login_timeout"}
	}
	return nil
}

// waitMargin is granted to the module beyond a step's own deadline, so that
// authd is the one that gives up first and says why.
const waitMargin = 2 * time.Second

// ended is the verdict of a login that something outside has ended.
func (l *login) ended(ctx context.Context) (verdict, bool) {
	return endedBy(context.Cause(ctx))
}

func endedBy(err error) (verdict, bool) {
	var d *deadline
	switch {
	case err == nil:
		return verdict{}, false
	case errors.Is(err, ErrPeerGone):
		return deny("peer_gone"), true
	case errors.Is(err, ErrShutdown):
		return verdict{outcome: outcomeUnavailable, reason: "shutdown", setting: "stop_timeout",
			text: textRestarting()}, true
	case errors.Is(err, ErrProtocol):
		return deny("protocol_error").because(err), true
	case errors.As(err, &d) && d.setting == "login_timeout":
		return verdict{outcome: outcomeUnavailable, reason: "login_timeout", setting: "login_timeout",
			text: textTooLate()}, true
	case errors.As(err, &d) && d.setting == "answer_timeout":
		return deny("answer_late").by("answer_timeout").saying(textTooLate()), true
	}
	return verdict{}, false
}

// failed is the verdict of an error of the verifier, or of the conversation,
// once a factor was offered: no fail mode has a say here.
func (l *login) failed(err error) verdict {
	if v, ok := endedBy(err); ok {
		return v
	}
	var outage *upstream.Outage
	if errors.As(err, &outage) {
		v := verdict{outcome: outcomeUnavailable, reason: "verifier_lost", setting: outage.Setting, err: err}
		var d *deadline
		if v.setting == "" && errors.As(err, &d) {
			v.setting = d.setting
		}
		return v.saying(textVerifierLost(l.cfg.Contact))
	}
	var late *busy
	if errors.As(err, &late) {
		return deny("verifier_refused").because(err).busy(late, l.cfg.Contact)
	}
	var answer *duoapi.Error
	if errors.As(err, &answer) {
		return deny("verifier_refused").because(err).saying(textVerifierRefused(l.cfg.Contact))
	}
	return verdict{outcome: outcomeUnavailable, reason: "verifier_lost", err: err}
}

// outageAttrs says what the outage in err looks like and which setting it points
// at, whatever the setting that decided.
func outageAttrs(err error) []slog.Attr {
	var outage *upstream.Outage
	if !errors.As(err, &outage) {
		return nil
	}
	attrs := []slog.Attr{slog.String("cause", string(outage.Cause))}
	if outage.Setting != "" {
		attrs = append(attrs, slog.String("cause_setting", outage.Setting))
	}
	return attrs
}

// ask asks a question that takes answers for answer_timeout.
func (l *login) ask(ctx context.Context, text string) (frames.Secret, error) {
	ctx, cancel := l.withDeadline(ctx, "answer_timeout", l.cfg.Timeouts.Answer)
	defer cancel()
	in, err := l.conv.Ask(ctx, text)
	l.gone = err != nil && !errors.Is(err, ErrTooLong)
	return in, err
}
