// SPDX-License-Identifier: Apache-2.0

package login

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/frames"
)

// The variables by which the gateway says what its question is about; see
// docs/reference/frames.md. They are read on the GatewaySocket and nowhere else.
const (
	claimPrefix  = "SALLYPORT_"
	claimSession = "SALLYPORT_SSH_SESSION"
	claimKind    = "SALLYPORT_GATEWAY"
	claimRule    = "SALLYPORT_GATEWAY_RULE"
	claimTarget  = "SALLYPORT_TARGET"
	claimLogin   = "SALLYPORT_LOGIN"
	claimFresh   = "SALLYPORT_FRESH"
)

// kind is what the gateway asks for.
type kind string

const (
	kindDoor   kind = "door"
	kindHold   kind = "hold"
	kindTouch  kind = "touch"
	kindBatch  kind = "batch"
	kindStepUp kind = "step-up"
	// A step-up of people who can read and cannot type, and one before there is anybody.
	kindStepUpHold       kind = "step-up-hold"
	kindStepUpRemembered kind = "step-up-remembered"
)

var kinds = []kind{kindDoor, kindHold, kindTouch, kindBatch, kindStepUp, kindStepUpHold, kindStepUpRemembered}

// forTarget says that it is asked on the way to a target, and not at the door.
func (k kind) forTarget() bool {
	return k == kindStepUp || k == kindStepUpHold || k == kindStepUpRemembered
}

// holds says that the authenticator alone can answer: people read, and cannot type.
func (k kind) holds() bool { return k == kindHold || k == kindStepUpHold }

// silent says that no question is ever sent.
func (k kind) silent() bool { return k.holds() || k == kindStepUpRemembered }

// claims is what the gateway says of a question.
type claims struct {
	session       string // names the SSH connection
	kind          kind   // "": not a question of the gateway
	rule          string // of the gateway
	target, login string // where to, "" where it is not known
	fresh         bool   // a remembered answer does not do
}

// maxClaim bounds the text of a claim, in bytes.
const maxClaim = 255

var sessionID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// readClaims reads what the gateway claims. Whatever is not exactly of the form
// is an error: a claim that was misread could only let somebody in.
func readClaims(env map[string]string) (claims, error) {
	c := claims{
		session: env[claimSession], kind: kind(env[claimKind]), rule: env[claimRule],
		target: env[claimTarget], login: env[claimLogin], fresh: env[claimFresh] == "1",
	}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		if err := checkClaim(name, env[name]); err != nil {
			return claims{}, err
		}
	}
	switch {
	case c.session == "":
		return claims{}, fmt.Errorf("%s is missing", claimSession)
	case c.kind == "":
		return claims{}, fmt.Errorf("%s is missing", claimKind)
	case c.rule == "" && (c.kind == kindTouch || c.kind == kindBatch || c.kind.forTarget()):
		return claims{}, fmt.Errorf("%s is missing: %s needs the rule behind it", claimRule, c.kind)
	}
	return c, nil
}

func checkClaim(name, value string) error {
	if !strings.HasPrefix(name, claimPrefix) {
		return nil // sshd's, which package sshinfo reads
	}
	var ok bool
	switch name {
	case claimSession:
		ok = sessionID.MatchString(value)
	case claimKind:
		ok = slices.Contains(kinds, kind(value))
	case claimFresh:
		ok = value == "1"
	case claimRule, claimTarget, claimLogin:
		ok = value != "" && len(value) <= maxClaim && utf8.ValidString(value) && !strings.ContainsFunc(value, func(r rune) bool { return !unicode.IsPrint(r) })
	default:
		return fmt.Errorf("%q is a claim that this authd does not know", name)
	}
	if !ok {
		return fmt.Errorf("%s has not the form that it must have", name)
	}
	return nil
}

// ofGateway puts in force what holds for calls on the GatewaySocket.
func (l *login) ofGateway() {
	if l.req.Hook != frames.HookAuthenticate {
		return
	}
	l.claims, l.badClaims = readClaims(l.req.PAMEnv)
	if l.claims.kind.silent() {
		l.conv = unattended{l.conv}
	}
}

// unattended is a conversation in which nobody can type. What the other end says
// all the same is never read.
type unattended struct{ Conversation }

// Ask implements Conversation.
func (unattended) Ask(context.Context, string) (frames.Secret, error) { return "", ErrAborted }

// accountName is the form of a name that needs no account, with accounts = "any".
var accountName = regexp.MustCompile(`^[a-z_][a-z0-9._-]{0,31}$`)

// throughGateway is the account of a person at the gateway.
func (l *login) throughGateway(ctx context.Context) (directory.Account, error) {
	a, err := l.people.ByName(ctx, l.req.User)
	if !errors.Is(err, directory.ErrNoSuchUser) || l.cfg.Gateway.Accounts != config.AccountsAny || !accountName.MatchString(l.req.User) {
		return a, err
	}
	return directory.NoAccount(l.req.User), nil
}

// batch: the gateway's rule lets in, and none of authd speaks of it.
func (l *login) batch() (verdict, bool) {
	if l.claims.kind != kindBatch || l.required {
		return verdict{}, false
	}
	return allow("gateway_batch"), true
}

// touched lets in by the touch that a rule of the gateway accepts, if none of
// authd demands more and the verifier knows the person: who is not enrolled, or
// is refused, is told so like anybody.
func (a *asking) touched() (verdict, bool) {
	known := a.pre.Result == duoapi.ResultAuth || a.pre.Result == duoapi.ResultAllow
	if a.claims.kind != kindTouch || a.required || !known {
		return verdict{}, false
	}
	return allow("gateway_touch"), true
}

// gatewayFacts are what rules may know of where a login through the gateway goes.
func (l *login) gatewayFacts(f *rules.Facts) {
	if l.cfg.RuleSet().NamesTargets() {
		f.Target, f.TargetUnknown = l.claims.target, l.claims.target == ""
	}
}

// claimed is what the gateway said, for the event.
func (l *login) claimed() []slog.Attr {
	var attrs []slog.Attr
	for _, a := range []struct{ key, value string }{
		{"gateway", string(l.claims.kind)}, {"gateway_rule", l.claims.rule}, {"gateway_target", l.claims.target},
		{"gateway_login", l.claims.login}, {"ssh_session", l.claims.session},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	return attrs
}

// goingTo is where a login through the gateway goes, as LOGIN@TARGET.
func (c claims) goingTo() string {
	if c.login == "" || c.target == "" {
		return c.target
	}
	return c.login + "@" + c.target
}
