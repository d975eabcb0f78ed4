// SPDX-License-Identifier: Apache-2.0

// Package conversation is the gateway's end of the frame protocol: one call to authd,
// or to the PAM helper, and the person that it talks to. It decides nothing.
package conversation

import (
	"context"
	"errors"

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

// Client calls a daemon at a Unix socket. It is safe for concurrent use.
type Client struct {
	Path string
}

// Call sends req and leads the conversation with p until the daemon is DONE, the
// context ends, or a limit of docs/reference/frames.md fires. Any error means that
// there was no decision, and so no.
func (c *Client) Call(ctx context.Context, req *frames.Request, p Person) (frames.Outcome, error) {
	panic("not built yet")
}
