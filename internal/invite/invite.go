// SPDX-License-Identifier: Apache-2.0

// Package invite holds the one-time tokens by which a host or an authenticator
// first meets a verifier: a secret, and a pin of the verifier's private CA so
// that the first connection needs no trust that was not handed over. It never
// decides whether a token is still good.
package invite

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// Kind says what a token is for.
type Kind string

// The kinds of token.
const (
	Join     Kind = "sj1" // a host joins
	Activate Kind = "sa1" // a phone becomes an authenticator
	Enroll   Kind = "se1" // a person adds factors in a browser
)

const (
	secretLen = 24
	pinLen    = sha256.Size
	maxLen    = 256
)

// ActivationPath is the path of an activation link.
const ActivationPath = "/sallyport/activate"

// ErrMalformed is what parsing errors wrap.
var ErrMalformed = errors.New("malformed token")

// Token is a secret and the pin of a CA.
type Token struct {
	Kind   Kind
	Secret []byte
	Pin    []byte // SHA-256 of the CA's SubjectPublicKeyInfo; empty: the system's roots decide
}

// New makes a token with a fresh secret. Pin may be empty.
func New(kind Kind, pin []byte) Token {
	secret := make([]byte, secretLen)
	rand.Read(secret) // never fails: crypto/rand crashes the program instead
	return Token{Kind: kind, Secret: secret, Pin: pin}
}

// String is the text form, kind.secret.pin. It is a secret.
func (t Token) String() string {
	enc := base64.RawURLEncoding
	return string(t.Kind) + "." + enc.EncodeToString(t.Secret) + "." + enc.EncodeToString(t.Pin)
}

// Hash is what a verifier keeps: SHA-256 of kind and secret. The secret has 192
// random bits, so a fast hash is enough.
func (t Token) Hash() []byte {
	sum := sha256.Sum256(append([]byte(t.Kind+"."), t.Secret...))
	return sum[:]
}

// Parse reads the text form of a token of that kind. Errors wrap ErrMalformed.
func Parse(kind Kind, s string) (Token, error) {
	if len(s) > maxLen {
		return Token{}, fmt.Errorf("%w: over %d bytes", ErrMalformed, maxLen)
	}
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return Token{}, fmt.Errorf("%w: it has three parts, %s.SECRET.PIN", ErrMalformed, kind)
	}
	if Kind(parts[0]) != kind {
		return Token{}, fmt.Errorf("%w: it begins with %s", ErrMalformed, kind)
	}
	secret, err := base64.RawURLEncoding.Strict().DecodeString(parts[1])
	if err != nil || len(secret) != secretLen {
		return Token{}, fmt.Errorf("%w: the secret is not %d bytes of base64url", ErrMalformed, secretLen)
	}
	pin, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err != nil || (len(pin) != 0 && len(pin) != pinLen) {
		return Token{}, fmt.Errorf("%w: the pin is not %d bytes of base64url", ErrMalformed, pinLen)
	}
	t := Token{Kind: kind, Secret: secret, Pin: pin}
	if t.String() != s { // the decoder passes over line breaks
		return Token{}, fmt.Errorf("%w: characters that base64url does not have", ErrMalformed)
	}
	return t, nil
}

// Link is the activation link of an Activate token at the verifier base.
func Link(base *url.URL, t Token) string {
	u := url.URL{Scheme: base.Scheme, Host: base.Host, Path: ActivationPath, Fragment: t.String()}
	return u.String()
}

// ParseLink takes an activation link apart into the verifier's base URL and the
// token. Errors wrap ErrMalformed.
func ParseLink(link string) (*url.URL, Token, error) {
	u, err := url.Parse(link)
	if err != nil {
		return nil, Token{}, fmt.Errorf("%w: not a URL", ErrMalformed)
	}
	if u.Path != ActivationPath || u.User != nil {
		return nil, Token{}, fmt.Errorf("%w: it has the form https://HOST:PORT%s#%s…", ErrMalformed, ActivationPath, Activate)
	}
	base, err := duoapi.ParseBase((&url.URL{Scheme: u.Scheme, Host: u.Host}).String())
	if err != nil {
		return nil, Token{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	t, err := Parse(Activate, u.Fragment)
	if err != nil {
		return nil, Token{}, err
	}
	return base, t, nil
}

// PinOf is the pin of a CA certificate.
func PinOf(ca *x509.Certificate) []byte {
	sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	return sum[:]
}

// TLSConfig is the configuration of a first connection to serverName (a host
// name or an IP address, without a port). With a pin, the server must send a CA
// certificate with the pinned key, and a leaf for serverName that this CA
// vouches for; the system's roots play no part. Without one, the system's roots
// decide.
func (t Token) TLSConfig(serverName string) *tls.Config {
	cfg := &tls.Config{ServerName: serverName, MinVersion: tls.VersionTLS12}
	if len(t.Pin) == 0 {
		return cfg
	}
	// Verification is not off: VerifyConnection does all of it, against the pin.
	cfg.InsecureSkipVerify = true
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		ca, err := t.findCA(state.PeerCertificates)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		_, err = state.PeerCertificates[0].Verify(x509.VerifyOptions{
			DNSName: serverName, Roots: roots,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return fmt.Errorf("verify the verifier's certificate against the pinned CA: %w", err)
		}
		return nil
	}
	return cfg
}

func (t Token) findCA(chain []*x509.Certificate) (*x509.Certificate, error) {
	for _, cert := range chain {
		if cert.IsCA && subtle.ConstantTimeCompare(PinOf(cert), t.Pin) == 1 {
			return cert, nil
		}
	}
	return nil, errors.New("the server does not show the CA that the token pins: the token is from another verifier, or someone is in between")
}

// ParseCA reads CA certificates in PEM form.
func ParseCA(text []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("no certificate in PEM form")
	}
	return pool, nil
}
