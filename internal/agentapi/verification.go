// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"net/http"
)

// AnswerChallenge is the WebAuthn challenge of the assertion that goes with a
// signed answer: the SHA-256 of the bytes of its compact JWS. So an assertion is
// good for that answer alone.
func AnswerChallenge(answer string) []byte {
	sum := sha256.Sum256([]byte(answer))
	return sum[:]
}

// VerificationOptions are options for navigator.credentials, in the JSON forms
// of WebAuthn: PublicKeyCredentialCreationOptionsJSON to register,
// PublicKeyCredentialRequestOptionsJSON to prove.
type VerificationOptions struct {
	Options json.RawMessage `json:"options"`
}

// VerificationCredential is a new WebAuthn credential: RegistrationResponseJSON.
type VerificationCredential struct {
	Credential json.RawMessage `json:"credential"`
}

const verificationPath = "/sallyport/v1/authenticator/user_verification/"

// BeginVerification calls POST /sallyport/v1/authenticator/user_verification/begin.
func (c *Client) BeginVerification(ctx context.Context) (VerificationOptions, error) {
	var out VerificationOptions
	err := c.call(ctx, http.MethodPost, verificationPath+"begin", nil, struct{}{}, &out)
	return out, err
}

// FinishVerification calls POST /sallyport/v1/authenticator/user_verification/finish.
func (c *Client) FinishVerification(ctx context.Context, v VerificationCredential) (VerificationState, error) {
	var out VerificationState
	err := c.call(ctx, http.MethodPost, verificationPath+"finish", nil, v, &out)
	return out, err
}

// VerificationChallenge calls POST /sallyport/v1/authenticator/user_verification/challenge:
// the options of an assertion for one operation other than an answer.
func (c *Client) VerificationChallenge(ctx context.Context) (VerificationOptions, error) {
	var out VerificationOptions
	err := c.call(ctx, http.MethodPost, verificationPath+"challenge", nil, struct{}{}, &out)
	return out, err
}

// RemoveVerification calls POST /sallyport/v1/authenticator/user_verification/remove.
func (c *Client) RemoveVerification(ctx context.Context, v Verification) (VerificationState, error) {
	var out VerificationState
	err := c.call(ctx, http.MethodPost, verificationPath+"remove", nil, v, &out)
	return out, err
}
