// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/login"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// frameTimeout bounds the writing of a frame and the arrival of the REQUEST, as
// docs/reference/frames.md says.
const frameTimeout = 5 * time.Second

// conversation is the daemon's end of a connection after the REQUEST. One
// goroutine reads at all times, so that a module that hangs up is noticed while
// nothing is asked.
type conversation struct {
	conn *net.UnixConn
	in   chan frames.Frame
}

// converse begins to read. The context that it returns ends with
// login.ErrPeerGone or login.ErrProtocol as its cause when the module hangs up or
// sends what is no frame. The reader ends when the connection is closed.
func converse(ctx context.Context, conn *net.UnixConn) (*conversation, context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	c := &conversation{conn: conn, in: make(chan frames.Frame, 1)}
	go func() {
		for {
			f, err := frames.ReadFrame(conn)
			if errors.Is(err, frames.ErrBroken) {
				cancel(fmt.Errorf("%w: %w", login.ErrProtocol, err))
				return
			}
			if err != nil {
				cancel(login.ErrPeerGone)
				return
			}
			select {
			case c.in <- f:
			default:
				cancel(fmt.Errorf("%w: %s without a question", login.ErrProtocol, f.Type()))
				return
			}
		}
	}()
	return c, ctx
}

func (c *conversation) Show(style frames.Style, text string) error {
	return c.write(&frames.Show{Style: style, Text: text})
}

func (c *conversation) Wait(d time.Duration) error {
	return c.write(&frames.Wait{For: d})
}

func (c *conversation) Ask(ctx context.Context, text string) (frames.Secret, error) {
	if len(c.in) > 0 {
		return "", fmt.Errorf("%w: an answer before the question", login.ErrProtocol)
	}
	if err := c.write(&frames.Ask{Text: text}); err != nil {
		return "", err
	}
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case f := <-c.in:
		switch f := f.(type) {
		case *frames.Answer:
			if f.TooLong {
				return "", login.ErrTooLong
			}
			return f.Text, nil
		case *frames.Abort:
			return "", fmt.Errorf("%w: %s", login.ErrAborted, f.Reason)
		}
		return "", fmt.Errorf("%w: %s instead of an answer", login.ErrProtocol, f.Type())
	}
}

func (c *conversation) write(f frames.Frame) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(frameTimeout)); err != nil {
		return fmt.Errorf("%w: %w", login.ErrPeerGone, err)
	}
	err := frames.WriteFrame(c.conn, f)
	if errors.Is(err, frames.ErrTooLarge) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", login.ErrPeerGone, err)
	}
	return nil
}
