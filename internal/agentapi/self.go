// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"context"
	"net/http"
)

// What a verifier offers to authenticators, or an authenticator can do. Neither
// changes what an answer to a login request is signed over.
const (
	CapabilityDigits           = "digits"            // approves with the digits that the login shows
	CapabilityStream           = "stream"            // GET …/authenticator/stream
	CapabilityDevices          = "devices"           // …/authenticator/devices, and move
	CapabilityUserVerification = "user_verification" // WebAuthn beside an approval
	CapabilityWebPush          = "web_push"          // RFC 8030
)

// Limits of an Announcement.
const (
	MaxCapabilities    = 32
	MaxCapabilityBytes = 64
	MaxProgramBytes    = 64
)

// VerificationState says whether an authenticator has the platform verify its
// person before each approval.
type VerificationState struct {
	Registered bool `json:"registered"`
	Available  bool `json:"available"` // false where the verifier's url has no host name
}

// Authenticator is an authenticator as the verifier knows it.
type Authenticator struct {
	AuthenticatorID string `json:"authenticator_id"`
	UserID          string `json:"user_id"`
	Username        string `json:"username"`
	Name            string `json:"name"`
	Platform        string `json:"platform"`
	Created         int64  `json:"created"`   // Unix seconds
	Activated       int64  `json:"activated"` // Unix seconds
	URL             string `json:"url"`
	ServerVersion   string `json:"server_version"`
	// Capabilities are what the verifier offers.
	Capabilities []string `json:"capabilities"`
	// WebPushKey is the verifier's VAPID key (RFC 8292): base64url of 65 bytes; empty: off.
	WebPushKey       string            `json:"web_push_key,omitempty"`
	UserVerification VerificationState `json:"user_verification"`
	PushSeconds      int               `json:"push_seconds"` // that a login request is open
	HelpdeskMessage  string            `json:"helpdesk_message"`
}

// AuthenticatorSelf calls GET /sallyport/v1/authenticator/self.
func (c *Client) AuthenticatorSelf(ctx context.Context) (Authenticator, error) {
	var out Authenticator
	err := c.call(ctx, http.MethodGet, "/sallyport/v1/authenticator/self", nil, nil, &out)
	return out, err
}

// Announcement is what an authenticator says of itself. It holds until the next
// one, or until another key is activated.
type Announcement struct {
	Capabilities []string `json:"capabilities"`
	Program      string   `json:"program,omitempty"`  // name/version
	Platform     string   `json:"platform,omitempty"` // empty: as it was
}

// Announce calls POST /sallyport/v1/authenticator/self.
func (c *Client) Announce(ctx context.Context, a Announcement) (Authenticator, error) {
	var out Authenticator
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/authenticator/self", nil, a, &out)
	return out, err
}
