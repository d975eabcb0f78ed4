// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"context"
	"net/http"
)

// MaxBindings is how many bindings one use of a session may name.
const MaxBindings = 32

// NewSession asks for a login on this host to be remembered.
type NewSession struct {
	TxID    string `json:"txid"`    // of the event that proved the second factor
	Binding string `json:"binding"` // base64url, no padding, of a SHA-256
	Service string `json:"service,omitempty"`
	TTY     string `json:"tty,omitempty"`
}

// Session is a login that is remembered.
type Session struct {
	SessionID string `json:"session_id"`
	Factor    string `json:"factor"`  // name in the authentication log
	Expires   int64  `json:"expires"` // Unix seconds
}

// CreateSession calls POST /sallyport/v1/sessions. Twice with the same is once.
func (c *Client) CreateSession(ctx context.Context, s NewSession) (Session, error) {
	var out Session
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/sessions", nil, s, &out)
	return out, err
}

// SessionUse asks whether a person is remembered in the login of a process.
type SessionUse struct {
	Username string   `json:"username"`
	Bindings []string `json:"bindings"` // one for each process above the caller; one must be the session's
	Service  string   `json:"service,omitempty"`
	Factors  []string `json:"factors,omitempty"` // of the auth call; empty: all that the policy accepts
}

// SessionUsed is the answer. Nothing but Allowed lets anyone in.
type SessionUsed struct {
	Allowed bool `json:"allowed"`
	Session
	TxID string `json:"txid"` // of the event of this use
}

// UseSession calls POST /sallyport/v1/sessions/use.
func (c *Client) UseSession(ctx context.Context, u SessionUse) (SessionUsed, error) {
	var out SessionUsed
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/sessions/use", nil, u, &out)
	return out, err
}

// SessionEnd names the login that is over.
type SessionEnd struct {
	Binding string `json:"binding"`
}

// SessionEnded says whether a session ended by that.
type SessionEnded struct {
	Ended bool `json:"ended"`
}

// EndSession calls POST /sallyport/v1/sessions/end. A login that was not
// remembered is no error.
func (c *Client) EndSession(ctx context.Context, binding string) (bool, error) {
	var out SessionEnded
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/sessions/end", nil, SessionEnd{Binding: binding}, &out)
	return out.Ended, err
}
