// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/route"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// second is what follows a first factor that was proven by the request at hand: a rule
// that needs nobody to type, or a second step.
func (v *Visit) second(m ssh.ConnMetadata, p *proof) (*ssh.Permissions, error) {
	v.proves()
	query := config.DoorQuery{User: p.account.Name, InGroup: v.inGroup(p.account), Key: p.key, Source: v.who.Source.Addr().String()}
	if p.key != "" {
		if b := v.policy.Batch(query); b != nil && v.reaches(b, p) {
			return v.settle(m, p, secondfactor.Batch, b.Name, identity.Batched, conversation.Nobody{})
		}
	}
	rule := ""
	if d := v.policy.Door(v.ctx, query); d != nil {
		rule = d.Name
		switch {
		case d.Action == config.DoorTouch && p.touched:
			return v.settle(m, p, secondfactor.Touch, rule, identity.Touched, v.reader())
		case d.Action == config.DoorHold:
			return v.hold(m, p, rule)
		}
	}
	asked := v.asking(p, rule)
	return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{KeyboardInteractiveCallback: asked}}
}

// reaches says whether a batch rule is meant: a connection that says where it goes, and
// goes elsewhere, is a person's.
func (v *Visit) reaches(b *config.Batch, p *proof) bool {
	if p.name.Target == "" {
		return true
	}
	t := v.target(p)
	return t != nil && b.Reaches(t)
}

// target is what the name after the percent sign means, nil for nothing.
func (v *Visit) target(p *proof) *inventory.Target {
	if p.name.Target == "" || v.policy.Target == nil {
		return nil
	}
	if t, ok := v.policy.Target(p.name.Target); ok {
		return t
	}
	return nil
}

// asking is the second step: it belongs to the proof of the first, to its user, and to
// this connection's session.
func (v *Visit) asking(p *proof, rule string) func(ssh.ConnMetadata, ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
	return func(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		person := Interactive(challenge)
		perms, err := v.settle(m, p, secondfactor.Door, rule, identity.Asked, person)
		if errors.Is(err, secondfactor.ErrTooMany) {
			// Nothing is left to try: this ends the connection, and lets nobody in.
			_ = v.note(m, "keyboard-interactive", nil, err)
			return nil, &ssh.PartialSuccessError{}
		}
		return perms, v.note(m, "keyboard-interactive", nil, err)
	}
}

// settle asks authd, and on its yes makes the permissions of the connection.
func (v *Visit) settle(m ssh.ConnMetadata, p *proof, kind secondfactor.Kind, rule string, factor identity.Factor, person Person) (*ssh.Permissions, error) {
	if m.User() != p.user {
		return nil, no("user_changed", "the user changed from %q to %q between two steps", p.user, m.User())
	}
	id := p.identity(m, v)
	question := secondfactor.Question{Identity: id, Kind: kind, Rule: rule, Terminal: "ssh"}
	if t := v.target(p); t != nil {
		question.Target, question.Login = t.Name, cmp.Or(p.name.Login, route.LoginAt(t, p.account.Name))
	}
	if err := v.door.opt.Second.Ask(v.ctx, question, person); err != nil {
		return nil, v.unsettled(err)
	}
	if v.ctx.Err() != nil { // a yes that comes after its time is none
		return nil, cannot("second_factor_undecided", "the second factor: %w", context.Cause(v.ctx))
	}
	id.Factor, id.DoorRule, id.Since = factor, rule, v.door.opt.Now()
	if v.who.Admit != nil {
		if err := v.who.Admit(id); err != nil {
			v.say(v.whom("Too many connections are open here just now."))
			return nil, cannot("too_many_connections", "%w", err)
		}
	}
	return &ssh.Permissions{ExtraData: map[any]any{grantedKey{}: granted{visit: v, user: p.user, identity: id}}}, nil
}

// unsettled says why the second factor was not shown. Where it could not be asked for, the
// person reads so: they have proven the first.
func (v *Visit) unsettled(err error) error {
	switch {
	case errors.Is(err, secondfactor.ErrRefused):
		return no("second_factor_refused", "%w", err)
	case errors.Is(err, conversation.ErrNobody):
		v.say(v.whom("A second factor is needed, and there is nobody here who could be asked for it."))
		return no("second_factor_unanswered", "the second factor: %w", err)
	case v.ctx.Err() != nil:
		return cannot("second_factor_undecided", "the second factor: %w", context.Cause(v.ctx))
	case errors.Is(err, secondfactor.ErrBusy):
		v.say(v.whom("Too many logins wait for their second factor just now, yours among them. Answer or close those, and try again."))
		return cannot("second_factor_undecided", "the second factor: %w", err)
	}
	v.say(v.whom("The second factor cannot be asked for just now."))
	return cannot("second_factor_undecided", "the second factor: %w", err)
}

var errAbandoned = errors.New("a push was sent, and nobody waited for its answer")

// ErrGone is the cause of a visit's end where its client went away.
var ErrGone = errors.New("the client went away")

// reader is a person who can be shown something, and not asked.
func (v *Visit) reader() Person {
	if v.banner == nil {
		return conversation.Nobody{}
	}
	return newHeld(v.banner)
}

// hold keeps the client waiting for the reply to its signature while a push is pending.
func (v *Visit) hold(m ssh.ConnMetadata, p *proof, rule string) (*ssh.Permissions, error) {
	if v.banner == nil {
		return nil, cannot("second_factor_undecided", "hold the reply: no way to show anything")
	}
	h := newHeld(v.banner)
	stop := h.signsOfLife(v.policy.Banner)
	perms, err := v.settle(m, p, secondfactor.Hold, rule, identity.Held, h)
	stop()
	if err != nil && h.told() && errors.Is(context.Cause(v.ctx), ErrGone) {
		// What was shown says that a push is out. Who has one sent and hangs up may do so
		// with a stolen key, until it is approved by mistake.
		return nil, no("second_factor_unanswered", "%w: %w", errAbandoned, err)
	}
	if err != nil {
		return nil, fmt.Errorf("while the reply was held: %w", err)
	}
	return perms, nil
}
