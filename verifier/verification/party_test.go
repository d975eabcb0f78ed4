// SPDX-License-Identifier: Apache-2.0

package verification

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func TestPartyOf(t *testing.T) {
	for base, want := range map[string]Party{
		"https://verifier.example:8443": {"verifier.example", "https://verifier.example:8443"},
		"https://Verifier.Example":      {"verifier.example", "https://verifier.example"},
		"https://verifier.example:443":  {"verifier.example", "https://verifier.example"},
		"https://localhost:8443":        {"localhost", "https://localhost:8443"},
		"https://192.0.2.1:8443":        {},
		"https://[2001:db8::1]:8443":    {},
		"http://verifier.example":       {},
		"verifier.example":              {},
		"https://%zz":                   {},
		"":                              {},
	} {
		if got := PartyOf(base); got != want {
			t.Errorf("%q: %+v, want %+v", base, got, want)
		}
	}
}

// Nothing fits where there is no relying party, and no credential.
func TestNoParty(t *testing.T) {
	for _, raw := range []string{"", "{}", "null", "[]", `{"id":"AA"}`} {
		if _, err := (Party{}).Check(store.UserVerification{}, json.RawMessage(raw), nil); !errors.Is(err, ErrWrong) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// A verifier without a host name registers nothing.
func TestServiceWithoutParty(t *testing.T) {
	var s Service
	var refused *duoapi.Error
	if _, err := s.Begin(t.Context(), store.Phone{ID: "DP1"}); !errors.As(err, &refused) || refused.Code != duoapi.CodeVerificationOff {
		t.Errorf("begin: %v", err)
	}
	if err := s.Finish(t.Context(), store.Phone{ID: "DP1"}, nil, ""); !errors.As(err, &refused) || refused.Code != duoapi.CodeVerificationOff {
		t.Errorf("finish: %v", err)
	}
}

// FuzzParse: whatever is sent, it is read or refused.
func FuzzParse(f *testing.F) {
	f.Add(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","authenticatorData":"AA","signature":"AA"}}`)
	f.Add(`{"id":"AA","rawId":"AA","type":"public-key","response":{"clientDataJSON":"e30","attestationObject":"oA"}}`)
	f.Add(strings.Repeat("[", 100))
	p := PartyOf("https://verifier.example")
	f.Fuzz(func(t *testing.T, raw string) {
		if _, err := p.Check(store.UserVerification{CredentialID: "AA"}, json.RawMessage(raw), []byte("x")); !errors.Is(err, ErrWrong) {
			t.Fatalf("%v", err)
		}
		if _, _, err := p.register(json.RawMessage(raw)); !errors.Is(err, ErrWrong) {
			t.Fatalf("%v", err)
		}
	})
}
