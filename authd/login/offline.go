// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"log/slog"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/offline"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
)

// Offline is what a login asks of package offline. It is safe for concurrent use.
type Offline interface {
	Standing(name string) (offline.Standing, bool)
	Try(name, code string) offline.Result
	// LoggedIn says that the verifier has granted the login of that transaction.
	// It never blocks.
	LoggedIn(name, txID string)
}

// withoutVerifier asks for an offline code of this host, the one factor that
// needs no verifier. down is what the login comes to without one.
func (a *asking) withoutVerifier(ctx context.Context, down verdict) verdict {
	if a.Offline == nil {
		return a.orBreakGlass(ctx, down, down)
	}
	standing, enrolled := a.Offline.Standing(a.username)
	if !enrolled {
		return a.orBreakGlass(ctx, down, deny(offline.NotEnrolled).by(down.setting).because(down.err).saying(textOfflineNotEnrolled(a.cfg.Contact)))
	}
	a.factor = agentapi.FactorOffline
	code, given := a.offlineFromEnv()
	for {
		if !given {
			var v *verdict
			if code, v = a.offlineQuestion(ctx, standing, down); v != nil {
				return *v
			}
		}
		given = false
		t, v := a.try(ctx)
		if v != nil {
			return *v
		}
		left := a.attempts
		v = a.offlineTry(code, down)
		a.tried(t, v, a.attempts < left)
		if v != nil {
			return *v
		}
	}
}

// offlineFromEnv is the code in the environment, where the service takes it from there.
func (a *asking) offlineFromEnv() (code string, ok bool) {
	if !a.service.AcceptEnvFactor {
		return "", false
	}
	for _, name := range []string{"SALLYPORT_PASSCODE", "DUO_PASSCODE"} {
		if code, ok := offlinecode.Normalise(a.req.ProcEnv[name].Reveal()); ok {
			a.log.Debug("factor from the environment", "variable", name, "factor", agentapi.FactorOffline)
			return code, true
		}
	}
	return "", false
}

// offlineQuestion asks until an answer can be a code.
func (a *asking) offlineQuestion(ctx context.Context, s offline.Standing, down verdict) (string, *verdict) {
	if v := a.beforeQuestion(ctx); v != nil {
		return "", v
	}
	for {
		in, v := a.put(ctx, textOffline(printable(s.Label, 80), a.note, a.glass))
		if v != nil {
			return "", v
		}
		a.note = ""
		if a.glass && breakglass.LooksLike(in.text.Reveal()) {
			if v := a.breakGlassTry(ctx, in, down); v != nil {
				return "", v
			}
			a.factor = agentapi.FactorOffline
			continue
		}
		if code, ok := offlinecode.Normalise(in.text.Reveal()); ok && !in.tooLong {
			return code, nil
		}
		a.note = textOfflineForm()
	}
}

// offlineTry has a code decided. Without a verdict the question comes again.
func (a *asking) offlineTry(code string, down verdict) *verdict {
	res := a.Offline.Try(a.username, code)
	if res.Reason != offline.Accepted {
		a.log.Warn("offline code refused", slog.String("event", "offline_refused"), slog.String("reason", res.Reason), slog.Int("uses_left", res.Left))
	}
	v := deny(res.Reason)
	v.err = res.Err
	switch res.Reason {
	case offline.Accepted:
		a.offlineUse = &res.Use
		v = allow(res.Reason).by(down.setting).because(down.err).saying(textOfflineLeft(res.Left, res.Until))
		return &v
	case offline.WrongCode, offline.Replayed, offline.Wait:
		a.attempts--
		why := textOfflineWrong(res.From, res.To)
		switch res.Reason {
		case offline.Replayed:
			why = textOfflineReplayed(res.From)
		case offline.Wait:
			why = textOfflineWait(res.Wait)
		}
		a.note = textFailed(why, a.attempts)
		if a.attempts > 0 {
			return nil
		}
		v = verdict{outcome: outcomeMaxTries, reason: res.Reason, setting: "attempts", text: a.note}
	case offline.UsedUp:
		v = v.by("offline_max_uses").saying(textOfflineUsedUp(a.cfg.Contact))
	case offline.Expired:
		v = v.by("offline_max_days").saying(textOfflineExpired(res.Until, a.cfg.Contact))
	case offline.ClockBack:
		v.text = textOfflineClock(a.cfg.Contact)
	case offline.Locked:
		v.text = textOfflineLocked(a.cfg.Contact)
	case offline.StateFailed:
		v.outcome, v.setting, v.text = outcomeUnavailable, "state_dir", textNotRecorded(a.cfg.Contact)
	default: // the keys went while the person typed
		v = v.by(down.setting).saying(textOfflineNotEnrolled(a.cfg.Contact))
	}
	return &v
}

// wantsOffline says that the logins of this service may one day need an offline code.
func (l *login) wantsOffline() bool {
	return l.Offline != nil && l.service.FailMode == config.FailOffline
}

// granted asks for keys after a login that the verifier has granted by a factor.
func (l *login) granted(v verdict) {
	if l.wantsOffline() && v.outcome == outcomeAllow && (v.reason == "approved" || v.reason == "passcode") {
		l.Offline.LoggedIn(l.username, l.txid)
	}
}
