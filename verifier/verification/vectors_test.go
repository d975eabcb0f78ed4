// SPDX-License-Identifier: Apache-2.0

package verification

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// vector is the part of the test vectors that is about user verification: an
// assertion that goes with the answer of the vectors.
type vector struct {
	Answer struct {
		JWS string `json:"jws"`
	} `json:"answer"`
	Verification struct {
		URL          string          `json:"url"`
		RPID         string          `json:"rp_id"`
		Origin       string          `json:"origin"`
		CredentialID string          `json:"credential_id"`
		PublicKey    string          `json:"public_key"` // base64url of the COSE key
		SignCount    int64           `json:"sign_count"` // of the assertion
		Assertion    json.RawMessage `json:"assertion"`
	} `json:"verification"`
}

const vectorsFile = "../../internal/agentapi/testdata/authenticator-v1.json"

func TestVectorOfVerification(t *testing.T) {
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	var v vector
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	party := PartyOf(v.Verification.URL)
	if party != (Party{v.Verification.RPID, v.Verification.Origin}) {
		t.Errorf("%+v", party)
	}
	key, err := base64.RawURLEncoding.DecodeString(v.Verification.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	credential := store.UserVerification{PhoneID: "DP1", CredentialID: v.Verification.CredentialID, PublicKey: key}
	got, err := party.Check(credential, v.Verification.Assertion, agentapi.AnswerChallenge(v.Answer.JWS))
	if err != nil || got != (Assertion{"DP1", v.Verification.CredentialID, v.Verification.SignCount}) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := party.Check(credential, v.Verification.Assertion, agentapi.AnswerChallenge(v.Answer.JWS+"x")); !errors.Is(err, ErrWrong) {
		t.Errorf("with another answer: %v", err)
	}
}
