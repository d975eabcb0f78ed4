// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/sshgw/audit"
	"github.com/sallyport-mfa/sallyport/sshgw/target"
)

// refusal is a no, in the words that the person reads. Its event is written already.
type refusal struct {
	reason ssh.RejectionReason
	text   string
}

func (r *refusal) Error() string { return r.text }

// errSilent says that a peer has not answered in time.
var errSilent = errors.New("no answer in time (timeouts.target)")

// How much of a peer's text goes into the log: of most, and of commands and paths, which
// are what the log is for.
const longest, longestPath = 512, 4096

// short cuts text of a peer down for the log, which escapes it.
func short(s string) string {
	if len(s) > longest {
		return s[:longest] + "…"
	}
	return s
}

// long is short for commands and paths.
func long(s string) string {
	if len(s) > longestPath {
		return s[:longestPath] + "…"
	}
	return s
}

// clip cuts it down and makes it harmless, for people.
func clip(s string) string { return cli.Escape(short(s)) }

// denied is a refusal by a rule, or by what the gateway is.
func (c *connection) denied(ctx context.Context, targetName, login, reason, text string, attrs ...slog.Attr) error {
	all := []slog.Attr{slog.String("reason", reason)}
	if targetName != "" {
		all = append(all, slog.String("target", targetName), slog.String("login", login))
	}
	c.refused(ctx, slog.LevelWarn, audit.Denied, append(all, attrs...)...)
	return &refusal{ssh.Prohibited, c.contact(text)}
}

// failed is a refusal because something went wrong. Its text is for people, through
// cli.Hint, and nothing else of it.
func (c *connection) failed(ctx context.Context, targetName, login string, err error) error {
	all := []slog.Attr{slog.String("target", targetName), slog.String("login", login)}
	var hint *cli.Hint
	var problem *target.Error
	if errors.As(err, &problem) {
		// Its text is for people, and the hint around it names whom to ask.
		c.refused(ctx, slog.LevelWarn, audit.TargetRefused, append(all, target.Attrs(err)...)...)
		return &refusal{ssh.ConnectionFailed, err.Error()}
	}
	all = append(all, slog.String("error", short(err.Error())))
	c.refused(ctx, slog.LevelWarn, audit.TargetRefused, all...)
	text := fmt.Sprintf("%s cannot be reached", targetName)
	if errors.As(err, &hint) {
		text += ": " + hint.Next
	}
	return &refusal{ssh.ConnectionFailed, c.contact(text)}
}

// contact adds whom to ask.
func (c *connection) contact(text string) string {
	if contact := c.config().Contact; contact != "" && text != "" {
		return text + "; ask " + contact
	}
	return text
}

// reject refuses a channel of a peer whose refusals these are, and end its end.
func (c *connection) reject(of *refusals, end func(), ch ssh.NewChannel, err error) {
	r := &refusal{ssh.ConnectionFailed, "the gateway could not do this"}
	if !errors.As(err, &r) {
		if more, ok := c.spend(of, end); ok {
			c.log.LogAttrs(c.ctx, slog.LevelWarn, "a channel was refused", append(more, slog.String("error", short(err.Error())))...)
		}
	}
	_ = ch.Reject(r.reason, clip(r.text))
}
