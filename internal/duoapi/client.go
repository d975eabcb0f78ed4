// SPDX-License-Identifier: Apache-2.0

package duoapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/signature"
)

// maxAnswer bounds the body of an answer, in bytes.
const maxAnswer = 8 << 20

// Errors of Client that are not an answer of the API. A wrapped
// ErrTransport means that no answer came; ErrMalformed that what came was not
// one: both are outages. An *Error is an answer.
var (
	ErrTransport = errors.New("no answer from the server")
	ErrMalformed = errors.New("malformed answer from the server")
)

// Profile is a file with what it takes to call a server, such as admin.json. It
// holds a secret.
type Profile struct {
	IntegrationKey string `json:"integration_key"`
	SecretKey      string `json:"secret_key"`
	APIHostname    string `json:"api_hostname"` // HOST or HOST:PORT
	CAFile         string `json:"ca_file"`      // blank: the system's roots
	// MKey is the management system whose device caches the integration fills;
	// blank for all other integrations.
	MKey string `json:"mkey,omitempty"`
}

// Client calls a Duo-protocol server. It is safe for concurrent use and reuses
// the connections of HTTP. It retries nothing.
type Client struct {
	BaseURL        *url.URL // scheme and authority
	IntegrationKey string
	Secret         []byte
	HTTP           *http.Client
	UserAgent      string
	Now            func() time.Time
	// Nonce, if set, gives a text that was not sent before, which goes along with each
	// change under the signature. Dates have a granularity of a second: without it, the
	// same change asked for twice in one is a replay to the server.
	Nonce func() string
}

// nonceHeader is under signatures of version 5, as all X-Duo-* headers are.
const nonceHeader = "X-Duo-Nonce"

// RandomNonce is a Nonce: 128 random bits.
func RandomNonce() string { return rand.Text() }

// Call sends a request signed with version 2 and SHA-512 (a change with a nonce:
// version 5), parameters in the query (GET, DELETE) or as a form, which every server
// of this protocol reads, and decodes the response into out unless that is nil.
func (c *Client) Call(ctx context.Context, method, path string, params url.Values, out any) (*Metadata, error) {
	sig := signature.Request{Method: method, Params: params}
	scheme := signature.Scheme{Version: signature.V2, Digest: signature.SHA512}
	if method != http.MethodGet && c.Nonce != nil {
		scheme.Version = signature.V5
		sig.Headers = map[string]string{strings.ToLower(nonceHeader): c.Nonce()}
	}
	if method == http.MethodGet || method == http.MethodDelete {
		return c.do(ctx, sig, scheme, path, signature.EncodeParams(params), "", out)
	}
	sig.Body = []byte(signature.EncodeParams(params))
	return c.do(ctx, sig, scheme, path, "", "application/x-www-form-urlencoded", out)
}

// CallJSON sends body as JSON, signed with version 5 and SHA-512.
func (c *Client) CallJSON(ctx context.Context, method, path string, body, out any) (*Metadata, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode request: %w", err)
	}
	sig := signature.Request{Method: method, Body: b, JSON: true}
	if c.Nonce != nil {
		sig.Headers = map[string]string{strings.ToLower(nonceHeader): c.Nonce()}
	}
	return c.do(ctx, sig, signature.Scheme{Version: signature.V5, Digest: signature.SHA512}, path, "", "application/json", out)
}

func (c *Client) do(ctx context.Context, sig signature.Request, scheme signature.Scheme, path, query, contentType string, out any) (*Metadata, error) {
	u := *c.BaseURL
	u.Path, u.RawQuery = path, query
	req, err := http.NewRequestWithContext(ctx, sig.Method, u.String(), bytes.NewReader(sig.Body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	sig.Host, sig.Path = u.Host, u.EscapedPath()
	sig.Date = c.Now().UTC().Format(time.RFC1123Z)
	req.Header.Set("Date", sig.Date)
	for name, value := range sig.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Authorization", signature.Authorization(scheme, sig, c.IntegrationKey, c.Secret))
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if c.UserAgent != "" {
		req.Header.Set("User-Agent", c.UserAgent)
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %w", sig.Method, path, ErrTransport, err)
	}
	defer res.Body.Close()
	meta, err := ReadAnswer(res, out)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", sig.Method, path, err)
	}
	return meta, nil
}

// ReadAnswer reads an answer in the envelope. A FAIL is an *Error whatever the
// HTTP status; what is no envelope wraps ErrMalformed with the status named.
func ReadAnswer(res *http.Response, out any) (*Metadata, error) {
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("%w: reading it: %w", ErrTransport, err)
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("%w: over %d bytes", ErrMalformed, maxAnswer)
	}
	var env Envelope
	if err := json.Unmarshal(body, &env); err != nil || (env.Stat != "OK" && env.Stat != "FAIL") {
		if res.StatusCode >= 400 && res.StatusCode < 500 {
			// A proxy's or another server's refusal is still a refusal.
			return nil, &Error{Code: res.StatusCode * 100, Message: http.StatusText(res.StatusCode), RetryAfter: retryAfter(res)}
		}
		return nil, fmt.Errorf("%w: HTTP status %d without an envelope", ErrMalformed, res.StatusCode)
	}
	if env.Stat == "FAIL" {
		code := env.Code
		if res.StatusCode >= 400 && code/100 != res.StatusCode {
			code = res.StatusCode * 100
		}
		return nil, &Error{Code: code, Message: env.Message, Detail: env.MessageDetail, RetryAfter: retryAfter(res)}
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: HTTP status %d with stat OK", ErrMalformed, res.StatusCode)
	}
	if out != nil {
		if err := json.Unmarshal(env.Response, out); err != nil {
			return nil, fmt.Errorf("%w: response: %w", ErrMalformed, err)
		}
	}
	return env.Metadata, nil
}

// maxRetryAfter is the longest wait that an Error carries, in seconds: a day.
const maxRetryAfter = 24 * 60 * 60

// retryAfter is the wait that an answer asks for, in whole seconds, 0 where it
// names none or none that makes sense (RFC 9110, section 10.2.3). A date counts
// from the answer's own, so that this host's clock has no part in it.
// X-Retry-After is Duo's name for the same.
func retryAfter(res *http.Response) int {
	for _, name := range []string{"Retry-After", "X-Retry-After"} {
		text := strings.TrimSpace(res.Header.Get(name))
		if text == "" {
			continue
		}
		if strings.Trim(text, "0123456789") == "" {
			n, err := strconv.Atoi(text)
			if err != nil {
				return maxRetryAfter // more than fits an int
			}
			return min(n, maxRetryAfter)
		}
		until, err := http.ParseTime(text)
		if err != nil {
			continue
		}
		from, err := http.ParseTime(res.Header.Get("Date"))
		if err != nil {
			continue
		}
		return int(min(max(until.Sub(from), 0).Seconds(), maxRetryAfter))
	}
	return 0
}
