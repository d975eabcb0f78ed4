// SPDX-License-Identifier: Apache-2.0

// Package secondfactor asks authd for the second factor of a connection, at the door
// and when a target demands one of its own. Only authd says yes.
package secondfactor

import (
	"context"
	"errors"

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

// Asker asks authd. It is safe for concurrent use.
type Asker struct {
	Client *conversation.Client
}

// Ask returns nil for yes, an error that wraps ErrRefused for no, and any other error
// where there was no decision, which is a no as well.
func (a *Asker) Ask(ctx context.Context, q Question, p conversation.Person) error {
	panic("not built yet")
}
