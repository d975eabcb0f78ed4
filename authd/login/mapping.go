// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sallyport-mfa/sallyport/authd/person"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// LDAP is the directory that groups and attributes come from. Its methods are
// safe for concurrent use and end when ctx does. An error is no no.
type LDAP interface {
	person.Attributes
	InGroup(ctx context.Context, user, group string) (bool, error)
}

// nameAtVerifier finds the person's name at the verifier. What is wrong with it
// waits until the verifier is to be asked: a rule that needs nobody's answer must
// not fail because the directory is away.
func (l *login) nameAtVerifier(ctx context.Context) {
	p := person.Mapper{}
	if l.ldap != nil {
		p.Attributes = l.ldap
	}
	l.username, l.unmapped = p.Map(ctx, l.service.Mapping, l.who)
	if l.unmapped != nil {
		l.username = ""
	}
	// Every line from here on says who it is about, by both names.
	l.log = l.log.With(slog.String("user", l.who.Name), slog.String("username", l.username))
	if l.unmapped != nil {
		l.log.Warn("the mapping gives the person no name at the verifier", slog.String("setting", "mapping"), slog.Any("error", l.unmapped))
	}
}

// mapped returns a verdict if the person has no name at the verifier. The Unix
// name never stands in for it: it may be another person's there.
func (l *login) mapped() (verdict, bool) {
	switch {
	case l.unmapped == nil:
		return verdict{}, false
	case errors.Is(l.unmapped, person.ErrNoName):
		return deny("mapping_failed").by("mapping").because(l.unmapped).saying(textNoName(l.cfg.Contact)), true
	}
	v := verdict{outcome: frames.OutcomeUnavailable, reason: "mapping_unknown", setting: "mapping", err: l.unmapped}
	return v.saying(textDirectoryAway(l.cfg.Contact)), true
}

// whoLoggedIn is the account of the audit loginuid of the calling process.
func (l *login) whoLoggedIn(ctx context.Context) (directory.Account, error) {
	uid, err := l.LoginUID(l.peer.Process.ID)
	if err != nil {
		return directory.Account{}, &noLoginUID{err}
	}
	return l.people.ByUID(ctx, uid)
}

// noLoginUID says that who logged in cannot be found out. There is no fallback:
// a process without loginuid was started by nobody that the kernel knows of.
type noLoginUID struct{ error }

func (n *noLoginUID) Unwrap() error { return n.error }

func (l *login) inLDAPGroup(ctx context.Context, group string) rules.Truth {
	if l.ldap == nil {
		return rules.Unknown
	}
	in, err := l.ldap.InGroup(ctx, l.who.Name, group)
	switch {
	case err != nil:
		l.log.Warn("LDAP group not looked up: rules that name it are undecided", slog.String("group", group), slog.Any("error", err))
		return rules.Unknown
	case in:
		return rules.True
	}
	return rules.False
}
