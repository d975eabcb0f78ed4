// SPDX-License-Identifier: Apache-2.0

// Package authapi translates Duo's Auth API, version 2 and the legacy version 1
// in JSON and BSON, to the login and directory services and back. It holds no rule of who may log in.
package authapi

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Limits of parameters, in bytes.
const (
	maxName     = 256
	maxText     = 1024
	maxPushInfo = 20_000
	maxTxID     = 255
)

// faultMessage is what a person reads when the verifier itself fails.
const faultMessage = "The verifier cannot decide at the moment. Please try again, or ask your administrator."

// API serves the Auth API.
type API struct {
	Gate      *gate.Gate
	Login     login.API
	Directory *directory.Directory
	Logo      []byte // PNG; empty: there is none
	Now       func() time.Time
}

// Register adds the routes to mux.
func (a *API) Register(mux gate.Routes) {
	// Clients set their clock by ping, so a signature with a wrong date must not matter.
	mux.Handle("GET /auth/v2/ping", a.Gate.Open(a.time))
	for pattern, route := range map[string]gate.Route{
		"GET /auth/v2/check":          {Handle: a.time},
		"GET /auth/v2/logo":           {Handle: a.logo},
		"POST /auth/v2/enroll":        {Handle: a.enroll},
		"POST /auth/v2/enroll_status": {Handle: a.enrollStatus},
		"POST /auth/v2/preauth": {Handle: a.preauth, OnFault: &gate.Answer{Response: duoapi.Preauth{
			Result: duoapi.ResultDeny, StatusMsg: faultMessage,
		}}},
		"POST /auth/v2/auth":       {Handle: a.auth, Wait: true, OnFault: authFault()},
		"GET /auth/v2/auth_status": {Handle: a.authStatus, Wait: true, OnFault: authFault()},
	} {
		route.Types = []store.IntegrationType{store.AuthAPI}
		mux.Handle(pattern, a.Gate.Signed(route))
	}
	a.registerLegacy(mux)
}

func authFault() *gate.Answer {
	return &gate.Answer{Response: duoapi.Auth{Result: duoapi.ResultDeny, Status: "deny", StatusMsg: faultMessage}}
}

func (a *API) time(context.Context, *gate.Request) (gate.Answer, error) {
	return gate.Answer{Response: map[string]int64{"time": a.Now().Unix()}}, nil
}

// logo answers the logo that an administrator has set, else that of the file.
func (a *API) logo(ctx context.Context, _ *gate.Request) (gate.Answer, error) {
	logo, err := a.Directory.Logo(ctx)
	if err != nil {
		return gate.Answer{}, err
	}
	if len(logo) == 0 {
		logo = a.Logo
	}
	if len(logo) == 0 {
		return gate.Answer{}, duoapi.NewError(duoapi.CodeNotFound, "no logo is set")
	}
	return gate.Answer{Response: logo, Type: "image/png"}, nil
}

func (a *API) enroll(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	username, err := r.Params.String("username", maxName)
	if err != nil {
		return gate.Answer{}, err
	}
	secs, err := r.Params.Int("valid_secs", directory.DefaultActivationSecs, 1, directory.MaxActivationSecs)
	if err != nil {
		return gate.Answer{}, err
	}
	codes, err := r.Params.Int("bypass_codes", 0, 0, directory.MaxBypassCodes)
	if err != nil {
		return gate.Answer{}, err
	}
	e, err := a.Directory.Enroll(ctx, actor(r), directory.EnrollRequest{
		Username: username, Valid: time.Duration(secs) * time.Second, BypassCodes: codes,
		By: r.Integration.Key,
	})
	if err != nil {
		return gate.Answer{}, err
	}
	return gate.Answer{Response: duoapi.Enroll{
		UserID: e.User.ID, Username: e.User.Username, Expiration: e.Expires.Unix(), BypassCodes: e.BypassCodes,
		ActivationCode: e.Code, ActivationURL: e.Link, ActivationBarcode: e.Barcode,
	}}, nil
}

func actor(r *gate.Request) directory.Actor {
	return directory.Actor{Name: r.Integration.Name, Integration: r.Integration.Key, Address: r.Addr.String()}
}

func (a *API) enrollStatus(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	userID, err := r.Params.Required("user_id", maxName)
	if err != nil {
		return gate.Answer{}, err
	}
	code, err := r.Params.Required("activation_code", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	status, err := a.Directory.EnrollStatus(ctx, userID, code)
	return gate.Answer{Response: status}, err
}

// person reads username or user_id, of which one must be there.
func person(p gate.Params) (username, userID string, err error) {
	switch hasName, hasID := p.Has("username"), p.Has("user_id"); {
	case !hasName && !hasID:
		return "", "", gate.Missing("username or user_id")
	case hasName && hasID:
		return "", "", gate.Invalid("user_id", "username is given as well")
	case hasName:
		username, err = p.Required("username", maxName)
	default:
		userID, err = p.Required("user_id", maxName)
	}
	return username, userID, err
}

// texts reads optional parameters into their places.
func texts(p gate.Params, into map[string]*string) error {
	for name, place := range into {
		limit := maxText
		if name == "pushinfo" {
			limit = maxPushInfo
		}
		value, err := p.String(name, limit)
		if err != nil {
			return err
		}
		*place = value
	}
	return nil
}

func (a *API) preauth(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var q login.PreauthRequest
	var err error
	if q.Username, q.UserID, err = person(r.Params); err != nil {
		return gate.Answer{}, err
	}
	if err := texts(r.Params, map[string]*string{"ipaddr": &q.IPAddr, "hostname": &q.Hostname}); err != nil {
		return gate.Answer{}, err
	}
	if q.VerifiedPush, err = r.Params.Bool("client_supports_verified_push", false); err != nil {
		return gate.Answer{}, err
	}
	if q.TextPrompt, err = r.Params.Bool("text_prompt", false); err != nil {
		return gate.Answer{}, err
	}
	if q.Passport, err = r.Params.Bool("sallyport_passport", false); err != nil {
		return gate.Answer{}, err
	}
	answer, err := a.Login.Preauth(ctx, client(r), q)
	return gate.Answer{Response: answer}, err
}

func client(r *gate.Request) login.Client {
	return login.Client{Integration: r.Integration, Address: r.Addr.String()}
}

func (a *API) auth(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var q login.AuthRequest
	var err error
	if q.Username, q.UserID, err = person(r.Params); err != nil {
		return gate.Answer{}, err
	}
	if q.Factor, err = factor(r.Params); err != nil {
		return gate.Answer{}, err
	}
	if q.Async, err = r.Params.Bool("async", false); err != nil {
		return gate.Answer{}, err
	}
	if q.Passport, err = r.Params.Bool("sallyport_passport", false); err != nil {
		return gate.Answer{}, err
	}
	err = texts(r.Params, map[string]*string{
		"device": &q.Device, "passcode": &q.Passcode, "prompt": &q.Prompt, "txid": &q.TxID, "ipaddr": &q.IPAddr,
		"hostname": &q.Hostname, "type": &q.Type, "display_username": &q.DisplayUsername, "pushinfo": &q.PushInfo,
	})
	if err != nil {
		return gate.Answer{}, err
	}
	answer, err := a.Login.Auth(ctx, client(r), q)
	return gate.Answer{Response: answer}, err
}

// factor reads the factor and the parameter that it must come with.
func factor(p gate.Params) (string, error) {
	name, err := p.Required("factor", maxName)
	if err != nil {
		return "", err
	}
	needs, known := map[string]string{
		duoapi.FactorAuto: "", duoapi.FactorPush: "device", duoapi.FactorPhone: "device", duoapi.FactorSMS: "device",
		duoapi.FactorPasscode: "passcode", duoapi.FactorPrompt: "prompt",
	}[name]
	if !known {
		return "", gate.Invalid("factor", "not one of auto, push, passcode, sms, phone, prompt")
	}
	if needs != "" && !p.Has(needs) {
		return "", gate.Missing(needs)
	}
	if name == duoapi.FactorPasscode && p["device"] != "" {
		return "", gate.Invalid("device", "not allowed with factor passcode")
	}
	return name, nil
}

func (a *API) authStatus(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	txID, err := r.Params.Required("txid", maxTxID)
	if err != nil {
		return gate.Answer{}, err
	}
	return status(a.Login.Status(ctx, r.Integration.Key, txID))
}

func status(answer duoapi.Auth, err error) (gate.Answer, error) {
	if err != nil {
		return gate.Answer{}, fmt.Errorf("status of a transaction: %w", err)
	}
	return gate.Answer{Response: answer}, nil
}
