// SPDX-License-Identifier: Apache-2.0

// Package verificationtest is a WebAuthn authenticator in software, and the
// browser in front of it, for tests. It proves nothing about anybody.
package verificationtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"

	"github.com/go-webauthn/webauthn/protocol/webauthncbor"
)

// Flags of authenticator data (WebAuthn, section 6.1).
const (
	Present  = 0x01
	Verified = 0x04
	attested = 0x40
)

// Authenticator has one credential. Its fields may be changed between uses, to make
// what does not fit.
type Authenticator struct {
	t      testing.TB
	Key    *ecdsa.PrivateKey
	ID     []byte // of the credential
	RPID   string
	Origin string
	Flags  byte
	Count  uint32 // before the next use
	Step   uint32 // by which Count moves; 0: the credential does not count
	Cross  bool   // the page is in a frame of another origin
}

// New makes an authenticator with a credential that is not registered.
func New(t testing.TB, rpID, origin string) *Authenticator {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Authenticator{t: t, Key: key, ID: []byte("credential " + rand.Text()), RPID: rpID, Origin: origin, Flags: Present | Verified, Step: 1}
}

func (a *Authenticator) json(v any) []byte {
	a.t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		a.t.Fatal(err)
	}
	return text
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// Challenge is the challenge of options from a verifier.
func (a *Authenticator) Challenge(options json.RawMessage) []byte {
	a.t.Helper()
	var o struct{ Challenge string }
	if err := json.Unmarshal(options, &o); err != nil {
		a.t.Fatal(err)
	}
	challenge, err := base64.RawURLEncoding.DecodeString(o.Challenge)
	if err != nil || len(challenge) == 0 {
		a.t.Fatalf("challenge %q: %v", o.Challenge, err)
	}
	return challenge
}

func (a *Authenticator) clientData(ceremony string, challenge []byte) []byte {
	return a.json(map[string]any{"type": ceremony, "challenge": encode(challenge), "origin": a.Origin, "crossOrigin": a.Cross})
}

func (a *Authenticator) data(flags byte, rest []byte) []byte {
	a.Count += a.Step
	rp := sha256.Sum256([]byte(a.RPID))
	out := append(rp[:], flags)
	out = binary.BigEndian.AppendUint32(out, a.Count)
	return append(out, rest...)
}

// Register answers options of a registration: RegistrationResponseJSON.
func (a *Authenticator) Register(options json.RawMessage) json.RawMessage {
	a.t.Helper()
	point, err := a.Key.PublicKey.Bytes()
	if err != nil {
		a.t.Fatal(err)
	}
	// COSE_Key (RFC 9052, section 7): EC2, ES256, P-256.
	cose, err := webauthncbor.Marshal(map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]})
	if err != nil {
		a.t.Fatal(err)
	}
	var noAAGUID [16]byte
	credential := slices.Clone(noAAGUID[:])
	credential = binary.BigEndian.AppendUint16(credential, uint16(len(a.ID)))
	credential = append(append(credential, a.ID...), cose...)
	object, err := webauthncbor.Marshal(map[string]any{
		"fmt": "none", "attStmt": map[string]any{}, "authData": a.data(a.Flags|attested, credential),
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return a.json(map[string]any{
		"id": encode(a.ID), "rawId": encode(a.ID), "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{}, "response": map[string]any{
			"clientDataJSON":    encode(a.clientData("webauthn.create", a.Challenge(options))),
			"attestationObject": encode(object), "transports": []string{"internal"},
		},
	})
}

// Assert makes an assertion over challenge: AuthenticationResponseJSON.
func (a *Authenticator) Assert(challenge []byte) json.RawMessage {
	a.t.Helper()
	data, client := a.data(a.Flags, nil), a.clientData("webauthn.get", challenge)
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(append([]byte{}, data...), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.Key, digest[:])
	if err != nil {
		a.t.Fatal(err)
	}
	return a.json(map[string]any{
		"id": encode(a.ID), "rawId": encode(a.ID), "type": "public-key", "authenticatorAttachment": "platform",
		"clientExtensionResults": map[string]any{}, "response": map[string]any{
			"clientDataJSON": encode(client), "authenticatorData": encode(data), "signature": encode(signature),
		},
	})
}

// Answer makes an assertion over the challenge of options.
func (a *Authenticator) Answer(options json.RawMessage) json.RawMessage {
	a.t.Helper()
	return a.Assert(a.Challenge(options))
}
