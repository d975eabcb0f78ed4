// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/webpush"
)

func (a *API) registerWebPush(mux gate.Routes) {
	const path = "POST /sallyport/v1/authenticator/push_subscription"
	mux.Handle(path, a.Gate.Phone(false, a.paced(a.subscribePush)))
	mux.Handle(path+"/remove", a.Gate.Phone(false, a.paced(a.unsubscribePush)))
	mux.Handle(path+"/test", a.Gate.Phone(false, a.paced(a.testPush)))
}

// webPushKey is the key with which an authenticator subscribes; empty: Web Push
// is off, or cannot work at the moment, which the log tells.
func (a *API) webPushKey(ctx context.Context) string {
	if a.WebPush == nil {
		return ""
	}
	key, err := a.WebPush.PublicKey(ctx)
	if err != nil {
		a.Log.Error("no authenticator can subscribe to Web Push", "error", err)
	}
	return key
}

// hasWebPush says whether a phone is notified by Web Push.
func hasWebPush(r store.Reader, phoneID string) (bool, error) {
	_, err := r.PushSubscription(phoneID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

func (a *API) subscribePush(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.PushSubscription
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	switch {
	case a.WebPush == nil:
		return gate.Answer{}, duoapi.NewError(duoapi.CodePushOff, "")
	case b.Endpoint == "":
		return gate.Answer{}, gate.Missing("endpoint")
	case b.P256dh == "":
		return gate.Answer{}, gate.Missing("p256dh")
	case b.Auth == "":
		return gate.Answer{}, gate.Missing("auth")
	}
	if err := a.WebPush.Subscribe(ctx, r.Phone, webpush.Subscription(b)); err != nil {
		return gate.Answer{}, fmt.Errorf("subscribe to Web Push: %w", err)
	}
	return gate.Answer{Response: agentapi.PushSubscribed{Subscribed: true}}, nil
}

func (a *API) unsubscribePush(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if err := decode(r.Body, &struct{}{}); err != nil {
		return gate.Answer{}, err
	}
	if a.WebPush == nil {
		return gate.Answer{}, duoapi.NewError(duoapi.CodePushOff, "")
	}
	if err := a.WebPush.Unsubscribe(ctx, r.Phone); err != nil {
		return gate.Answer{}, fmt.Errorf("unsubscribe from Web Push: %w", err)
	}
	return gate.Answer{Response: agentapi.PushSubscribed{}}, nil
}

func (a *API) testPush(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if err := decode(r.Body, &struct{}{}); err != nil {
		return gate.Answer{}, err
	}
	if a.WebPush == nil {
		return gate.Answer{}, duoapi.NewError(duoapi.CodePushOff, "")
	}
	outcome, detail, err := a.WebPush.Test(ctx, r.Phone)
	if err != nil {
		return gate.Answer{}, fmt.Errorf("test Web Push: %w", err)
	}
	return gate.Answer{Response: agentapi.PushTested{Outcome: string(outcome), Detail: detail}}, nil
}
