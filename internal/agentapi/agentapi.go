// SPDX-License-Identifier: Apache-2.0

// Package agentapi holds what both ends of /sallyport/v1 speak with those that
// hold a key of their own, hosts and authenticators: the messages, and a client
// that signs. It stores nothing and decides nothing.
//
// The API is defined in docs/reference/sallyport-api.md and
// docs/reference/authenticator-protocol.md.
package agentapi

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// Prefixes of ids that derive from a key.
const (
	HostPrefix       = "HO"
	ActivationPrefix = "AK" // an authenticator before it has an id
)

// MaxWait is the longest that a call for transactions waits.
const MaxWait = 25 * time.Second

// Client calls a verifier with key proofs. It is safe for concurrent use and retries nothing.
type Client struct {
	BaseURL *url.URL // scheme and authority; also the audience of proofs
	Key     *ecdsa.PrivateKey
	KeyID   string
	HTTP    *http.Client
	Now     func() time.Time
}

// HTTPClient makes an HTTP client for calls that answer within timeout.
// Redirects are refused: a proof is for one address.
func HTTPClient(config *tls.Config, timeout time.Duration) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = config
	transport.TLSHandshakeTimeout = 10 * time.Second
	return &http.Client{
		Transport:     transport,
		Timeout:       timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// Audience is the aud member of proofs and answers.
func (c *Client) Audience() string { return c.BaseURL.Scheme + "://" + c.BaseURL.Host }

// call sends body (nil: none) as JSON and decodes the response into out.
// A refusal is a *duoapi.Error; see there for the other errors.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, body, out any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return fmt.Errorf("encode request: %w", err)
		}
	}
	u := c.BaseURL.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(raw))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if err := keyproof.SetHeader(req, raw, c.Key, c.KeyID, c.Audience(), c.Now()); err != nil {
		return fmt.Errorf("prove request: %w", err)
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", duoapi.ErrTransport, err)
	}
	defer res.Body.Close()
	_, err = duoapi.ReadAnswer(res, out)
	return err
}

// Join asks for a host to be taken in.
type Join struct {
	Token     string `json:"token"`
	Name      string `json:"name"`
	PublicKey string `json:"public_key"`
}

// Joined is what a host gets.
type Joined struct {
	HostID         string `json:"host_id"`
	Name           string `json:"name"`
	IntegrationKey string `json:"integration_key"`
	SecretKey      string `json:"secret_key"`
	APIHostname    string `json:"api_hostname"`
	URL            string `json:"url"`
	CAPEM          string `json:"ca_pem"`
}

// Join calls POST /sallyport/v1/hosts/join.
func (c *Client) Join(ctx context.Context, token, name string) (Joined, error) {
	var out Joined
	public, err := keyproof.EncodeKey(&c.Key.PublicKey)
	if err != nil {
		return out, fmt.Errorf("encode public key: %w", err)
	}
	err = c.call(ctx, http.MethodPost, "/sallyport/v1/hosts/join", nil, Join{Token: token, Name: name, PublicKey: public}, &out)
	return out, err
}

// Host is a host as the verifier knows it.
type Host struct {
	HostID         string `json:"host_id"`
	Name           string `json:"name"`
	IntegrationKey string `json:"integration_key"`
	Created        int64  `json:"created"` // Unix seconds
	APIHostname    string `json:"api_hostname"`
}

// Self calls GET /sallyport/v1/hosts/self.
func (c *Client) Self(ctx context.Context) (Host, error) {
	var out Host
	err := c.call(ctx, http.MethodGet, "/sallyport/v1/hosts/self", nil, nil, &out)
	return out, err
}

// Activate asks for an authenticator to be taken in.
type Activate struct {
	Code      string `json:"code"`
	PublicKey string `json:"public_key"`
	Name      string `json:"name,omitempty"`
	Platform  string `json:"platform,omitempty"`
}

// Activated is what an authenticator gets.
type Activated struct {
	AuthenticatorID string `json:"authenticator_id"`
	UserID          string `json:"user_id"`
	Username        string `json:"username"`
	Name            string `json:"name"`
	URL             string `json:"url"`
	APIHostname     string `json:"api_hostname"`
	CAPEM           string `json:"ca_pem"`
	// OfflineRoot is what offline codes are made from; base64 in JSON, and only here.
	OfflineRoot []byte `json:"offline_root,omitempty"`
}

// Activate calls POST /sallyport/v1/authenticator/activate.
func (c *Client) Activate(ctx context.Context, code, name, platform string) (Activated, error) {
	var out Activated
	public, err := keyproof.EncodeKey(&c.Key.PublicKey)
	if err != nil {
		return out, fmt.Errorf("encode public key: %w", err)
	}
	err = c.call(ctx, http.MethodPost, "/sallyport/v1/authenticator/activate", nil,
		Activate{Code: code, PublicKey: public, Name: name, Platform: platform}, &out)
	return out, err
}

// Transaction is an open login request.
type Transaction struct {
	TxID     string `json:"txid"`
	Context  string `json:"context"`  // JSON; its bytes are what an answer is bound to
	Verified bool   `json:"verified"` // an approval must carry the digits shown at the login
	Created  int64  `json:"created"`  // Unix seconds
	Expires  int64  `json:"expires"`  // Unix seconds
}

// Transactions are the open login requests to an authenticator.
type Transactions struct {
	Transactions []Transaction `json:"transactions"`
}

// Transactions calls GET /sallyport/v1/authenticator/transactions. It waits
// (at most MaxWait, in whole seconds) while the open requests are exactly those seen.
func (c *Client) Transactions(ctx context.Context, wait time.Duration, seen []string) ([]Transaction, error) {
	query := url.Values{}
	if wait > 0 {
		query.Set("wait", strconv.Itoa(int(min(wait, MaxWait).Seconds())))
	}
	if len(seen) > 0 {
		query["seen"] = seen
	}
	var out Transactions
	err := c.call(ctx, http.MethodGet, "/sallyport/v1/authenticator/transactions", query, nil, &out)
	return out.Transactions, err
}

// Decisions of an answer.
const (
	Approve = "approve"
	Deny    = "deny"
	Fraud   = "fraud"
)

// Answer is the payload that an authenticator signs.
type Answer struct {
	Version  int    `json:"v"` // 1
	Audience string `json:"aud"`
	TxID     string `json:"txid"`
	Context  string `json:"context"` // keyproof.HashBody of the context's bytes
	Decision string `json:"decision"`
	Digits   string `json:"digits,omitempty"`
	IssuedAt int64  `json:"iat"` // Unix seconds
}

// SignedAnswer carries an Answer as a compact JWS of the authenticator's key.
type SignedAnswer struct {
	Answer string `json:"answer"`
	// Verification is a WebAuthn assertion (AuthenticationResponseJSON) over
	// AnswerChallenge(Answer). An approval needs it if the authenticator has
	// registered user verification.
	Verification json.RawMessage `json:"verification,omitempty"`
}

// Answered says what the verifier recorded.
type Answered struct {
	TxID     string `json:"txid"`
	Decision string `json:"decision"`
}

// SignAnswer makes the answer to tx as a compact JWS.
func (c *Client) SignAnswer(tx Transaction, decision, digits string) (string, error) {
	payload, err := json.Marshal(Answer{
		Version: 1, Audience: c.Audience(), TxID: tx.TxID, Context: keyproof.HashBody([]byte(tx.Context)),
		Decision: decision, Digits: digits, IssuedAt: c.Now().Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("encode answer: %w", err)
	}
	signed, err := keyproof.Sign(c.Key, payload)
	if err != nil {
		return "", fmt.Errorf("sign answer: %w", err)
	}
	return signed, nil
}

// Answer signs a decision on tx, calls POST
// /sallyport/v1/authenticator/transactions/{txid} and returns the decision that
// was recorded: it is deny for an approval whose digits were wrong once too often.
func (c *Client) Answer(ctx context.Context, tx Transaction, decision, digits string) (string, error) {
	signed, err := c.SignAnswer(tx, decision, digits)
	if err != nil {
		return "", err
	}
	return c.SendAnswer(ctx, tx.TxID, SignedAnswer{Answer: signed})
}

// SendAnswer is Answer with an answer that was signed before.
func (c *Client) SendAnswer(ctx context.Context, txID string, answer SignedAnswer) (string, error) {
	var out Answered
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/authenticator/transactions/"+url.PathEscape(txID), nil, answer, &out)
	return out.Decision, err
}
