// SPDX-License-Identifier: Apache-2.0

package breakglass

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/process"
	"github.com/sallyport-mfa/sallyport/authd/sshinfo"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// Limits of the client: what the module grants authd, from the other side.
const (
	connectTimeout = time.Second
	replyTimeout   = 5 * time.Second // what a WAIT grants comes on top
)

// Login is the login for which authd asks.
type Login struct {
	Person        string // who has to prove themselves, canonical
	User          string // PAM_USER
	Service       string // PAM service
	TTY           string
	RHost         string
	SSHConnection string // as sshd has it, or empty
	Process       process.Process
}

// Client asks sallyport-breakglass for authd. It holds no connection between its
// calls, and is safe for concurrent use.
type Client struct {
	Path    string // of the program's socket
	Version string // of authd, for the log
}

// Available says whether there is an unused code for this login. That no program
// listens, or there are no codes, is no error.
func (c *Client) Available(ctx context.Context, l Login) (bool, error) {
	call, err := c.call(ctx, frames.HookAuthenticate, l)
	if err != nil || call == nil {
		return false, err
	}
	defer call.close()
	f, err := call.next()
	if err != nil {
		return false, err
	}
	if _, asked := f.(*frames.Ask); !asked {
		return false, nil
	}
	// Nobody is to answer yet.
	_ = frames.WriteFrame(call.conn, &frames.Abort{Reason: frames.ReasonConversation})
	return true, nil
}

// Answer is what has become of a code.
type Answer struct {
	Accepted bool
	Text     string // for the person, where the code was not taken
}

// Try offers a code. A code that is accepted is spent. An error says that no code
// can be taken.
func (c *Client) Try(ctx context.Context, l Login, code frames.Secret) (Answer, error) {
	call, err := c.call(ctx, frames.HookAuthenticate, l)
	if err != nil {
		return Answer{}, err
	}
	if call == nil {
		return Answer{}, errors.New("ask for a break-glass code: the program is gone")
	}
	defer call.close()
	sent := false
	for {
		f, err := call.next()
		if err != nil {
			return Answer{}, err
		}
		switch f := f.(type) {
		case *frames.Done:
			if sent && f.Outcome == frames.OutcomeAllow {
				return Answer{Accepted: true}, nil
			}
			return Answer{Text: call.shown}, fmt.Errorf("ask for a break-glass code: the answer is %s", f.Outcome)
		case *frames.Ask:
			if sent { // a further question means: not taken
				_ = frames.WriteFrame(call.conn, &frames.Abort{Reason: frames.ReasonConversation})
				return Answer{Text: firstLine(f.Text)}, nil
			}
			sent = true
			if err := frames.WriteFrame(call.conn, &frames.Answer{Text: code}); err != nil {
				return Answer{}, fmt.Errorf("ask for a break-glass code: %w", err)
			}
		}
	}
}

// Granted says whether a code has let this very process in, for the account and
// session hooks of a login that authd knows nothing of.
func (c *Client) Granted(ctx context.Context, hook frames.Hook, l Login) (bool, error) {
	call, err := c.call(ctx, hook, l)
	if err != nil || call == nil {
		return false, err
	}
	defer call.close()
	f, err := call.next()
	done, ok := f.(*frames.Done)
	return ok && done.Outcome == frames.OutcomeAllow, err
}

// call is one connection after its REQUEST.
type call struct {
	conn  *net.UnixConn
	stop  func() bool
	grace time.Duration // what a WAIT grants the next frame
	shown string
}

// call connects; nil without an error: no program listens.
func (c *Client) call(ctx context.Context, hook frames.Hook, l Login) (*call, error) {
	d := net.Dialer{Timeout: connectTimeout}
	conn, err := d.DialContext(ctx, "unix", c.Path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask for a break-glass code: %w", err)
	}
	unixConn := conn.(*net.UnixConn)
	out := &call{conn: unixConn, stop: context.AfterFunc(ctx, func() { _ = unixConn.SetDeadline(time.Unix(1, 0)) })}
	cred, err := process.Credentials(unixConn)
	if err == nil && cred.Uid != 0 && cred.Uid != uint32(os.Geteuid()) {
		err = fmt.Errorf("%s was made by uid %d", c.Path, cred.Uid)
	}
	if err == nil {
		_ = unixConn.SetWriteDeadline(time.Now().Add(replyTimeout))
		err = frames.WriteFrame(unixConn, c.request(hook, l))
	}
	if err != nil {
		out.close()
		return nil, fmt.Errorf("ask for a break-glass code: %w", err)
	}
	return out, nil
}

func (c *Client) request(hook frames.Hook, l Login) *frames.Request {
	r := &frames.Request{
		Hook: hook, Version: c.Version, Service: l.Service, User: l.User, TTY: l.TTY, RHost: l.RHost,
		PAMEnv: map[string]string{PersonVar: l.Person, ProcessVar: FormatProcess(l.Process)},
	}
	if l.SSHConnection != "" {
		r.PAMEnv[sshinfo.ConnectionVar] = l.SSHConnection
	}
	return r
}

// next is the next frame that is no WAIT and no message.
func (c *call) next() (frames.Frame, error) {
	for {
		_ = c.conn.SetReadDeadline(time.Now().Add(replyTimeout + c.grace))
		c.grace = 0
		f, err := frames.ReadFrame(c.conn)
		if err != nil {
			return nil, fmt.Errorf("ask for a break-glass code: %w", err)
		}
		switch f := f.(type) {
		case *frames.Wait:
			c.grace = min(f.For, time.Minute)
		case *frames.Show:
			c.shown = f.Text
		default:
			return f, nil
		}
	}
}

// firstLine is the note before the question.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

func (c *call) close() {
	c.stop()
	_ = c.conn.Close()
}
