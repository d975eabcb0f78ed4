// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// stepUp asks for the factor that a rule wants of its own: once for a connection,
// a target and a rule that stays as it is.
func (c *connection) stepUp(ctx context.Context, w *way, with companion) error {
	if !w.grant.StepUp {
		return nil
	}
	root := c.root()
	// One question at a time: the others may have their answer by it.
	select {
	case root.answering <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-root.answering }()
	what := stepKey{w.grant.Rule, w.target.Name}
	if a, ok := root.answered[what]; ok && w.grant.SameRule(&a.grant) && c.service.Now().Sub(a.at) < answeredFor {
		return nil
	}
	q := secondfactor.Question{
		Identity: c.id, Kind: secondfactor.StepUp, Rule: w.grant.Rule, Target: w.target.Name, Login: w.login,
	}
	person := with.person
	switch {
	case person == nil:
		// A push that nobody expects is not sent, nor one before whoever answers is there.
		q.Kind, person = secondfactor.StepUpRemembered, conversation.Nobody{}
	case with.reads:
		q.Kind = secondfactor.StepUpHold
	}
	err := c.service.Factor.Ask(ctx, q, person)
	if err != nil && with.later {
		return conversation.ErrNobody
	}
	attrs := []slog.Attr{slog.String("target", w.target.Name), slog.String("login", w.login), slog.String("rule", w.grant.Rule)}
	if err != nil {
		c.event(ctx, slog.LevelWarn, audit.StepUp, append(attrs, slog.String("result", "refused"), slog.String("error", short(err.Error())))...)
		text := fmt.Sprintf("%s needs a second factor of its own", w.target.Name)
		if errors.Is(err, secondfactor.ErrBusy) {
			text += ", and too many questions are open just now: answer or close those, and try again"
		} else if with.person == nil || with.reads {
			text += fmt.Sprintf(": run `ssh %s mfa %s` first, or log in at a terminal", c.config().Name, w.target.Name)
		}
		return &refusal{ssh.Prohibited, text}
	}
	c.event(ctx, slog.LevelInfo, audit.StepUp, append(attrs, slog.String("result", "allowed"))...)
	root.answered[what] = answer{w.grant, c.service.Now()}
	return nil
}

// answeredFor is how long an answer counts in its connection: a working day.
const answeredFor = 8 * time.Hour

// stepKey is what a factor is answered for.
type stepKey struct{ rule, target string }

// answer is by which rule, as it was then, a factor was asked for, and when it was given.
type answer struct {
	grant policy.Grant
	at    time.Time
}
