// SPDX-License-Identifier: Apache-2.0

// Package signature makes and checks the request signatures of Duo's APIs:
// HTTP Basic authentication whose password is an HMAC over a canonical form
// of the request. It knows nothing of keys' owners, of replay or of policy.
//
// The canonical forms are those that Duo's public clients send; see
// docs/reference/auth-api.md.
package signature

import (
	"crypto/hmac"
	"crypto/sha1" //nolint:gosec // HMAC-SHA1 is what older clients sign with; accepted by opt-in only
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net"
	"net/http"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Version names a canonical form.
type Version int

// The canonical forms in use. Version 3 was never deployed.
const (
	V1 Version = 1 // method, host, path, parameters: no date, so replayable
	V2 Version = 2 // date and the lines of V1
	V4 Version = 4 // V2 and a hash of the body
	V5 Version = 5 // V4 and a hash of the X-Duo-* headers
)

// Digest is the hash under the HMAC.
type Digest int

// The digests in use.
const (
	SHA512 Digest = iota
	SHA1
)

func (d Digest) String() string {
	if d == SHA1 {
		return "sha1"
	}
	return "sha512"
}

func (d Digest) new() hash.Hash {
	if d == SHA1 {
		return sha1.New() //nolint:gosec // see the import
	}
	return sha512.New()
}

// Scheme is one way to sign: a canonical form and a digest.
type Scheme struct {
	Version Version
	Digest  Digest
}

func (s Scheme) String() string { return fmt.Sprintf("v%d-%s", s.Version, s.Digest) }

// Errors of Parse and Verify. Each has its own code on the wire.
var (
	ErrMissingCredentials = errors.New("no request credentials")           // 40101
	ErrBadSignature       = errors.New("signature does not match")         // 40103
	ErrMissingDate        = errors.New("no Date or X-Duo-Date header")     // 40104
	ErrBadDate            = errors.New("date is malformed or too far off") // 40105
	ErrMalformed          = errors.New("malformed request")                // 40002
)

// MaxSkew is how far the date of a request may be from the clock.
const MaxSkew = 300 * time.Second

// Request is what a signature covers.
type Request struct {
	Method string
	Host   string // with or without port
	Path   string // as on the wire, percent-encoded
	Date   string // the literal header value; empty for V1
	// Params are the parameters of the query (GET, DELETE and HEAD) or of a form body.
	Params url.Values
	// Body holds the bytes sent; empty for GET and DELETE.
	Body []byte
	// JSON says that the body is not a form, so that Params is empty.
	JSON bool
	// Headers are the X-Duo-* headers by lower-case name.
	Headers map[string]string
}

// Credentials are what the Authorization header carries.
type Credentials struct {
	IntegrationKey string
	mac            []byte
}

// MAC is the signature as it was sent, for a caller that looks whether it came before.
func (c Credentials) MAC() []byte { return c.mac }

// Parse takes apart an HTTP request whose body was read into body.
// Errors wrap ErrMissingCredentials or ErrMalformed.
// Handlers read parameters and body only from the Request it returns: those are the ones signed.
func Parse(r *http.Request, body []byte) (Request, Credentials, error) {
	var cred Credentials
	user, password, ok := r.BasicAuth()
	if !ok || user == "" {
		return Request{}, cred, ErrMissingCredentials
	}
	mac, err := hex.DecodeString(password)
	if err != nil {
		return Request{}, cred, fmt.Errorf("%w: signature is not hexadecimal", ErrMissingCredentials)
	}
	cred = Credentials{IntegrationKey: user, mac: mac}

	req := Request{Method: r.Method, Host: r.Host, Path: r.URL.EscapedPath(), Headers: map[string]string{}}
	if hasBody(r.Method) { // what is sent along with a GET or DELETE is under no signature
		req.Body = body
	}
	for name, values := range r.Header {
		lower := strings.ToLower(name)
		if !strings.HasPrefix(lower, "x-duo-") {
			continue
		}
		if len(values) != 1 {
			return Request{}, cred, fmt.Errorf("%w: header %s is repeated", ErrMalformed, lower)
		}
		req.Headers[lower] = values[0]
	}
	if d, ok := req.Headers["x-duo-date"]; ok {
		req.Date = d
	} else {
		req.Date = r.Header.Get("Date")
	}
	return req, cred, req.readParams(r)
}

func (r *Request) readParams(h *http.Request) error {
	raw := h.URL.RawQuery
	if hasBody(r.Method) {
		// What stands in the URL of a POST is under no signature.
		if raw != "" {
			return fmt.Errorf("%w: parameters of a %s belong in its body", ErrMalformed, r.Method)
		}
		if !isForm(h.Header.Get("Content-Type")) {
			r.JSON = len(r.Body) > 0
			r.Params = url.Values{}
			return nil
		}
		raw = string(r.Body)
	}
	params, err := url.ParseQuery(raw)
	if err != nil {
		return fmt.Errorf("%w: parameters: %w", ErrMalformed, err)
	}
	r.Params = params
	return nil
}

func hasBody(method string) bool {
	return method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch
}

func isForm(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	return media == "" || strings.EqualFold(media, "application/x-www-form-urlencoded")
}

// Candidates are the schemes that a request of this shape can be signed with, of those allowed.
func (r Request) Candidates(allowSHA1, allowV1 bool) []Scheme {
	versions := []Version{V2, V5, V4} // the likely ones first
	if r.JSON {
		versions = []Version{V5, V4}
	}
	var out []Scheme
	if r.Date != "" {
		for _, v := range versions {
			out = append(out, Scheme{v, SHA512})
			if allowSHA1 && v == V2 {
				out = append(out, Scheme{v, SHA1})
			}
		}
	}
	if allowV1 && !r.JSON {
		out = append(out, Scheme{V1, SHA512})
		if allowSHA1 {
			out = append(out, Scheme{V1, SHA1})
		}
	}
	return out
}

// Verify checks the credentials against the secret by each scheme in turn, in
// constant time for a given request shape, and then the date against now. It
// returns the scheme that fits, ErrMissingDate, ErrBadSignature or ErrBadDate.
func Verify(r Request, c Credentials, secret []byte, schemes []Scheme, now time.Time) (Scheme, error) {
	if len(schemes) == 0 {
		return Scheme{}, ErrMissingDate
	}
	var found Scheme
	for _, s := range schemes {
		if hmac.Equal(mac(s, r, secret), c.mac) {
			found = s
			break
		}
	}
	if found.Version == 0 {
		return found, ErrBadSignature
	}
	if found.Version == V1 {
		return found, nil
	}
	at, err := mail.ParseDate(r.Date)
	if err != nil {
		return found, fmt.Errorf("%w: %w", ErrBadDate, err)
	}
	if skew := now.Sub(at).Abs(); skew > MaxSkew {
		return found, fmt.Errorf("%w: %s from this clock, at most %s", ErrBadDate, skew.Round(time.Second), MaxSkew)
	}
	return found, nil
}

// Authorization is the header value that signs r.
func Authorization(s Scheme, r Request, integrationKey string, secret []byte) string {
	pair := integrationKey + ":" + hex.EncodeToString(mac(s, r, secret))
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair))
}

func mac(s Scheme, r Request, secret []byte) []byte {
	h := hmac.New(s.Digest.new, secret)
	h.Write([]byte(Canonical(s.Version, r)))
	return h.Sum(nil)
}

// Canonical is the text under the HMAC.
func Canonical(v Version, r Request) string {
	params := EncodeParams(r.Params)
	if v >= V4 && hasBody(r.Method) {
		params = ""
	}
	lines := []string{strings.ToUpper(r.Method), hostOnly(r.Host), r.Path, params}
	if v >= V2 {
		lines = slices.Insert(lines, 0, r.Date)
	}
	if v >= V4 {
		var body []byte
		if hasBody(r.Method) {
			body = r.Body
		}
		lines = append(lines, sha512Hex(body))
	}
	if v >= V5 {
		lines = append(lines, sha512Hex(headerText(r.Headers)))
	}
	return strings.Join(lines, "\n")
}

func hostOnly(hostport string) string {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
		if strings.Contains(h, ":") {
			host = "[" + h + "]"
		}
	}
	return strings.ToLower(host)
}

func sha512Hex(b []byte) string {
	sum := sha512.Sum512(b)
	return hex.EncodeToString(sum[:])
}

func headerText(headers map[string]string) []byte {
	names := make([]string, 0, len(headers))
	for name := range headers {
		names = append(names, name)
	}
	slices.Sort(names)
	parts := make([]string, 0, 2*len(names))
	for _, name := range names {
		parts = append(parts, name, headers[name])
	}
	return []byte(strings.Join(parts, "\x00"))
}

// EncodeParams is the canonical form of parameters: RFC 3986 percent-encoding,
// keys in byte order, the values of a repeated key in byte order.
func EncodeParams(params url.Values) string {
	pairs := make([]string, 0, len(params))
	keys := make([]string, 0, len(params))
	for k := range params {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		values := slices.Clone(params[k])
		slices.Sort(values)
		for _, v := range values {
			pairs = append(pairs, Escape(k)+"="+Escape(v))
		}
	}
	return strings.Join(pairs, "&")
}

// Escape is RFC 3986 percent-encoding: everything but A-Z a-z 0-9 - . _ ~.
func Escape(s string) string {
	// QueryEscape differs from RFC 3986 in the space alone, and escapes a literal plus sign.
	return strings.ReplaceAll(url.QueryEscape(s), "+", "%20")
}
