// SPDX-License-Identifier: Apache-2.0

// Package secondfactor asks authd for the second factor of a connection, at the door
// and when a target demands one of its own. Only authd says yes.
package secondfactor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/sallyport-mfa/sallyport/internal/frames"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
)

// Kind says what the gateway claims of a question; docs/reference/frames.md has them.
type Kind string

// The kinds of questions.
const (
	Door   Kind = "door"    // at the door, with a person who can answer
	Hold   Kind = "hold"    // the same, and nobody can type: a push, its digits shown
	Touch  Kind = "touch"   // a rule accepts the key's touch; authd looks whether the person may
	Batch  Kind = "batch"   // a rule lets in; authd looks for a rule that refuses
	StepUp Kind = "step-up" // for a target, whatever was answered at the door
	// StepUpHold is StepUp where people read and cannot type: no question, a push, its
	// digits shown.
	StepUpHold Kind = "step-up-hold"
	// StepUpRemembered is StepUp where there is nobody yet: what is remembered counts,
	// and nothing is sent to anybody.
	StepUpRemembered Kind = "step-up-remembered"
)

// Question is one request for a second factor.
type Question struct {
	Identity *identity.Identity // Factor and Since are not set yet at the door
	Kind     Kind
	Rule     string // the gateway's rule behind it
	Target   string // canonical name, "" where none is known
	Login    string
	Terminal string // for the log, "" for none
	Fresh    bool   // a remembered answer does not do
}

// ErrRefused says that authd said no.
var ErrRefused = errors.New("the second factor was refused")

// ErrTooMany is wrapped beside ErrRefused where authd will take no other try for now.
var ErrTooMany = errors.New("too many tries")

// service is the name under which authd's configuration knows the gateway.
const service = "sshgw"

// Caller leads a conversation with authd; a conversation.Client does.
type Caller interface {
	Call(ctx context.Context, req *frames.Request, p conversation.Person) (frames.Outcome, error)
}

// Asker asks authd. It is safe for concurrent use.
type Asker struct {
	Client Caller

	places places
}

// Ask returns nil for yes, an error that wraps ErrRefused for no, and any other error
// where there was no decision, which is a no as well: one that wraps ErrBusy where too
// many questions are open.
func (a *Asker) Ask(ctx context.Context, q Question, p conversation.Person) error {
	leave, err := a.places.take(ctx, placeOf(q))
	if err != nil {
		return fmt.Errorf("ask authd for the second factor of %s: %w", q.Identity.Account.Name, err)
	}
	defer leave()
	outcome, err := a.Client.Call(ctx, request(q), p)
	if err != nil {
		return fmt.Errorf("ask authd for the second factor of %s: %w", q.Identity.Account.Name, err)
	}
	switch outcome {
	case frames.OutcomeAllow:
		return nil
	case frames.OutcomeDeny, frames.OutcomeUserUnknown:
		return ErrRefused
	case frames.OutcomeMaxTries:
		return fmt.Errorf("%w: %w", ErrRefused, ErrTooMany)
	}
	return fmt.Errorf("ask authd for the second factor of %s: it decided nothing: %s", q.Identity.Account.Name, outcome)
}

func request(q Question) *frames.Request {
	id := q.Identity
	env := map[string]string{
		"SSH_CONNECTION":        connection(id.Source, id.Local),
		"SSH_AUTH_INFO_0":       id.AuthInfo,
		"SALLYPORT_SSH_SESSION": id.SessionID,
		"SALLYPORT_GATEWAY":     string(q.Kind),
	}
	for name, value := range map[string]string{
		"SALLYPORT_GATEWAY_RULE": q.Rule, "SALLYPORT_TARGET": q.Target, "SALLYPORT_LOGIN": q.Login,
	} {
		if value != "" {
			env[name] = value
		}
	}
	if q.Fresh {
		env["SALLYPORT_FRESH"] = "1"
	}
	return &frames.Request{
		Hook: frames.HookAuthenticate, RUID: uint32(os.Getuid()), EUID: uint32(os.Geteuid()), Version: version.String(),
		Service: service, User: id.Account.Name, TTY: q.Terminal, RHost: id.Source.Addr().String(), PAMEnv: env,
	}
}

// connection is both ends as sshd writes them: address and port of each.
func connection(source, local netip.AddrPort) string {
	return fmt.Sprintf("%s %d %s %d", source.Addr(), source.Port(), local.Addr(), local.Port())
}
