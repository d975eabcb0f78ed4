// SPDX-License-Identifier: Apache-2.0

package adminapi

import (
	"context"

	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
)

// client is the integration that asks, as the login service knows it.
func client(r *gate.Request) login.Client {
	return login.Client{Integration: r.Integration, Address: r.Addr.String()}
}

func (a *API) verificationPush(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	phone, err := r.Params.Required("phone_id", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	id, digits, err := a.Login.VerificationPush(ctx, client(r), r.Path("user_id"), phone)
	if err != nil {
		return gate.Answer{}, err
	}
	return gate.Answer{Response: map[string]string{"push_id": id, "confirmation_code": digits}}, nil
}

func (a *API) verificationResult(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	id, err := r.Params.Required("push_id", maxText)
	if err != nil {
		return gate.Answer{}, err
	}
	result, err := a.Login.VerificationResult(ctx, client(r), r.Path("user_id"), id)
	if err != nil {
		return gate.Answer{}, err
	}
	return gate.Answer{Response: map[string]string{"push_id": id, "result": string(result)}}, nil
}
