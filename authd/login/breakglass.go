// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"log/slog"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// BreakGlass is what a login asks of sallyport-breakglass. It is safe for
// concurrent use.
type BreakGlass interface {
	Available(ctx context.Context, l breakglass.Login) (bool, error)
	Try(ctx context.Context, l breakglass.Login, code frames.Secret) (breakglass.Answer, error)
	Granted(ctx context.Context, hook frames.Hook, l breakglass.Login) (bool, error)
}

// breakGlassTimeout bounds what sallyport-breakglass may take for a code: a hash,
// and the delay after wrong ones.
const breakGlassTimeout = 65 * time.Second

// lookTimeout bounds a question to it that no person waits for in vain.
const lookTimeout = 3 * time.Second

// breakGlassLogin is this login as sallyport-breakglass is told of it.
func (l *login) breakGlassLogin() breakglass.Login {
	return breakglass.Login{
		Person: l.who.Name, User: l.req.User, Service: l.req.Service, TTY: l.req.TTY, RHost: l.req.RHost,
		SSHConnection: l.ssh.conn, Process: l.peer.Process,
	}
}

// hasBreakGlass says whether a code may be asked for: only where a fail mode has
// denied for an outage, never against a rule's or the verifier's word.
func (l *login) hasBreakGlass(ctx context.Context) bool {
	if l.BreakGlass == nil || l.peer.Socket != RootSocket {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	ok, err := l.BreakGlass.Available(ctx, l.breakGlassLogin())
	if err != nil {
		l.log.Warn("sallyport-breakglass was not asked", slog.String("event", "breakglass_away"), slog.Any("error", err))
	}
	return ok
}

// breakGlass asks for a break-glass code. down is what the login comes to without.
func (a *asking) breakGlass(ctx context.Context, down verdict) verdict {
	a.factor = agentapi.FactorBreakGlass
	for {
		in, v := a.put(ctx, textBreakGlass(a.hostname(), a.note))
		if v != nil {
			return *v
		}
		if a.note = ""; strings.TrimSpace(in.text.Reveal()) == "" && !in.tooLong {
			return down
		}
		if v := a.breakGlassTry(ctx, in, down); v != nil {
			return *v
		}
	}
}

// orBreakGlass is otherwise, or the question for a break-glass code if there is one.
func (a *asking) orBreakGlass(ctx context.Context, down, otherwise verdict) verdict {
	if a.glass {
		return a.breakGlass(ctx, down)
	}
	return otherwise
}

// breakGlassTry has a code decided. Without a verdict the question comes again.
// Its delays are those of sallyport-breakglass, which hold root's way open.
func (a *asking) breakGlassTry(ctx context.Context, in answer, down verdict) *verdict {
	a.factor = agentapi.FactorBreakGlass
	var said breakglass.Answer
	err := a.machine(ctx, "login_timeout", breakGlassTimeout, func(ctx context.Context) (err error) {
		said, err = a.BreakGlass.Try(ctx, a.breakGlassLogin(), in.text)
		return err
	})
	if v, ended := endedBy(err); ended {
		return &v
	}
	if err != nil {
		v := down
		v.err = err
		return &v
	}
	if said.Accepted {
		v := allow("breakglass").by(down.setting).because(down.err)
		return &v
	}
	a.attempts--
	a.note = textFailed(printable(orElse(said.Text, textNoBreakGlass()), 200), a.attempts)
	if a.attempts <= 0 {
		return &verdict{outcome: outcomeMaxTries, reason: "too_many_attempts", setting: "attempts", text: a.note, err: down.err}
	}
	return nil
}

// orGranted lets a hook pass that found no second factor, if a break-glass code
// was it: the code may have been taken while this authd was away.
func (l *login) orGranted(ctx context.Context, v verdict) verdict {
	if v.reason != "no_second_factor" || l.BreakGlass == nil || l.peer.Socket != RootSocket {
		return v
	}
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	ok, err := l.BreakGlass.Granted(ctx, l.req.Hook, l.breakGlassLogin())
	if err != nil {
		l.log.Warn("sallyport-breakglass was not asked", slog.String("event", "breakglass_away"), slog.Any("error", err))
	}
	if !ok {
		return v
	}
	l.factor = agentapi.FactorBreakGlass
	l.grants.Add(l.peer.Process, l.service.Name, l.req.User, "", l.cfg.Limits.Grants)
	return allow("breakglass")
}
