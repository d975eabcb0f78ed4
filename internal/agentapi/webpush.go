// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"context"
	"net/http"
)

// PushSubscription is where an authenticator wants to be notified: what the
// PushSubscription of its browser holds (Push API).
type PushSubscription struct {
	Endpoint string `json:"endpoint"`
	P256dh   string `json:"p256dh"` // base64url of the 65 bytes of an uncompressed P-256 point
	Auth     string `json:"auth"`   // base64url of 16 bytes
}

// PushSubscribed says whether the authenticator has a subscription now.
type PushSubscribed struct {
	Subscribed bool `json:"subscribed"`
}

// Outcomes of a test message.
const (
	PushTaken  = "taken"
	PushGone   = "gone"
	PushFailed = "failed"
)

// PushTested says what became of a test message.
type PushTested struct {
	Outcome string `json:"outcome"` // taken, gone or failed
	Detail  string `json:"detail"`  // why, where it was not taken
}

const pushPath = "/sallyport/v1/authenticator/push_subscription"

// SetPushSubscription calls POST /sallyport/v1/authenticator/push_subscription.
func (c *Client) SetPushSubscription(ctx context.Context, s PushSubscription) (PushSubscribed, error) {
	var out PushSubscribed
	err := c.call(ctx, http.MethodPost, pushPath, nil, s, &out)
	return out, err
}

// RemovePushSubscription calls POST /sallyport/v1/authenticator/push_subscription/remove.
func (c *Client) RemovePushSubscription(ctx context.Context) (PushSubscribed, error) {
	var out PushSubscribed
	err := c.call(ctx, http.MethodPost, pushPath+"/remove", nil, struct{}{}, &out)
	return out, err
}

// TestPush calls POST /sallyport/v1/authenticator/push_subscription/test, which
// sends a test message to this authenticator.
func (c *Client) TestPush(ctx context.Context) (PushTested, error) {
	var out PushTested
	err := c.call(ctx, http.MethodPost, pushPath+"/test", nil, struct{}{}, &out)
	return out, err
}
