// SPDX-License-Identifier: Apache-2.0

// Package conversation is the gateway's end of the frame protocol: one call to authd,
// or to the PAM helper, and the person that it talks to. It decides nothing.
package conversation

import (
	"context"
	"errors"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// ErrNobody says that this person cannot be asked anything.
var ErrNobody = errors.New("nobody can be asked")

// Person is whoever is at the other end. Its methods are called by one goroutine at
// a time. Texts are shown with control characters replaced.
type Person interface {
	Show(style frames.Style, text string) error
	// Ask returns ErrNobody where there is no way to answer.
	Ask(ctx context.Context, text string, echo bool) (frames.Secret, error)
}

// Nobody cannot be shown or asked anything.
type Nobody struct{}

// Show implements Person.
func (Nobody) Show(frames.Style, string) error { return nil }

// Ask implements Person.
func (Nobody) Ask(context.Context, string, bool) (frames.Secret, error) { return "", ErrNobody }

// Clean makes a text of several lines harmless: what is not a line's end or a tab and
// moves a cursor, changes a colour or the direction of text becomes a visible escape.
func Clean(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		parts := strings.Split(line, "\t")
		for j, p := range parts {
			parts[j] = cli.Escape(p)
		}
		lines[i] = strings.Join(parts, "\t")
	}
	return strings.Join(lines, "\n")
}
