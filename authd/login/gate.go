// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/rules"
)

// account is the gate of the account hook: a login that authenticate allowed
// passes, and so does one that a rule lets in without being asked.
func (l *login) account(ctx context.Context) verdict {
	if l.grants.Authenticated(l.peer.Process.ID, l.service.Name, l.req.User, l.cfg.Timeouts.Grant) {
		return pass("grant")
	}
	return l.orGranted(ctx, l.gate(ctx, true))
}

// openSession is the gate of the session hook. Under keyboard-interactive, sshd
// authenticates in a child of the process that opens the session.
func (l *login) openSession(ctx context.Context) verdict {
	user := l.req.User
	if l.peer.Socket != UserSocket && (l.service.Person == config.PersonInvoking || l.service.Person == config.PersonLoginUID) {
		user = "" // sudo puts the target into PAM_USER between the hooks
	}
	if l.grants.Session(l.peer.Process.ID, l.service.Name, user, l.cfg.Timeouts.Grant) {
		l.rememberLogin(ctx)
		return pass("grant")
	}
	if !l.ssh.present && l.passedBefore(l.passedAs(), "") {
		return pass("account")
	}
	// For sshd the two hooks must tell of one connection: between them run other
	// modules, of which pam_env can change what this one reads.
	if l.ssh.present && l.service.AccountWithoutAuth != config.GateAllow && !l.passedBefore(l.req.User, l.ssh.conn) {
		return l.orGranted(ctx, l.refuseUnasked())
	}
	return l.orGranted(ctx, l.gate(ctx, false))
}

func (l *login) passedBefore(user, conn string) bool {
	return l.grants.Passed(l.peer.Process.ID, l.service.Name, user, conn, l.cfg.Timeouts.Grant)
}

func (l *login) refuseUnasked() verdict {
	return deny("no_second_factor").by("account_without_auth").
		saying(textNoneAsked())
}

// gate decides a login that no second factor covered. At the account hook sshd
// does not yet name the key, so there a rule that hangs on the key alone lets
// pass for the moment, and the session hook has the last word.
func (l *login) gate(ctx context.Context, account bool) verdict {
	ctx, cancel := l.withDeadline(ctx, "nss_timeout", l.cfg.Timeouts.NSS)
	defer cancel()
	if v, ok := l.identify(ctx); !ok {
		return v
	}
	set, facts := l.cfg.RuleSet(), l.facts(ctx)
	if account && l.ssh.present {
		if d := set.MightBypass(ctx, facts); d.Action == rules.Bypass {
			l.rule = d.RuleName()
			l.grants.Pass(l.peer.Process, l.service.Name, l.req.User, l.ssh.conn, l.cfg.Limits.Grants)
			return pass("rule_bypass_pending")
		}
	}
	d := set.Decide(ctx, facts)
	l.decided(facts, d)
	if v, ok := ruleVerdict(d.Action); ok {
		return l.passed(v)
	}
	if l.service.AccountWithoutAuth == config.GateAllow {
		return l.passed(allow("without_auth").by("account_without_auth"))
	}
	return l.refuseUnasked()
}

// passed remembers that the gate has let this process through, so that the
// session hook neither decides nor logs the same login again.
func (l *login) passed(v verdict) verdict {
	if v.outcome == outcomeAllow && !l.ssh.present {
		l.grants.Pass(l.peer.Process, l.service.Name, l.passedAs(), "", l.cfg.Limits.Grants)
	}
	return v
}

// passedAs is the name under which the session hook finds what the account hook
// let through. sudo puts the target into PAM_USER between the two, so root's
// programs need not repeat it; an ordinary user's must, who else would have any
// name confirmed after their own.
func (l *login) passedAs() string {
	if l.peer.Socket == UserSocket {
		return l.req.User
	}
	return ""
}
