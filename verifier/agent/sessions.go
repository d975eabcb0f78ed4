// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/passport"
)

// Limits of members, in bytes.
const (
	maxTxID = 64
	maxName = 256
	maxWord = 64
)

func (a *API) registerSessions(mux gate.Routes) {
	mux.Handle("POST /sallyport/v1/sessions", a.Gate.Host(a.createSession))
	mux.Handle("POST /sallyport/v1/sessions/use", a.Gate.Host(a.useSession))
	mux.Handle("POST /sallyport/v1/sessions/end", a.Gate.Host(a.endSession))
}

// lengths refuses members that are missing or too long.
func lengths(required bool, limit int, members map[string]string) error {
	for name, value := range members {
		switch {
		case value == "" && required:
			return gate.Missing(name)
		case len(value) > limit:
			return gate.Invalid(name, fmt.Sprintf("longer than %d bytes", limit))
		}
	}
	return nil
}

func binding(text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != sha256.Size {
		return nil, gate.Invalid("binding", "not a SHA-256 in base64url without padding")
	}
	return b, nil
}

func (a *API) createSession(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.NewSession
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	if err := lengths(true, maxTxID, map[string]string{"txid": b.TxID, "binding": b.Binding}); err != nil {
		return gate.Answer{}, err
	}
	if err := lengths(false, maxWord, map[string]string{"service": b.Service, "tty": b.TTY}); err != nil {
		return gate.Answer{}, err
	}
	bound, err := binding(b.Binding)
	if err != nil {
		return gate.Answer{}, err
	}
	session, err := a.Passport.Create(ctx, r.Host, passport.Create{TxID: b.TxID, Binding: bound, Service: b.Service, TTY: b.TTY})
	return gate.Answer{Response: agentapi.Session{
		SessionID: session.ID, Factor: session.Factor, Expires: session.Expires.Unix(),
	}}, err
}

func (a *API) useSession(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.SessionUse
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	if err := lengths(true, maxName, map[string]string{"username": b.Username}); err != nil {
		return gate.Answer{}, err
	}
	if err := lengths(false, maxWord, map[string]string{"service": b.Service}); err != nil {
		return gate.Answer{}, err
	}
	if len(b.Bindings) == 0 {
		return gate.Answer{}, gate.Missing("bindings")
	}
	if len(b.Bindings) > agentapi.MaxBindings {
		return gate.Answer{}, gate.Invalid("bindings", fmt.Sprintf("more than %d", agentapi.MaxBindings))
	}
	u := passport.Use{Username: b.Username, Service: b.Service, Factors: b.Factors}
	for _, text := range b.Bindings {
		bound, err := binding(text)
		if err != nil {
			return gate.Answer{}, err
		}
		u.Bindings = append(u.Bindings, bound)
	}
	if slices.ContainsFunc(b.Factors, func(f string) bool { return !slices.Contains(sessionFactors, f) }) {
		return gate.Answer{}, gate.Invalid("factors", "not of push, phone, passcode")
	}
	used, err := a.Passport.Use(ctx, r.Host, u)
	out := agentapi.SessionUsed{Allowed: used.Session.ID != "", TxID: used.TxID}
	if out.Allowed {
		out.Session = agentapi.Session{SessionID: used.Session.ID, Factor: used.Session.Factor, Expires: used.Session.Expires.Unix()}
	}
	return gate.Answer{Response: out}, err
}

// sessionFactors are the words of the auth call that can prove somebody.
var sessionFactors = []string{duoapi.FactorPush, duoapi.FactorPhone, duoapi.FactorPasscode}

func (a *API) endSession(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.SessionEnd
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	bound, err := binding(b.Binding)
	if err != nil {
		return gate.Answer{}, err
	}
	ended, err := a.Passport.Logout(ctx, r.Host, bound)
	return gate.Answer{Response: agentapi.SessionEnded{Ended: ended}}, err
}
