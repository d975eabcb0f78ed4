// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
)

// A connection may be open for days, and shared. So whoever opens something in it is
// looked up again: an answer counts for known, and none for unknown.
const (
	known    = time.Minute
	unknown  = 5 * time.Second
	lookedUp = 10 * time.Second // a look-up may take
)

// standing is what was last found out about the person.
type standing struct {
	busy chan struct{} // held by whoever looks
	at   time.Time
	err  error
}

func newStanding(now time.Time) *standing {
	return &standing{busy: make(chan struct{}, 1), at: now} // the door has just looked
}

// errChanged says that a person is not who came in any more.
var errChanged = errors.New("the account is not any more what it was at the login")

// stands refuses to open anything for a person who is no longer who they were, or whose
// key has expired. The first of these ends the connection.
func (c *connection) stands(ctx context.Context) error {
	now := c.service.Now()
	if e := c.id.Expires; !e.IsZero() && !now.Before(e) {
		return c.denied(ctx, "", "", "expired", "your key or certificate has expired: log in again with one that has not",
			slog.String("error", "it expired at "+e.UTC().Format(time.RFC3339)))
	}
	err := c.account(ctx)
	switch {
	case errors.Is(err, errChanged):
		refused := c.denied(ctx, "", "", "account_changed", "your account has changed", slog.String("error", short(err.Error())))
		c.root().server.End("account_changed", "")
		return refused
	case err != nil:
		return c.denied(ctx, "", "", "account_unknown", "who you are cannot be looked up just now", slog.String("error", short(err.Error())))
	}
	return nil
}

// account looks the person up, unless that was done not long ago.
func (c *connection) account(ctx context.Context) error {
	s := c.root().standing
	select {
	case s.busy <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.busy }()
	age, fresh := c.service.Now().Sub(s.at), known
	if s.err != nil {
		fresh = unknown
	}
	if age < 0 || age >= fresh { // a clock that was set back makes nothing fresh
		err := c.lookUp(ctx)
		if ctx.Err() != nil { // says nothing about the person
			return context.Cause(ctx)
		}
		s.at, s.err = c.service.Now(), err
	}
	return s.err
}

func (c *connection) lookUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, lookedUp, fmt.Errorf("the name service did not answer within %s", lookedUp))
	defer cancel()
	was := c.id.Account
	is, err := c.service.People.ByName(ctx, was.Name)
	switch {
	case errors.Is(err, directory.ErrNoSuchUser):
		if was.Absent && c.config().First.Accounts == config.AccountsAny {
			return nil
		}
		return fmt.Errorf("%w: %w", errChanged, err)
	case err != nil && context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case err != nil:
		return fmt.Errorf("look up the account: %w", err)
	case is.UID != was.UID || is.Name != was.Name || was.Absent:
		return fmt.Errorf("%w: %q with uid %d is %q with uid %d", errChanged, was.Name, was.UID, is.Name, is.UID)
	}
	return nil
}

// endsAtExpiry ends the connection when its key or certificate expires, where the
// configuration wants that.
func (c *connection) endsAtExpiry() (stop func()) {
	if c.outer != nil || c.id.Expires.IsZero() || !c.config().First.EndAtExpiry {
		return func() {}
	}
	timer := time.AfterFunc(c.id.Expires.Sub(c.service.Now()), func() {
		c.server.End("expired", "first_factor.end_at_expiry")
	})
	return func() { timer.Stop() }
}
