// SPDX-License-Identifier: Apache-2.0

package login

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/spool"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// Events keeps events until the verifier has them: *spool.Spool. It is safe for
// concurrent use.
type Events interface {
	Append(event []byte, class spool.Class) error
}

// verifierDecided are the reasons of logins that the verifier let in: they stand
// in its log already.
var verifierDecided = map[string]bool{"approved": true, "passcode": true, "verifier_allow": true, "remembered": true}

// reportedDenials are the denials that the verifier is told of. The others it
// has seen itself, or nobody came as far as a rule.
var reportedDenials = map[string]bool{
	"rule_deny": true, "no_second_factor": true, "verifier_down": true, "verifier_lost": true, "fail_open_limit": true,
	"fail_open_unrecorded": true,
}

// class says whether the verifier is told of v, and how much hangs on it.
func (l *login) class(v verdict) (c spool.Class, told bool) {
	switch {
	case v.quiet:
		return 0, false
	case l.peer.Socket == UserSocket && l.req.Hook != frames.HookAuthenticate:
		return 0, false // it decides nothing: the program is the user's own
	case v.outcome != outcomeAllow:
		return spool.Cheap, reportedDenials[v.reason] || strings.HasPrefix(v.reason, "offline_")
	case verifierDecided[v.reason]:
		return 0, false
	case v.reason == "offline" || v.reason == "fail_open":
		// The verifier is away, and what it never hears of would be no event at all.
		return spool.Durable, true
	case v.reason == "without_auth" || l.peer.Socket == UserSocket:
		return spool.Cheap, true // a user can begin such a login in a loop
	}
	return spool.Lazy, true
}

// reported is the one place from which the verifier is told what it has not
// decided itself. The event is in the log before anyone hears of the outcome.
func (l *login) reported(v verdict) verdict {
	class, told := l.class(v)
	if !told || l.Events == nil {
		return v
	}
	body, err := l.hostEvent(v)
	if err == nil {
		err = l.Events.Append(body, class)
	}
	if err == nil {
		return v
	}
	l.log.Error("the verifier will not hear of a login", slog.String("event", "spool_failed"), slog.String("reason", v.reason), slog.Any("error", err))
	if class != spool.Durable {
		return v
	}
	return verdict{outcome: outcomeUnavailable, reason: "spool_failed", setting: "state_dir", text: textNotRecorded(l.cfg.Contact),
		err: fmt.Errorf("%s: %w", v.reason, err)}
}

// maxField bounds a field of an event, in runes: all of them fit agentapi.MaxEventBytes.
const maxField = 100

func (l *login) hostEvent(v verdict) ([]byte, error) {
	e := agentapi.HostEvent{
		Time: l.Now().UnixMilli(), ID: l.id, Hook: l.req.Hook.String(), Service: l.service.Name, User: cmp.Or(l.who.Name, l.req.User), Username: l.username,
		Result: v.outcome.String(), Reason: v.reason, Setting: v.setting, Rule: l.rule, Factor: l.factor, Source: l.sourceText(), TTY: l.req.TTY,
	}
	if l.req.User != e.User {
		e.Target = l.req.User
	}
	if l.claims.kind != "" {
		e.Target = l.claims.goingTo()
		e.Rule = cmp.Or(l.rule, l.claims.rule)
	}
	if v.reason == "offline" {
		e.Offline = l.offlineUse
	}
	for _, field := range []*string{&e.Service, &e.User, &e.Username, &e.Target, &e.Rule, &e.TTY} {
		*field = printable(*field, maxField)
	}
	body, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode an event: %w", err)
	}
	return body, nil
}
