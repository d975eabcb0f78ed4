// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
)

// Device is an activated authenticator of the person.
type Device struct {
	AuthenticatorID  string `json:"authenticator_id"`
	Name             string `json:"name"`
	Platform         string `json:"platform"`
	Activated        int64  `json:"activated"` // Unix seconds
	LastSeen         int64  `json:"last_seen"` // Unix seconds
	This             bool   `json:"this"`      // the one that asks
	UserVerification bool   `json:"user_verification"`
	WebPush          bool   `json:"web_push"`
}

// Devices are the activated authenticators of a person, oldest first.
type Devices struct {
	Devices []Device `json:"devices"`
}

// Devices calls GET /sallyport/v1/authenticator/devices.
func (c *Client) Devices(ctx context.Context) ([]Device, error) {
	var out Devices
	err := c.call(ctx, http.MethodGet, "/sallyport/v1/authenticator/devices", nil, nil, &out)
	return out.Devices, err
}

// Rename gives an authenticator another name: 1 to 64 bytes.
type Rename struct {
	Name string `json:"name"`
}

// RenameDevice calls POST /sallyport/v1/authenticator/devices/{id}.
func (c *Client) RenameDevice(ctx context.Context, id, name string) (Device, error) {
	var out Device
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/authenticator/devices/"+url.PathEscape(id), nil, Rename{name}, &out)
	return out, err
}

// Verification carries a WebAuthn assertion (AuthenticationResponseJSON) over a
// challenge of VerificationChallenge. It must be there if the calling
// authenticator has registered user verification.
type Verification struct {
	Verification json.RawMessage `json:"verification,omitempty"`
}

// Removed says which authenticator has no key any more.
type Removed struct {
	AuthenticatorID string `json:"authenticator_id"`
}

// RemoveDevice calls POST /sallyport/v1/authenticator/devices/{id}/remove. An
// authenticator that removes itself cannot call any more.
func (c *Client) RemoveDevice(ctx context.Context, id string, v Verification) (Removed, error) {
	var out Removed
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/authenticator/devices/"+url.PathEscape(id)+"/remove", nil, v, &out)
	return out, err
}

// Move is how another key takes the place of this authenticator's.
type Move struct {
	Link    string   `json:"link"`    // an activation link
	Code    string   `json:"code"`    // its activation code
	Expires int64    `json:"expires"` // Unix seconds
	QR      []string `json:"qr"`      // rows of the QR code of Link, 1 for a dark module; no quiet zone
}

// Move calls POST /sallyport/v1/authenticator/move. Until the link is used the
// present key stays good, from then on it is dead.
func (c *Client) Move(ctx context.Context, v Verification) (Move, error) {
	var out Move
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/authenticator/move", nil, v, &out)
	return out, err
}
