// SPDX-License-Identifier: Apache-2.0

// Package verification owns user verification of authenticators: a WebAuthn
// credential (W3C Web Authentication, level 3) of the device's platform, which
// shows that the person was there and proved it by fingerprint, face or PIN. It
// registers and removes credentials, and checks assertions. It never decides
// about a login, and it learns nothing about the device: attestation is not asked for.
package verification

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/protocol/webauthncose"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// ErrWrong means that an assertion or a credential does not fit. Its text is for
// the log and safe for a stranger.
var ErrWrong = errors.New("user verification does not fit")

// Party is the relying party of WebAuthn. The zero value is none: nothing fits.
type Party struct {
	ID     string // host name
	Origin string // scheme and authority as browsers write them
}

// PartyOf is the relying party of a verifier with that address. WebAuthn knows
// none by network address.
func PartyOf(base string) Party {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" {
		return Party{}
	}
	host := strings.ToLower(u.Hostname())
	if _, err := netip.ParseAddr(host); err == nil {
		return Party{}
	}
	origin := "https://" + host
	if port := u.Port(); port != "" && port != "443" {
		origin += ":" + port
	}
	return Party{ID: host, Origin: origin}
}

// Available says whether there is a relying party.
func (p Party) Available() bool { return p.ID != "" }

// algorithms of credentials, the preferred one first.
var algorithms = []protocol.CredentialParameter{
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgES256},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgEdDSA},
	{Type: protocol.PublicKeyCredentialType, Algorithm: webauthncose.AlgRS256},
}

// maxCredentialID bounds the id of a credential, in bytes (WebAuthn, section 6.5.2).
const maxCredentialID = 1023

// Missing says whether a member of a request that holds an assertion is absent or null.
func Missing(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// Assertion is an assertion that was checked but not counted.
type Assertion struct {
	PhoneID      string
	CredentialID string
	SignCount    int64
}

// Check checks an AuthenticationResponseJSON over challenge by the credential of
// v: made at this origin, by a person who was verified. Errors wrap ErrWrong. The
// count is for the store, in the update that the assertion is for: Assertion.Count.
func (p Party) Check(v store.UserVerification, raw json.RawMessage, challenge []byte) (Assertion, error) {
	parsed, err := p.parse(raw)
	if err != nil {
		return Assertion{}, err
	}
	return p.check(v, parsed, encode(challenge))
}

func (p Party) parse(raw json.RawMessage) (*protocol.ParsedCredentialAssertionData, error) {
	if !p.Available() {
		return nil, fmt.Errorf("%w: this verifier has no host name", ErrWrong)
	}
	parsed, err := protocol.ParseCredentialRequestResponseBytes(raw)
	if err != nil {
		return nil, wrong(err)
	}
	return parsed, nil
}

func (p Party) check(v store.UserVerification, parsed *protocol.ParsedCredentialAssertionData, challenge string) (Assertion, error) {
	switch {
	case v.CredentialID == "" || encode(parsed.RawID) != v.CredentialID:
		return Assertion{}, fmt.Errorf("%w: of another credential", ErrWrong)
	case parsed.Response.CollectedClientData.Origin != p.Origin:
		return Assertion{}, fmt.Errorf("%w: made at another origin", ErrWrong)
	}
	err := parsed.Verify(challenge, p.ID, "", []string{p.Origin}, nil, nil, protocol.TopOriginExplicitVerificationMode,
		false, true, true, v.PublicKey, protocol.SignaturePolicy{})
	if err != nil {
		return Assertion{}, wrong(err)
	}
	return Assertion{PhoneID: v.PhoneID, CredentialID: v.CredentialID, SignCount: int64(parsed.Response.AuthenticatorData.Counter)}, nil
}

// Count notes the use of the credential. False: it was removed meanwhile, or its
// count has gone back, as that of a copy does.
func (a Assertion) Count(w store.Writer) (bool, error) {
	return w.CountVerification(a.PhoneID, a.CredentialID, a.SignCount)
}

// register checks a RegistrationResponseJSON.
func (p Party) register(raw json.RawMessage) (made store.UserVerification, challenge string, err error) {
	parsed, err := protocol.ParseCredentialCreationResponseBytes(raw)
	if err != nil {
		return made, "", wrong(err)
	}
	challenge = parsed.Response.CollectedClientData.Challenge
	object := parsed.Response.AttestationObject
	switch format := protocol.AttestationFormat(object.Format); {
	case format != protocol.AttestationFormatNone && format != protocol.AttestationFormatPacked:
		return made, "", fmt.Errorf("%w: an attestation that was not asked for", ErrWrong)
	case parsed.Response.CollectedClientData.Origin != p.Origin:
		return made, "", fmt.Errorf("%w: made at another origin", ErrWrong)
	case len(parsed.RawID) == 0 || len(parsed.RawID) > maxCredentialID:
		return made, "", fmt.Errorf("%w: the credential's id has %d bytes", ErrWrong, len(parsed.RawID))
	}
	_, err = parsed.Verify(challenge, p.ID, []string{p.Origin}, nil, nil, protocol.TopOriginExplicitVerificationMode,
		false, true, true, nil, algorithms, protocol.AttestationPolicy{}, protocol.SignaturePolicy{})
	if err != nil {
		return made, "", wrong(err)
	}
	return store.UserVerification{
		CredentialID: encode(parsed.RawID), PublicKey: object.AuthData.AttData.CredentialPublicKey,
		SignCount: int64(object.AuthData.Counter),
	}, challenge, nil
}

// wrong takes the part of the library's error that names no value of the request.
func wrong(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return fmt.Errorf("%w: %s", ErrWrong, e.Details)
	}
	return fmt.Errorf("%w: malformed", ErrWrong)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func protocolID(credentialID string) (protocol.URLEncodedBase64, error) {
	id, err := base64.RawURLEncoding.DecodeString(credentialID)
	if err != nil {
		return nil, fmt.Errorf("read the id of a credential: %w", err)
	}
	return id, nil
}

func hash(challenge string) []byte {
	sum := sha256.Sum256([]byte(challenge))
	return sum[:]
}
