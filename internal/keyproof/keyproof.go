// SPDX-License-Identifier: Apache-2.0

// Package keyproof makes and checks proofs that a request comes from the holder
// of a P-256 key: a compact JWS (RFC 7515, ES256) over the request, in the shape
// of RFC 9449 (DPoP). Hosts and authenticators use it under /sallyport/v1/. It
// never decides whose key it is or what the key may do.
package keyproof

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Scheme is the authentication scheme in the Authorization header.
const Scheme = "Sallyport"

// MaxSkew is how far the time of a proof may be from the clock.
const MaxSkew = 300 * time.Second

// maxSize bounds a compact JWS that is parsed at all, in bytes.
const maxSize = 4096

// Errors of ParseHeader, Verify and Open.
var (
	ErrMissing   = errors.New("no key proof in the request")
	ErrMalformed = errors.New("malformed key proof")
	ErrSignature = errors.New("signature of the key proof does not match")
	ErrMismatch  = errors.New("key proof is for another request")
	ErrTime      = errors.New("key proof is too old or from the future")
)

// Proof is the payload of a request proof.
type Proof struct {
	Version  int    `json:"v"`   // 1
	KeyID    string `json:"kid"` // host id or authenticator id; thumbprint of the key before it has one
	Audience string `json:"aud"` // scheme and authority of the verifier: https://verifier.example:8443
	Method   string `json:"htm"`
	URI      string `json:"htu"` // path and query as on the wire
	IssuedAt int64  `json:"iat"` // Unix seconds
	ID       string `json:"jti"` // random
	BodyHash string `json:"bsh"` // base64url of SHA-256 of the body
}

// GenerateKey makes a P-256 key.
func GenerateKey() (*ecdsa.PrivateKey, error) {
	return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
}

// EncodePrivateKey is key as PKCS #8 in PEM, the form in which it is kept in files.
func EncodePrivateKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// DecodePrivateKey reads what EncodePrivateKey made; it accepts P-256 keys only.
func DecodePrivateKey(text []byte) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("private key is not in PEM form")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("private key is not a P-256 key")
	}
	return key, nil
}

// Sign makes a compact JWS (ES256) over payload. It is also the form of approvals.
func Sign(key *ecdsa.PrivateKey, payload []byte) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		return "", fmt.Errorf("make signer: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	return signed.CompactSerialize()
}

// Open checks a compact JWS (ES256 only) against key and returns its payload.
// Errors wrap ErrMalformed or ErrSignature.
func Open(key *ecdsa.PublicKey, compact string) ([]byte, error) {
	jws, err := parse(compact)
	if err != nil {
		return nil, err
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return payload, nil
}

func parse(compact string) (*jose.JSONWebSignature, error) {
	if len(compact) > maxSize {
		return nil, fmt.Errorf("%w: over %d bytes", ErrMalformed, maxSize)
	}
	jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return jws, nil
}

// HashBody is the bsh member for a body.
func HashBody(body []byte) string {
	sum := sha256.Sum256(body)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// SetHeader proves r, whose body is body, with key and sets its Authorization header.
func SetHeader(r *http.Request, body []byte, key *ecdsa.PrivateKey, keyID, audience string, now time.Time) error {
	payload, err := json.Marshal(Proof{
		Version: 1, KeyID: keyID, Audience: audience, Method: r.Method, URI: r.URL.RequestURI(),
		IssuedAt: now.Unix(), ID: rand.Text(), BodyHash: HashBody(body),
	})
	if err != nil {
		return fmt.Errorf("encode key proof: %w", err)
	}
	compact, err := Sign(key, payload)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", Scheme+" "+compact)
	return nil
}

// Unverified is a proof whose signature was not checked: good for finding the key, for nothing else.
type Unverified struct {
	compact string
	KeyID   string
}

// ParseHeader reads the proof of r without checking it. Errors wrap ErrMissing or ErrMalformed.
func ParseHeader(r *http.Request) (Unverified, error) {
	scheme, compact, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	if !ok || !strings.EqualFold(scheme, Scheme) {
		return Unverified{}, ErrMissing
	}
	jws, err := parse(compact)
	if err != nil {
		return Unverified{}, err
	}
	var p Proof
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &p); err != nil {
		return Unverified{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return Unverified{compact: compact, KeyID: p.KeyID}, nil
}

// Verify checks the proof against key, the request r with its body, the
// verifier's own audience and the clock. Errors wrap one of this package's.
func (u Unverified) Verify(key *ecdsa.PublicKey, r *http.Request, body []byte, audience string, now time.Time) (Proof, error) {
	payload, err := Open(key, u.compact)
	if err != nil {
		return Proof{}, err
	}
	var p Proof
	if err := json.Unmarshal(payload, &p); err != nil {
		return Proof{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case p.Version != 1:
		return Proof{}, fmt.Errorf("%w: version %d", ErrMalformed, p.Version)
	case p.Audience != audience:
		return Proof{}, fmt.Errorf("%w: audience", ErrMismatch)
	case p.Method != r.Method:
		return Proof{}, fmt.Errorf("%w: method", ErrMismatch)
	case p.URI != r.URL.RequestURI():
		return Proof{}, fmt.Errorf("%w: path or query", ErrMismatch)
	case subtle.ConstantTimeCompare([]byte(p.BodyHash), []byte(HashBody(body))) != 1:
		return Proof{}, fmt.Errorf("%w: body", ErrMismatch)
	case now.Sub(time.Unix(p.IssuedAt, 0)).Abs() > MaxSkew:
		return Proof{}, ErrTime
	}
	return p, nil
}

// EncodeKey is the base64 of the key's SubjectPublicKeyInfo in DER (RFC 5280).
func EncodeKey(key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	return base64.StdEncoding.EncodeToString(der), nil
}

// DecodeKey reads what EncodeKey made; it accepts P-256 keys only.
func DecodeKey(s string) (*ecdsa.PublicKey, error) {
	if len(s) > maxSize {
		return nil, fmt.Errorf("decode public key: over %d bytes", maxSize)
	}
	der, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decode public key: %w", err)
	}
	any, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("decode public key: %w", err)
	}
	key, ok := any.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("decode public key: not a P-256 key")
	}
	return key, nil
}

// ID derives an identifier from a public key: prefix and the first 18
// characters of the base32 of the SHA-256 of its SubjectPublicKeyInfo
// (90 bits).
func ID(prefix string, key *ecdsa.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	sum := sha256.Sum256(der)
	return prefix + base32.StdEncoding.EncodeToString(sum[:])[:18], nil
}
