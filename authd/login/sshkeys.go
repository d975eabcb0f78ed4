// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/passport"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// SSHKeys knows the SSH public keys of people. It is safe for concurrent use.
type SSHKeys interface {
	// Of returns the keys of a person by their name at the verifier, as lines of
	// authorized_keys; where no verifier answers, those that it knew at most maxAge
	// ago. It returns ErrNoPerson for who may not log in, or is not known.
	Of(ctx context.Context, host passport.Host, username string, maxAge time.Duration) ([]string, error)
}

// ErrNoPerson says that the verifier knows no such person who might log in.
var ErrNoPerson = errors.New("no such person")

// sshKeys shows the keys of a person. Strangers have them asked for by offering a
// key, so nothing of it is a login, and the log is not theirs to fill.
func (l *login) sshKeys(ctx context.Context) verdict {
	quietly := func(v verdict) verdict {
		v.quiet = true
		return v
	}
	if l.peer.Socket != GatewaySocket || l.SSHKeys == nil {
		return quietly(deny("unsupported_hook"))
	}
	lookups, cancel := l.lookups(ctx)
	defer cancel()
	if v, ok := l.identify(lookups); !ok {
		return quietly(v)
	}
	cancel()
	if v, ok := l.mapped(); ok {
		return quietly(v)
	}
	var keys []string
	err := l.machine(ctx, "request_timeout", l.requestLimit(), func(ctx context.Context) (err error) {
		keys, err = l.SSHKeys.Of(ctx, l.host, l.username, l.cfg.Gateway.KeysMaxAge)
		return err
	})
	switch {
	case errors.Is(err, ErrNoPerson):
		return quietly(deny("no_such_person"))
	case err != nil:
		l.log.Debug("SSH keys not known", slog.Any("error", err))
		return quietly(verdict{outcome: outcomeUnavailable, reason: "keys_unknown", err: err})
	}
	for _, k := range keys {
		if err := l.conv.Show(frames.StyleInfo, k); err != nil {
			return quietly(l.failed(err))
		}
	}
	return pass("ssh_keys")
}
