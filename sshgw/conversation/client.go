// SPDX-License-Identifier: Apache-2.0

package conversation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// Limits of docs/reference/frames.md.
const (
	connectTimeout = time.Second
	writeTimeout   = 5 * time.Second
	readTimeout    = 10 * time.Second
	// DefaultPatience is how long a call waits for the daemon in all.
	DefaultPatience = 90 * time.Second
)

// Client calls a daemon at a Unix socket. It is safe for concurrent use.
type Client struct {
	Path string
	// Patience bounds all waiting for the daemon in one call; a person's typing time
	// does not count. 0: DefaultPatience.
	Patience time.Duration
}

// Call sends req and leads the conversation with p until the daemon is DONE, the
// context ends, or a limit of docs/reference/frames.md fires. Any error means that
// there was no decision, and so no. The error wraps ErrNobody where a question had no
// way to be answered and the daemon then gave up.
func (c *Client) Call(ctx context.Context, req *frames.Request, p Person) (frames.Outcome, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	// A context that ends wakes whoever reads or writes.
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()

	call := &call{conn: conn, person: p, left: c.Patience}
	if call.left <= 0 {
		call.left = DefaultPatience
	}
	outcome, err := call.run(ctx, req)
	if ctx.Err() != nil {
		return 0, fmt.Errorf("call %s: %w", c.Path, context.Cause(ctx))
	}
	if err != nil {
		return 0, fmt.Errorf("call %s: %w", c.Path, err)
	}
	return outcome, nil
}

func (c *Client) connect(ctx context.Context) (*net.UnixConn, error) {
	dial, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(dial, "unix", c.Path)
	if err != nil {
		return nil, fmt.Errorf("connect to %s within %s: %w", c.Path, connectTimeout, err)
	}
	conn := raw.(*net.UnixConn)
	uid, err := peerUID(conn)
	if err == nil && uid != 0 && uid != uint32(os.Geteuid()) {
		err = fmt.Errorf("uid %d made the socket, neither root nor this account", uid)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("check who is at %s: %w", c.Path, err)
	}
	return conn, nil
}

// peerUID is whose process made the socket at the other end, as the kernel says.
func peerUID(conn *net.UnixConn) (uint32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var optErr error
	if err := raw.Control(func(fd uintptr) {
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if optErr != nil {
		return 0, optErr
	}
	return cred.Uid, nil
}

// call is one conversation.
type call struct {
	conn   net.Conn
	person Person
	left   time.Duration // of the patience with the daemon
	mute   bool          // somebody had no way to answer: nothing is asked or shown any more
	broken error         // why nothing can be asked any more
}

func (c *call) run(ctx context.Context, req *frames.Request) (frames.Outcome, error) {
	if err := c.write(req); err != nil {
		return 0, err
	}
	wait := time.Duration(0)
	for rounds := 0; ; rounds++ {
		f, err := c.read(wait)
		if err != nil {
			return 0, err
		}
		wait = 0
		if done, ok := f.(*frames.Done); ok {
			if done.Outcome != frames.OutcomeAllow && c.broken != nil {
				return done.Outcome, c.broken
			}
			return done.Outcome, nil
		}
		if rounds >= frames.MaxRounds {
			_ = c.write(&frames.Abort{Reason: frames.ReasonRounds})
			return 0, fmt.Errorf("more than %d rounds", frames.MaxRounds)
		}
		switch f := f.(type) {
		case *frames.Show:
			if !c.mute {
				_ = c.person.Show(f.Style, Clean(f.Text)) // who cannot read may still be let in
			}
		case *frames.Wait:
			if f.For == 0 {
				return 0, errors.New("the daemon granted itself no time")
			}
			wait = f.For
		case *frames.Ask:
			err = c.ask(ctx, req, f.Text, true)
		case *frames.AskSecret:
			err = c.ask(ctx, req, f.Text, false)
		default:
			err = fmt.Errorf("%w: %s is not the daemon's to send", frames.ErrBroken, f.Type())
		}
		if err != nil {
			return 0, err
		}
	}
}

func (c *call) ask(ctx context.Context, req *frames.Request, text string, echo bool) error {
	if !req.Hook.CanAsk() {
		return fmt.Errorf("%w: a question under %s", frames.ErrBroken, req.Hook)
	}
	if !c.mute {
		answer, err := c.person.Ask(ctx, Clean(text), echo)
		if err == nil {
			if len(answer) > frames.AnswerMax {
				return c.write(&frames.Answer{TooLong: true})
			}
			return c.write(&frames.Answer{Text: answer})
		}
		c.mute, c.broken = true, err
	}
	return c.write(&frames.Abort{Reason: frames.ReasonConversation})
}

func (c *call) write(f frames.Frame) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	return frames.WriteFrame(c.conn, f)
}

// read reads the next frame, within what a WAIT granted, else the limit of the protocol.
func (c *call) read(wait time.Duration) (frames.Frame, error) {
	limit, name := readTimeout, "the limit of a frame"
	if wait > 0 {
		limit, name = wait, "what the daemon asked for"
	}
	if limit > c.left {
		limit, name = c.left, "the patience of a call"
	}
	start := time.Now()
	if err := c.conn.SetReadDeadline(start.Add(limit)); err != nil {
		return nil, err
	}
	f, err := frames.ReadFrame(c.conn)
	c.left -= time.Since(start)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("no frame within %s, %s: %w", limit, name, err)
	}
	return f, err
}
