// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/sshgw/auth"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
)

// Inner says how to serve an SSH connection that runs inside a channel of another.
type Inner struct {
	Outer  *Conn
	Host   ssh.Signer // the host key to show, a certificate for the target's name
	Target string     // canonical name; the inner identity's target
	// Admit is asked once the client has named its user. The outer connection is the
	// first factor. An error refuses, for good under this user's name; its text is for
	// the person. At first person is nil: an Admit that has nothing to ask decides then
	// (and the client is let in by method none), else it returns conversation.ErrNobody
	// and is asked again, for the same or another user, with a person who answers by
	// keyboard-interactive.
	Admit   func(ctx context.Context, user string, person conversation.Person) error
	Handler Handler
}

// ErrNotAdmitted is returned where an inner connection was not authenticated.
var ErrNotAdmitted = errors.New("the connection inside was not let in")

// ServeInner serves an SSH connection inside a channel until it ends. ctx ends it, and so
// does the end of the outer connection. The channel's requests are the caller's to read.
func (s *Server) ServeInner(ctx context.Context, ch ssh.Channel, in Inner) error {
	outer := in.Outer
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer func() { _ = ch.Close() }()
	defer context.AfterFunc(outer.ctx, func() { cancel(errGone) })()
	defer context.AfterFunc(ctx, func() { _ = ch.Close() })()
	late := time.AfterFunc(outer.set.Timeouts.Handshake, func() { cancel(errHandshake) })
	defer late.Stop()

	// What one step found out is the step's own: the last one says who it is.
	type admitted struct{ user string }
	type key struct{}
	// A client tries one method after the other; a no is asked for, told and logged once.
	refused := map[string]error{}
	var last error
	admit := func(m ssh.ConnMetadata, p conversation.Person) (*ssh.Permissions, error) {
		if no, known := refused[m.User()]; known {
			return nil, no
		}
		err := errors.New("this is no name of an account")
		if inventory.Login(m.User()) {
			err = in.Admit(ctx, m.User(), p)
		}
		switch {
		case err == nil:
			return &ssh.Permissions{ExtraData: map[any]any{key{}: admitted{m.User()}}}, nil
		case errors.Is(err, conversation.ErrNobody):
			return nil, err
		}
		last, refused[m.User()] = err, err
		return nil, &ssh.BannerError{Err: err, Message: conversation.Clean(err.Error()) + "\n"}
	}
	cfg := s.newConfig()
	cfg.MaxAuthTries = outer.set.Limits.AuthTries
	cfg.NoClientAuth = true
	cfg.NoClientAuthCallback = func(m ssh.ConnMetadata) (*ssh.Permissions, error) { return admit(m, nil) }
	cfg.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
		return admit(m, auth.Interactive(challenge))
	}
	// Some clients (paramiko) try no method but the key that they have. It proves nothing
	// that the outer connection has not; whoever has nothing to ask lets it in as by none.
	cfg.VerifiedPublicKeyCallback = func(m ssh.ConnMetadata, _ ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
		return admit(m, nil)
	}
	cfg.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }
	cfg.AddHostKey(in.Host)
	conn := &inside{Channel: ch, local: outer.SSH.LocalAddr(), remote: outer.SSH.RemoteAddr()}
	sc, channels, requests, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errHandshake) {
			err = fmt.Errorf("%w (timeouts.handshake)", cause)
		} else if last != nil {
			err = last // the library has a list of all that was tried
		}
		return fmt.Errorf("%w: %w", ErrNotAdmitted, err)
	}
	late.Stop()
	var who admitted
	if sc.Permissions != nil {
		who, _ = sc.Permissions.ExtraData[key{}].(admitted)
	}
	if who.user == "" || who.user != sc.User() {
		_ = sc.Close()
		discard(channels, requests)
		return ErrNotAdmitted
	}
	sum := sha256.Sum256(sc.SessionID())
	id := *outer.Identity
	id.Inner, id.Target, id.Login = hex.EncodeToString(sum[:]), in.Target, sc.User()
	id.Client, id.Since = string(sc.ClientVersion()), s.opt.Now()
	c := &Conn{
		Identity: &id, SSH: sc, Outer: outer, server: s, entry: outer.entry, set: outer.set, closer: ch, start: time.Now(),
	}
	c.Log = c.who(s.opt.Log)
	c.ctx, c.cancel = context.WithCancel(ctx)
	defer context.AfterFunc(c.ctx, func() { c.End("", "") })()
	c.serve(c.ctx, in.Handler, channels, requests)
	return nil
}
