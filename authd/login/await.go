// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// freshness is how old a preauth may be for its verification code to be used:
// the code's life began with it.
const freshness = 5 * time.Second

// freshPreauth makes sure that a push goes out with a code that is neither used
// nor half expired.
func (a *asking) freshPreauth(ctx context.Context) *verdict {
	if a.Now().Sub(a.preAt) < freshness {
		return nil
	}
	if err := a.preauth(ctx); err != nil {
		v := a.failed(err)
		return &v
	}
	if a.pre.Result != duoapi.ResultAuth {
		v := deny("verifier_deny").saying(orElse(printable(a.pre.StatusMsg, 200), textDenied()))
		return &v
	}
	return nil
}

// await sends a push or makes a call, and waits for its answer. For a push with
// a code to type, the wait is a question.
func (a *asking) await(ctx context.Context, c choice) (*verdict, *choice) {
	params := a.params(c)
	params.Set("async", "1")
	life, setting := a.cfg.Timeouts.Approval, "approval_timeout"
	digits := ""
	if c.factor == duoapi.FactorPush && a.pre.VerificationCode != "" && a.pre.TxID != "" {
		digits = printable(a.pre.VerificationCode, 16)
		params.Set("txid", a.pre.TxID)
		if theirs := time.Duration(a.pre.Expiration) * time.Second; theirs > 0 {
			if theirs < life {
				setting = "push_timeout" // of the verifier
			}
			life = min(life, theirs-a.Now().Sub(a.preAt))
		}
	}
	a.preAt = time.Time{} // its code is used
	res, err := a.auth(ctx, params)
	if err != nil {
		v := a.failed(err)
		return &v, nil
	}
	if res.TxID == "" { // decided at once, as for a locked account
		return a.judge(res, "approved", textRequestNotSent()), nil
	}
	a.txid = res.TxID
	w := a.watch(ctx, res.TxID, life, setting)
	defer w.stop()
	if v := a.firstWord(ctx, w); v != nil {
		return v, nil
	}
	switch {
	case w.over() && (digits != "" || unreached(w.final.auth.Status)):
		return a.judgeEnd(ctx, w), nil
	case digits != "" && a.claims.kind.holds():
		return a.heldDigits(ctx, c, w, digits), nil
	case digits != "":
		return a.verified(ctx, c, w, digits)
	}
	return a.conclude(ctx, c, w), nil
}

// firstWordTime is how long a person waits at most for what the verifier first says
// of a transaction, which it does at once.
const firstWordTime = time.Second

// firstWord waits until it is known whether the request is on its way: nobody is to
// read digits for a device that cannot be reached.
func (a *asking) firstWord(ctx context.Context, w *watcher) *verdict {
	err := a.machine(ctx, w.setting, firstWordTime+time.Second, func(ctx context.Context) error {
		timer := time.NewTimer(firstWordTime)
		defer timer.Stop()
		select {
		case <-w.known:
			return nil
		case <-w.done:
			return nil
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	if err == nil {
		return nil
	}
	w.stop()
	a.cancel(ctx)
	v := a.failed(err)
	return &v
}

// unreached says that by this status the request reached no device.
func unreached(status string) bool { return status == "push_failed" || status == "call_failed" }

// result is how a transaction ended. late says that it did not within its life.
type result struct {
	auth duoapi.Auth
	late bool
	err  error
}

// refusal says that the person has said no.
func (r result) refusal() bool { return r.err == nil && refusal(r.auth) }

func refusal(a duoapi.Auth) bool {
	return a.Result == duoapi.ResultDeny && a.Status != "timeout" && !unreached(a.Status)
}

// decides says that r ends the login whatever else the person has chosen by now.
func (r result) decides() bool {
	return r.err != nil || r.auth.Result == duoapi.ResultAllow || endsLogin(r.auth.Status)
}

// watcher follows a transaction in the background until it ends, its life is
// over, or stop is called. An answer of the verifier that comes after the life
// of the transaction is never seen: the watcher has then stopped to look.
type watcher struct {
	ends    time.Time
	setting string        // that ends it then
	known   chan struct{} // closed when the verifier has first said how it stands
	done    chan struct{} // closed when final holds
	final   result
	news    chan string // states on the way, for people; the latest only
	stop    context.CancelFunc
}

// over says that final holds.
func (w *watcher) over() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

func (a *asking) watch(ctx context.Context, txid string, life time.Duration, setting string) *watcher {
	ctx, cancel := a.withDeadline(ctx, setting, life)
	w := &watcher{
		ends: a.Now().Add(life), setting: setting, known: make(chan struct{}), done: make(chan struct{}), news: make(chan string, 1), stop: cancel,
	}
	go func() {
		defer close(w.done)
		w.final = a.poll(ctx, txid, w.news, sync.OnceFunc(func() { close(w.known) }))
		if w.final.refusal() {
			a.refused() // whatever the person types meanwhile
		}
	}()
	return w
}

// pollPause keeps a poll that returns at once, for whatever reason, from
// becoming a flood.
const pollPause = 300 * time.Millisecond

// poll asks for the state of a transaction until it is final. A verifier that
// restarts meanwhile is asked again for as long as request_timeout. It calls known
// with each state that is not final.
func (a *asking) poll(ctx context.Context, txid string, news chan<- string, known func()) result {
	var away time.Time // since when no answer came
	lastState := ""
	refusals := 0
	for {
		res, err := a.verifier.AuthStatus(ctx, txid)
		now, pause := a.Now(), pollPause
		switch {
		case isDeadline(ctx):
			return result{late: true}
		case ctx.Err() != nil:
			return result{err: context.Cause(ctx)}
		case err == nil && (res.Result == duoapi.ResultAllow || res.Result == duoapi.ResultDeny):
			return result{auth: res}
		case err == nil:
			away, refusals = time.Time{}, 0
			known()
			if state := printable(res.StatusMsg, 200); state != lastState {
				lastState = state
				latest(news, state)
			}
		case !retryable(err):
			return result{err: err}
		case isAnswer(err):
			away = time.Time{}
			if refusals++; refusals > maxRefusals {
				return result{err: err}
			}
			if wait, busy := retryAfter(err); busy {
				pause = max(pause, wait)
			}
		case away.IsZero():
			away = now
		case now.Sub(away) > a.cfg.Timeouts.Request:
			return result{err: err}
		}
		if sleep(ctx, pause) != nil && isDeadline(ctx) {
			return result{late: true}
		}
	}
}

// retryable says that the transaction may still be alive: the verifier is away,
// ended a long poll as Duo's does, with 40002, or is busy for a while.
func retryable(err error) bool {
	var outage *upstream.Outage
	var answer *duoapi.Error
	if _, busy := retryAfter(err); busy {
		return true
	}
	return errors.As(err, &outage) || errors.As(err, &answer) && answer.Code == duoapi.CodeInvalidParameter
}

// maxRefusals is how many polls in a row may end with 40002, or with 429, before
// the transaction counts as gone.
const maxRefusals = 5

func isAnswer(err error) bool {
	var answer *duoapi.Error
	return errors.As(err, &answer)
}

func latest(to chan<- string, s string) {
	select {
	case to <- s:
	default: // somebody has yet to read the one before; states are only for show
	}
}

// conclude waits for the end of the transaction and judges it.
func (a *asking) conclude(ctx context.Context, c choice, w *watcher) *verdict {
	if a.req.Flags&pamSilent == 0 {
		_ = a.conv.Show(frames.StyleInfo, textStarted(c)) // a peer that is gone shows at the next frame
	}
	return a.concludeQuietly(ctx, w)
}

// concludeQuietly is conclude where the person has been told.
func (a *asking) concludeQuietly(ctx context.Context, w *watcher) *verdict {
	err := a.machine(ctx, w.setting, max(w.ends.Sub(a.Now()), 0)+time.Second, func(ctx context.Context) error {
		for {
			select {
			case <-w.done:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			case text := <-w.news:
				a.log.Debug("transaction", "txid", a.txid, "state", text)
			}
		}
	})
	if err != nil {
		w.stop()
		a.cancel(ctx)
		v := a.failed(err)
		return &v
	}
	return a.judgeEnd(ctx, w)
}

// judgeEnd judges a transaction that is over.
func (a *asking) judgeEnd(ctx context.Context, w *watcher) *verdict {
	switch r := w.final; {
	case r.late:
		a.cancel(ctx)
		a.attemptFailed(textNobodyAnswered())
		a.log.Info("request unanswered", "event", "timeout", "setting", w.setting, "txid", a.txid)
		return nil
	case r.err != nil:
		a.cancel(ctx)
		v := a.failed(r.err)
		return &v
	default:
		return a.judge(r.auth, "approved", textRequestDenied())
	}
}

// verified shows the digits in a question. It takes Enter (wait for the
// approval), a passcode, or another choice; the last two withdraw the push and
// cost nothing.
func (a *asking) verified(ctx context.Context, c choice, w *watcher, digits string) (*verdict, *choice) {
	note := ""
	for {
		earlier := a.note
		a.note = ""
		in, v := a.put(ctx, textDigits(a.menu, c, digits, earlier, note))
		if v != nil {
			w.stop()
			a.cancel(ctx)
			return v, nil
		}
		typed := strings.ReplaceAll(strings.TrimSpace(in.text.Reveal()), " ", "")
		over := w.over() // decided while the person was at the prompt
		switch {
		case over && w.final.decides():
			return a.judgeEnd(ctx, w), nil
		case typed == "" && !in.tooLong:
			return a.conclude(ctx, c, w), nil
		case typed == digits && !over:
			note = textDigitsHere()
			continue
		}
		other, err := a.read(in)
		if err != nil && over {
			return a.judgeEnd(ctx, w), nil
		}
		if err != nil {
			note = err.Error()
			continue
		}
		w.stop()
		a.cancel(ctx)
		return nil, &other
	}
}

// cancelTimeout bounds the withdrawal of a transaction; the login does not wait for it.
const cancelTimeout = 5 * time.Second

// cancel withdraws the transaction, so that an approval that comes later is
// void at the verifier as well. It is a courtesy: here it is void already.
func (a *asking) cancel(ctx context.Context) {
	txid := a.txid
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	go func() {
		defer stop()
		if err := a.verifier.Cancel(ctx, txid); err != nil {
			a.log.Debug("transaction not withdrawn", "txid", txid, "error", err)
		}
	}()
}
