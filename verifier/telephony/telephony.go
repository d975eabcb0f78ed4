// SPDX-License-Identifier: Apache-2.0

// Package telephony reaches people by telephone through an HTTP webhook: the
// verifier asks a provider for a call or an SMS, and the provider reports back.
// Both ways are signed per the Standard Webhooks specification
// (https://www.standardwebhooks.com). It never decides what a pressed key means
// for a login.
package telephony

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	webhook "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/login"
)

// MaxSkew is how far the time of a callback may be from the clock.
const MaxSkew = 5 * time.Minute

// minKey is the least length of the shared key, in bytes, by the specification.
const minKey = 24

// CallbackPath is where the provider reports to.
const CallbackPath = "/sallyport/v1/telephony/callback"

// ErrRefused is what errors of a callback's signature wrap.
var ErrRefused = errors.New("signature of the callback is refused")

// Provider is a telephony provider behind a webhook. It is safe for concurrent use.
type Provider struct {
	url      string
	callback string
	hook     *webhook.Webhook
	client   *http.Client
	attempts int
	approve  string
	fraud    string
	now      func() time.Time
	pause    func(context.Context, time.Duration) error
}

var _ login.Telephony = (*Provider)(nil)

// New makes the provider that c names; base is the verifier's own address.
func New(c config.Telephony, base *url.URL, now func() time.Time) (*Provider, error) {
	secret, err := c.Secret()
	if err != nil {
		return nil, fmt.Errorf("read telephony secret: %w", err)
	}
	hook, err := Key(secret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.SecretFile, err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		if transport.TLSClientConfig.RootCAs, err = roots(c.CAFile); err != nil {
			return nil, err
		}
	}
	callback := *base
	callback.Path = CallbackPath
	return &Provider{
		url: c.URL, callback: callback.String(), hook: hook, attempts: c.Attempts,
		approve: c.ApproveKey, fraud: c.FraudKey, now: now, pause: pause,
		client: &http.Client{
			Timeout: c.Timeout.Duration, Transport: transport,
			// A redirect would carry numbers and codes to an address that nobody set.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

func roots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read roots for the telephony provider: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read roots for the telephony provider: %s holds no certificate", file)
	}
	return pool, nil
}

// Key reads a whsec_ secret.
func Key(secret string) (*webhook.Webhook, error) {
	hook, err := webhook.NewWebhook(secret)
	if err != nil {
		return nil, errors.New("not a secret of the form whsec_BASE64")
	}
	if len(secret) < len("whsec_")+minKey*4/3 {
		return nil, fmt.Errorf("the secret is shorter than %d bytes", minKey)
	}
	return hook, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// order is what the provider is asked for.
type order struct {
	ID          string `json:"id"`
	Type        string `json:"type"` // call or sms
	TxID        string `json:"txid,omitempty"`
	Number      string `json:"number"`
	Extension   string `json:"extension,omitempty"`
	PreDelay    string `json:"predelay,omitempty"`
	PostDelay   string `json:"postdelay,omitempty"`
	Username    string `json:"username,omitempty"`
	Text        string `json:"text"`
	ApproveKey  string `json:"approve_key,omitempty"`
	FraudKey    string `json:"fraud_key,omitempty"`
	CallbackURL string `json:"callback_url"`
}

// CallID is the id of the order for a transaction's call.
func CallID(txID string) string { return "call_" + txID }

// Call implements login.Telephony.
func (p *Provider) Call(ctx context.Context, c login.Call) error {
	text := c.Message
	if text == "" {
		text = fmt.Sprintf("This is a login request for %s. Press %s to approve it. Press %s if you did not ask for it.",
			c.Username, spoken(p.approve), spoken(p.fraud))
	}
	return p.order(ctx, order{
		ID: CallID(c.TxID), Type: "call", TxID: c.TxID, Number: c.Number, Extension: c.Extension, Username: c.Username,
		PreDelay: c.PreDelay, PostDelay: c.PostDelay,
		Text: text, ApproveKey: p.approve, FraudKey: p.fraud,
	})
}

func spoken(key string) string {
	switch key {
	case "#":
		return "the pound key"
	case "*":
		return "the star key"
	}
	return key
}

// SMS implements login.Telephony.
func (p *Provider) SMS(ctx context.Context, m login.SMS) error {
	return p.order(ctx, order{ID: m.ID, Type: "sms", Number: m.Number, Text: m.Text})
}

// order sends one order, again after a transport error, a 429 or a 5xx. All
// tries bear one id, so that the provider acts once.
func (p *Provider) order(ctx context.Context, o order) error {
	o.CallbackURL = p.callback
	body, err := json.Marshal(o)
	if err != nil {
		return fmt.Errorf("encode %s: %w", o.Type, err)
	}
	id := "msg_" + rand.Text()
	maybe := false // a try may have reached the provider though no answer says so
	for try := 1; ; try++ {
		again, err := p.post(ctx, id, body)
		if err == nil {
			return nil
		}
		maybe = maybe || !errors.Is(err, login.ErrRefused)
		if !again || try >= p.attempts {
			if maybe {
				err = errors.New(err.Error()) // no refusal: it would be paid back
			}
			return fmt.Errorf("ask the telephony provider for a %s (%d of %d tries): %w", o.Type, try, p.attempts, err)
		}
		if err := p.pause(ctx, time.Duration(try)*250*time.Millisecond); err != nil {
			return fmt.Errorf("ask the telephony provider for a %s: %w", o.Type, err)
		}
	}
}

func (p *Provider) post(ctx context.Context, id string, body []byte) (again bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	at := p.now()
	sig, err := p.hook.Sign(id, at, body)
	if err != nil {
		return false, fmt.Errorf("sign: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set(webhook.HeaderWebhookID, id)
	req.Header.Set(webhook.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	req.Header.Set(webhook.HeaderWebhookSignature, sig)
	res, err := p.client.Do(req)
	if err != nil {
		return ctx.Err() == nil, err
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 4096)) // so that the connection is used again
	if res.StatusCode/100 == 2 {
		return false, nil
	}
	if res.StatusCode/100 != 4 {
		return res.StatusCode >= 500, fmt.Errorf("HTTP status %d", res.StatusCode)
	}
	return res.StatusCode == http.StatusTooManyRequests, fmt.Errorf("%w: HTTP status %d", login.ErrRefused, res.StatusCode)
}

// Verify checks the signature and the time of a callback. Errors wrap ErrRefused.
func (p *Provider) Verify(header http.Header, body []byte) error {
	// The library's own check of the time reads the system's clock.
	if err := p.hook.VerifyIgnoringTimestamp(body, header); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	secs, err := strconv.ParseInt(header.Get(webhook.HeaderWebhookTimestamp), 10, 64)
	if err != nil {
		return fmt.Errorf("%w: timestamp", ErrRefused)
	}
	if skew := p.now().Sub(time.Unix(secs, 0)).Abs(); skew > MaxSkew {
		return fmt.Errorf("%w: %s from this clock", ErrRefused, skew.Round(time.Second))
	}
	return nil
}

// Key says what a pressed key means to the login service: login.KeyApprove,
// login.KeyFraud, or blank for a key with no meaning.
func (p *Provider) Key(pressed string) string {
	switch pressed {
	case p.approve:
		return login.KeyApprove
	case p.fraud:
		return login.KeyFraud
	}
	return ""
}
