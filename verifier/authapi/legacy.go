// SPDX-License-Identifier: Apache-2.0

package authapi

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// legacyPrefix is where version 1 of the Auth API is: duo_unix before 2.2 and the
// AuthV1 of duo_client speak it. Only here may a signature have no date, and only
// for integrations with allow_v1.
const legacyPrefix = gate.UndatedPrefix

// legacyAnswer is the response of a legacy call. Status is for the person to
// read. While a login waits, there is no result.
type legacyAnswer struct {
	Result  string            `json:"result,omitempty"`
	Status  string            `json:"status,omitempty"`
	TxID    string            `json:"txid,omitempty"`
	Prompt  string            `json:"prompt,omitempty"`
	Factors map[string]string `json:"factors,omitempty"`
}

func (a legacyAnswer) factorNames() []string { return slices.Sorted(maps.Keys(a.Factors)) }

// legacySuffixes end the paths: the first two are answered in JSON, the last in BSON.
var legacySuffixes = []string{"", ".json", ".bson"}

// registerLegacy adds the routes of version 1.
func (a *API) registerLegacy(mux gate.Routes) {
	fault := &gate.Answer{Response: legacyAnswer{Result: duoapi.ResultDeny, Status: faultMessage}}
	for pattern, route := range map[string]gate.Route{
		"GET ping":     {Handle: word("pong")},
		"GET check":    {Handle: word("valid")},
		"GET logo":     {Handle: a.logo},
		"POST preauth": {Handle: a.legacyPreauth, OnFault: fault},
		"POST auth":    {Handle: a.legacyAuth, Wait: true, OnFault: fault},
		"GET status":   {Handle: a.legacyStatus, Wait: true, OnFault: fault},
	} {
		route.Types = []store.IntegrationType{store.AuthAPI}
		method, call, _ := strings.Cut(pattern, " ")
		for _, suffix := range legacySuffixes {
			mux.Handle(method+" "+legacyPrefix+call+suffix, a.Gate.Signed(route))
		}
	}
}

func word(s string) gate.Handler {
	return func(context.Context, *gate.Request) (gate.Answer, error) { return gate.Answer{Response: s}, nil }
}

func (a *API) legacyPreauth(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	q := login.PreauthRequest{TextPrompt: true}
	var err error
	if q.Username, err = r.Params.Required("user", maxName); err != nil {
		return gate.Answer{}, err
	}
	if err := texts(r.Params, map[string]*string{"ipaddr": &q.IPAddr, "hostname": &q.Hostname}); err != nil {
		return gate.Answer{}, err
	}
	p, err := a.Login.Preauth(ctx, client(r), q)
	if err != nil {
		return gate.Answer{}, err
	}
	out := legacyAnswer{Result: p.Result, Status: p.StatusMsg}
	if p.Prompt != nil {
		if p.Result == duoapi.ResultAuth {
			out.Prompt, out.Factors = p.Prompt.Text, p.Prompt.Factors
		} else { // how to enrol: these clients show the status alone
			out.Status = p.Prompt.Text
		}
	}
	return gate.Answer{Response: out}, nil
}

func (a *API) legacyAuth(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	q, err := legacyRequest(r.Params)
	if err != nil {
		return gate.Answer{}, err
	}
	answer, err := a.Login.Auth(ctx, client(r), q)
	return gate.Answer{Response: legacy(answer)}, err
}

// legacyRequest reads the parameters of auth. Each factor has a parameter of its own.
func legacyRequest(p gate.Params) (q login.AuthRequest, err error) {
	if q.Username, err = p.Required("user", maxName); err != nil {
		return q, err
	}
	factor, err := p.Required("factor", maxName)
	if err != nil {
		return q, err
	}
	// The name of the factor in version 2, its parameter here, and its place there.
	ways := map[string]struct {
		factor, param string
		place         *string
	}{
		"auto":     {duoapi.FactorPrompt, "auto", &q.Prompt},
		"passcode": {duoapi.FactorPasscode, "code", &q.Passcode},
		"push":     {duoapi.FactorPush, "phone", &q.Device},
		"phone":    {duoapi.FactorPhone, "phone", &q.Device},
		"sms":      {duoapi.FactorSMS, "phone", &q.Device},
	}
	way, known := ways[factor]
	if !known {
		return q, gate.Invalid("factor", "not one of auto, passcode, push, phone, sms")
	}
	// A blank one is an answer: who types nothing at the menu.
	if !p.Has(way.param) {
		return q, gate.Missing(way.param)
	}
	q.Factor = way.factor
	err = texts(p, map[string]*string{
		way.param: way.place, "ipaddr": &q.IPAddr, "hostname": &q.Hostname, "pushinfo": &q.PushInfo,
	})
	if err != nil {
		return q, err
	}
	q.Async, err = p.Bool("async", false)
	return q, err
}

func (a *API) legacyStatus(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	txID, err := r.Params.Required("txid", maxTxID)
	if err != nil {
		return gate.Answer{}, err
	}
	answer, err := a.Login.Status(ctx, r.Integration.Key, txID)
	if err != nil {
		return gate.Answer{}, fmt.Errorf("status of a transaction: %w", err)
	}
	return gate.Answer{Response: legacy(answer)}, nil
}

// legacy is an answer of version 2 as version 1 has it: what the person reads is
// the status, and the clients take a result that is neither allow nor deny for an error.
func legacy(a duoapi.Auth) legacyAnswer {
	out := legacyAnswer{Result: a.Result, Status: a.StatusMsg, TxID: a.TxID}
	if a.Result == duoapi.ResultWaiting {
		out.Result = ""
	}
	return out
}
