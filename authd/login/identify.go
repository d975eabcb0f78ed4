// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"net/netip"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/authd/sshinfo"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// sshFacts is what sshd itself says of the connection.
type sshFacts struct {
	present bool   // the login carries sshd's variables, so it is sshd's
	conn    string // SSH_CONNECTION as it came
	auth    sshinfo.Auth
	authErr error
	source  netip.Addr // the zero value: not known
}

// readSSH reads it. always says that the caller is sshd's like, whatever it sends.
func readSSH(req *frames.Request, always bool) sshFacts {
	info, hasInfo := req.PAMEnv[sshinfo.AuthInfoVar]
	conn, hasConn := req.PAMEnv[sshinfo.ConnectionVar]
	s := sshFacts{present: always || hasInfo || hasConn || req.Service == "sshd", conn: conn}
	if !s.present {
		return s
	}
	s.auth, s.authErr = sshinfo.ParseAuth(info)
	source, err := sshinfo.ParseSource(conn)
	if err != nil && !hasConn {
		// An sshd that sets no SSH_CONNECTION; with UseDNS this is a name.
		source, err = sshinfo.ParseAddr(req.RHost)
	}
	if err == nil {
		s.source = source
	}
	return s
}

// identify finds out who has to prove themselves. ok is false when v is the end.
func (l *login) identify(ctx context.Context) (v verdict, ok bool) {
	account, err := l.whose(ctx)
	switch {
	case errors.Is(err, directory.ErrNoSuchUser):
		return verdict{outcome: frames.OutcomeUserUnknown, reason: "no_such_user"}, false
	case errors.Is(err, errNotSelf):
		return deny("not_self").saying(textNotSelf()), false
	case errors.As(err, new(*noLoginUID)):
		return deny("no_loginuid").by("person").because(err).saying(textNoLoginUID()), false
	case err != nil:
		if end, ended := l.ended(ctx); ended {
			return end, false
		}
		v := verdict{outcome: frames.OutcomeUnavailable, reason: "nss_failed", err: err}
		if isDeadline(ctx) {
			v.setting = "nss_timeout"
		}
		return v.saying(textNSSFailed()), false
	}
	l.who = account
	l.nameAtVerifier(ctx)
	return verdict{}, true
}

var errNotSelf = errors.New("the caller asks for another account")

// whose is the account that the service's setting person names. Names come from
// a process of uid 0, or, on the UserSocket, from the kernel's word alone.
func (l *login) whose(ctx context.Context) (directory.Account, error) {
	if l.peer.Socket == UserSocket {
		self, err := l.people.ByUID(ctx, l.peer.UID)
		if err != nil {
			return self, err
		}
		asked, err := l.people.ByName(ctx, l.req.User)
		if err != nil {
			return asked, err
		}
		if asked.UID != self.UID || asked.Name != self.Name {
			return self, errNotSelf
		}
		return self, nil
	}
	if l.peer.Socket != RootSocket {
		return l.throughGateway(ctx)
	}
	switch l.service.Person {
	case config.PersonCaller:
		return l.people.ByUID(ctx, l.req.RUID)
	case config.PersonInvoking:
		if l.req.RUser != "" {
			return l.people.ByName(ctx, l.req.RUser)
		}
	case config.PersonLoginUID:
		return l.whoLoggedIn(ctx)
	}
	return l.people.ByName(ctx, l.req.User)
}

// source is the address of the other end; none for a local login.
func (l *login) source() (addr netip.Addr, unknown bool) {
	if l.ssh.present {
		return l.ssh.source, !l.ssh.source.IsValid()
	}
	if l.req.RHost == "" {
		return netip.Addr{}, false
	}
	if l.peer.Socket == UserSocket {
		return netip.Addr{}, true
	}
	addr, err := sshinfo.ParseAddr(l.req.RHost)
	return addr, err != nil
}

func (l *login) sourceText() string {
	addr, unknown := l.source()
	switch {
	case addr.IsValid():
		return addr.String()
	case unknown:
		return "unknown"
	}
	return ""
}

func (l *login) inGroup(ctx context.Context, group string) rules.Truth {
	in, err := l.people.InGroup(ctx, l.who, group)
	switch {
	case err != nil:
		l.log.Warn("group not looked up: rules that name it are undecided", "group", group, "error", err)
		return rules.Unknown
	case in:
		return rules.True
	}
	return rules.False
}

func ruleVerdict(a rules.Action) (verdict, bool) {
	switch a {
	case rules.Deny:
		return deny("rule_deny").by("rules").saying(textRuleDenied()), true
	case rules.Bypass:
		return allow("rule_bypass").by("rules"), true
	}
	return verdict{}, false
}
