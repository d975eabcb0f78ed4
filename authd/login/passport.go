// SPDX-License-Identifier: Apache-2.0

package login

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/passport"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// docs/explanation/passport.md draws the states of a remembered login.

// passportOn says that this call may have to do with remembered logins: authd
// has the host's key, and the caller is root.
func (l *login) passportOn() bool {
	return l.Passport != nil && l.host != nil && l.peer.Socket == RootSocket
}

// opensLogins says that logins of this service may be remembered.
func (l *login) opensLogins() bool {
	return l.passportOn() && (l.service.Passport == config.PassportAuto || l.service.Passport == config.PassportAsk)
}

// remembered answers from a live session of the login that the caller belongs to.
// Whatever goes wrong, there is none.
func (l *login) remembered(ctx context.Context) (verdict, bool) {
	if !l.passportOn() || l.ssh.present || l.service.Passport != config.PassportUse {
		return verdict{}, false
	}
	use := passport.Use{Process: l.peer.Process.ID, UID: l.who.UID, Username: l.username, Service: l.service.Name}
	if l.service.Factors != nil {
		// A rule demands a factor: the session must have been proved by it. Codes by
		// SMS are passcodes.
		use.Factors = slices.DeleteFunc(slices.Clone(l.service.Factors), func(f string) bool { return f == duoapi.FactorSMS })
		if len(use.Factors) == 0 {
			return verdict{}, false
		}
	}
	above, err := l.Passport.Above(use)
	if err != nil {
		l.log.Debug("no remembered login", slog.Any("error", err))
		return verdict{}, false
	}
	err = l.machine(ctx, "request_timeout", l.requestLimit(), func(ctx context.Context) error {
		used, err := l.Passport.Use(ctx, l.host, use, above)
		if used.Allowed {
			l.session, l.txid = used.SessionID, used.TxID
		}
		return err
	})
	if err != nil || l.session == "" {
		l.session, l.txid = "", ""
		l.log.Debug("no remembered login", slog.Any("error", err))
		return verdict{}, false
	}
	return allow("remembered"), true
}

// offerToRemember asks, after a factor was proved, whether the login is to be
// remembered, where somebody is to be asked. The verdict is what it was.
func (a *asking) offerToRemember(ctx context.Context, v verdict) verdict {
	offer := a.pre.RememberedDevices
	proved := v.outcome == outcomeAllow && (v.reason == "passcode" || v.reason == "approved") && a.txid != ""
	if !proved || offer == nil || offer.MaxSeconds <= 0 || !a.opensLogins() {
		return v
	}
	if offer.UserChoice || a.service.Passport == config.PassportAsk {
		if a.req.Flags&pamSilent != 0 || a.gone {
			return v
		}
		answer, err := a.ask(ctx, textRemember(time.Duration(offer.MaxSeconds)*time.Second))
		if err != nil {
			a.log.Debug("not asked whether to remember", slog.Any("error", err))
			return v
		}
		if !saysYes(answer.Reveal()) {
			return v
		}
	}
	a.proof = a.txid
	return v
}

func saysYes(answer string) bool {
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true
	}
	return false
}

// rememberLogin makes the session of a login that is being opened, if its grant
// says so. The login goes on whatever comes of it.
func (l *login) rememberLogin(ctx context.Context) {
	if !l.opensLogins() {
		return
	}
	proof := l.grants.TakeProof(l.peer.Process.ID, l.service.Name, l.req.User, l.cfg.Timeouts.Grant)
	if proof == "" {
		return
	}
	lookup, cancel := l.withDeadline(ctx, "nss_timeout", l.cfg.Timeouts.NSS)
	defer cancel()
	account, err := l.whose(lookup)
	if err != nil {
		l.notRemembered("session_not_bound", err)
		return
	}
	l.who = account
	l.nameAtVerifier(lookup) // for the log
	login := passport.Login{Process: l.peer.Process.ID, UID: account.UID, TxID: proof, Service: l.service.Name, TTY: l.req.TTY}
	binding, err := l.Passport.Bind(login)
	if err != nil {
		l.notRemembered("session_not_bound", err)
		return
	}
	err = l.machine(ctx, "request_timeout", l.requestLimit(), func(ctx context.Context) error {
		made, err := l.Passport.Create(ctx, l.host, login, binding)
		if err == nil {
			l.log.Info("login remembered", slog.String("event", "session"), slog.String("session", made.SessionID),
				slog.String("service", l.service.Name), slog.String("txid", proof),
				slog.Time("expires", time.Unix(made.Expires, 0)))
		}
		return err
	})
	if err != nil {
		l.notRemembered("session_not_made", err)
	}
}

func (l *login) notRemembered(event string, err error) {
	l.base.Warn("login not remembered", slog.String("event", event), slog.String("service", l.service.Name),
		slog.String("user", cmp.Or(l.who.Name, l.req.User)), slog.String("username", l.username), slog.Any("error", err))
}

// closed ends the session of a login that is over. Logging out does not wait for
// it: a record that stays is of a process that is gone.
func (l *login) closed(ctx context.Context) {
	if !l.opensLogins() {
		return
	}
	binding, ok := l.Passport.Closed(l.peer.Process.ID)
	if !ok {
		return
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), l.requestLimit())
	go func() {
		defer stop()
		if _, err := l.Passport.End(ctx, l.host, binding); err != nil {
			l.log.Info("remembered login not ended; it expires", slog.String("event", "session_not_ended"), slog.Any("error", err))
		}
	}()
}
