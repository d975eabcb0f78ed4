// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/sshgw/conversation"
	"github.com/sallyport-mfa/sallyport/sshgw/identity"
	"github.com/sallyport-mfa/sallyport/sshgw/route"
	"github.com/sallyport-mfa/sallyport/sshgw/secondfactor"
)

// Person is whoever is at the other end.
type Person = conversation.Person

// errs of the door. A client reads none of them.
var (
	errNo      = errors.New("refused")           // the client's doing
	errCannot  = errors.New("cannot be decided") // ours
	errLibrary = errors.New("the connection's identity is not the one that was proven")
)

// worded is an error with the word that docs/reference/sshgw-events.md has for it.
type worded struct {
	word string
	err  error
}

func (w *worded) Error() string { return w.err.Error() }
func (w *worded) Unwrap() error { return w.err }

func no(word, format string, args ...any) error {
	return &worded{word, fmt.Errorf("%w: %w", errNo, fmt.Errorf(format, args...))}
}

func cannot(word, format string, args ...any) error {
	return &worded{word, fmt.Errorf("%w: %w", errCannot, fmt.Errorf(format, args...))}
}

// granted is what the last step of an authentication leaves for the connection, as the
// only value that is believed afterwards.
type granted struct {
	visit    *Visit
	user     string // as the client gave it in that step
	identity *identity.Identity
}

type grantedKey struct{}

// Configure puts the door's callbacks into the configuration of one connection.
//
// Nobody is let in by method none. PublicKeyCallback says that a key may be tried, and
// leaves nothing behind. VerifiedPublicKeyCallback has seen the signature, and either
// lets in or goes on to the second step with permissions that are nil, because the
// library keeps none over a partial success.
func (v *Visit) Configure(cfg *ssh.ServerConfig) {
	cfg.NoClientAuth = false
	cfg.MaxAuthTries = max(v.policy.AuthTry, 1)
	cfg.PublicKeyAuthAlgorithms = signatureAlgorithms
	cfg.PreAuthConnCallback = func(c ssh.ServerPreAuthConn) {
		v.banner = c.SendAuthBanner
	}
	cfg.PublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		_, err := v.proveKey(m.User(), key)
		return nil, v.note(m, "publickey", key, err)
	}
	cfg.VerifiedPublicKeyCallback = func(m ssh.ConnMetadata, key ssh.PublicKey, _ *ssh.Permissions, _ string) (*ssh.Permissions, error) {
		p, err := v.proveKey(m.User(), key)
		if err != nil {
			return nil, v.note(m, "publickey", key, err)
		}
		perms, err := v.second(m, p)
		return perms, v.note(m, "publickey", key, err)
	}
	if v.policy.First.Password && v.door.opt.PAM != nil {
		cfg.PasswordCallback = func(m ssh.ConnMetadata, password []byte) (*ssh.Permissions, error) {
			perms, err := v.byPAM(m, &typed{password: password})
			return perms, v.note(m, "password", nil, err)
		}
		cfg.KeyboardInteractiveCallback = func(m ssh.ConnMetadata, challenge ssh.KeyboardInteractiveChallenge) (*ssh.Permissions, error) {
			perms, err := v.byPAM(m, Interactive(challenge))
			return perms, v.note(m, "keyboard-interactive", nil, err)
		}
	}
}

// Identity is who an authenticated connection belongs to. It rests on what the last step
// left in the connection's own permissions, and on nothing that a callback kept.
func (v *Visit) Identity(c *ssh.ServerConn) (*identity.Identity, error) {
	if c.Permissions == nil {
		return nil, errLibrary
	}
	g, ok := c.Permissions.ExtraData[grantedKey{}].(granted)
	if !ok || g.visit != v || g.user != c.User() || g.identity == nil || g.identity.SessionID != sessionID(c) {
		return nil, errLibrary
	}
	return g.identity, nil
}

// note keeps what is to be logged if nobody is let in, and passes the error on.
func (v *Visit) note(m ssh.ConnMetadata, method string, key ssh.PublicKey, err error) error {
	r := Refusal{User: userPart(m.User()), Method: method, Session: sessionID(m)}
	if key != nil {
		r.Key = fingerprint(key)
	}
	var partial *ssh.PartialSuccessError
	v.mu.Lock()
	defer v.mu.Unlock()
	r.Proven = v.refusal.Proven
	var why *worded
	switch {
	case err == nil:
	case errors.As(err, &partial):
		// So it stays with a client that cannot answer, or goes.
		r.Reason, r.Error = "second_factor_unanswered", "the client did not answer the second step"
	case errors.As(err, &why):
		r.Reason, r.Error = why.word, err.Error()
	default:
		r.Reason, r.Error = "internal", err.Error()
	}
	if err != nil && !errors.As(err, &partial) {
		if r.Proven { // that authd could not ask anybody is no failure
			r.Blame = v.refusal.Blame || errors.Is(err, secondfactor.ErrRefused) || errors.Is(err, errAbandoned)
		}
		v.failed = v.failed || errors.Is(err, errNo)
		// What ends because the client went away is not ours.
		v.ours = v.ours || errors.Is(err, errCannot) && v.ctx.Err() == nil
	}
	v.refusal = r
	return err
}

// userPart is what a user name says before the percent sign, whatever it is.
func userPart(s string) string {
	user, _, _ := strings.Cut(s, "%")
	return user
}

// proves takes note that a first factor was shown.
func (v *Visit) proves() {
	v.mu.Lock()
	v.refusal.Proven = true
	v.mu.Unlock()
	if v.who.Proven != nil {
		v.who.Proven()
	}
}

// say shows a line to a person who has proven something. There may be nobody who reads.
func (v *Visit) say(text string) {
	if v.banner != nil {
		_ = v.banner(conversation.Clean(text) + "\n")
	}
}

// whom ends a message to a person with whom to ask.
func (v *Visit) whom(text string) string {
	if v.policy.Contact == "" {
		return text
	}
	return text + " Ask " + cli.Escape(v.policy.Contact) + "."
}

// ordinary is the form of a name that needs no account where the policy says so; the
// same that authd has.
var ordinary = regexp.MustCompile(`^[a-z_][a-z0-9._-]{0,31}$`)

// person looks up who a user name means.
func (v *Visit) person(user string) (directory.Account, route.Name, error) {
	name, err := parseName(user)
	if err != nil {
		return directory.Account{}, name, no("user_name", "%w", err)
	}
	account, err := v.account.get(name.User, func() (directory.Account, error) {
		return v.door.opt.Accounts.ByName(v.ctx, name.User)
	})
	switch {
	case errors.Is(err, directory.ErrNoSuchUser) && v.policy.Accounts == AccountsAny && ordinary.MatchString(name.User):
		return directory.NoAccount(name.User), name, nil
	case errors.Is(err, directory.ErrNoSuchUser):
		return account, name, no("user_unknown", "%w", err)
	case err != nil:
		return account, name, cannot("account_undecided", "look up the account: %w", err)
	}
	// What the name service calls the account becomes part of paths.
	if !plain(account.Name) {
		return account, name, cannot("account_undecided", "the name service calls the account %q: %w", account.Name, errName)
	}
	return account, name, nil
}

// errName says that a name is not fit for a path, a command and a log.
var errName = errors.New("a name with characters that names do not have")

// parseName takes a user name apart; what it returns is fit for a path, a command and a log.
func parseName(s string) (route.Name, error) {
	name, err := route.Parse(s)
	if err == nil && (!plain(name.User) || name.Login != "" && !plain(name.Login) || name.Target != "" && !plain(name.Target)) {
		err = errName
	}
	if err != nil {
		return route.Name{}, err
	}
	return name, nil
}

// maxName bounds each part of a user name, in bytes.
const maxName = 255

func plain(s string) bool {
	if s == "" || len(s) > maxName || s == "." || s == ".." || s[0] == '-' || !utf8.ValidString(s) {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r == '/' || r == '%' || unicode.IsSpace(r) || !unicode.IsGraphic(r)
	})
}

func sessionID(m ssh.ConnMetadata) string {
	sum := sha256.Sum256(m.SessionID())
	return hex.EncodeToString(sum[:])
}

// inGroup asks the name service on behalf of rules.
func (v *Visit) inGroup(account directory.Account) func(context.Context, string) (bool, error) {
	return func(ctx context.Context, group string) (bool, error) {
		return v.door.opt.Accounts.InGroup(ctx, account, group)
	}
}
