// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
)

// vectors are the test vectors of the protocol of authenticators, version 1. The
// web app's tests read the same file. Its signatures were made once: ECDSA is
// randomised, so that they are checked, not made again.
type vectors struct {
	Key struct {
		PrivateJWK   map[string]string `json:"private_jwk"`
		PublicKey    string            `json:"public_key"`    // base64 of the SubjectPublicKeyInfo
		ActivationID string            `json:"activation_id"` // kid of the activation's proof
	} `json:"key"`
	Proof struct {
		KeyID         string         `json:"kid"`
		Audience      string         `json:"aud"`
		Method        string         `json:"method"`
		URI           string         `json:"uri"`
		Body          string         `json:"body"`
		BodyHash      string         `json:"bsh"`
		Now           int64          `json:"now"`
		Payload       keyproof.Proof `json:"payload"`
		Authorization string         `json:"authorization"`
	} `json:"proof"`
	Answer struct {
		TxID      string `json:"txid"`
		Context   string `json:"context"`
		Hash      string `json:"context_hash"`
		Payload   Answer `json:"payload"`
		JWS       string `json:"jws"`
		Challenge string `json:"verification_challenge"`
	} `json:"answer"`
	// Verification is for package verification, whose tests check it.
	Verification json.RawMessage `json:"verification"`
	Offline      struct {
		Root       string   `json:"root"` // hexadecimal
		HostID     string   `json:"host_id"`
		UserID     string   `json:"user_id"`
		PhoneID    string   `json:"authenticator_id"`
		Generation int64    `json:"generation"`
		Edition    int64    `json:"edition"`
		Key        string   `json:"key"` // hexadecimal
		Codes      []string `json:"codes"`
	} `json:"offline"`
}

const vectorsFile = "testdata/authenticator-v1.json"

func readVectors(t *testing.T) vectors {
	t.Helper()
	text, err := os.ReadFile(vectorsFile)
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	var v vectors
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v vectors) key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	d, err := base64.RawURLEncoding.DecodeString(v.Key.PrivateJWK["d"])
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// segments are the three parts of a compact JWS, the first two in clear.
func segments(t *testing.T, compact string) (header, payload string) {
	t.Helper()
	parts := strings.Split(compact, ".")
	if len(parts) != 3 {
		t.Fatalf("%q has %d parts", compact, len(parts))
	}
	var clear [2]string
	for i := range clear {
		b, err := base64.RawURLEncoding.Strict().DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		clear[i] = string(b)
	}
	return clear[0], clear[1]
}

func TestVectorOfTheKey(t *testing.T) {
	v := readVectors(t)
	key := v.key(t)
	point, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]byte{"x": point[1:33], "y": point[33:]} {
		if text := base64.RawURLEncoding.EncodeToString(want); text != v.Key.PrivateJWK[name] {
			t.Errorf("%s is %s", name, text)
		}
	}
	public, err := keyproof.EncodeKey(&key.PublicKey)
	if err != nil || public != v.Key.PublicKey {
		t.Errorf("public key %s, %v", public, err)
	}
	id, err := keyproof.ID(ActivationPrefix, &key.PublicKey)
	if err != nil || id != v.Key.ActivationID {
		t.Errorf("activation id %s, %v", id, err)
	}
}

func TestVectorOfTheProof(t *testing.T) {
	v := readVectors(t)
	p := v.Proof
	r := httptest.NewRequest(p.Method, p.URI, strings.NewReader(p.Body))
	r.Header.Set("Authorization", p.Authorization)
	u, err := keyproof.ParseHeader(r)
	if err != nil || u.KeyID != p.KeyID {
		t.Fatalf("%+v, %v", u, err)
	}
	got, err := u.Verify(&v.key(t).PublicKey, r, []byte(p.Body), p.Audience, time.Unix(p.Now, 0))
	if err != nil || got != p.Payload {
		t.Errorf("%+v, %v", got, err)
	}
	if hash := keyproof.HashBody([]byte(p.Body)); hash != p.BodyHash || hash != p.Payload.BodyHash {
		t.Errorf("bsh %s", hash)
	}
}

func TestVectorOfTheAnswer(t *testing.T) {
	v := readVectors(t)
	a := v.Answer
	if _, err := ParseContext(a.Context, a.TxID); err != nil {
		t.Error(err)
	}
	if hash := keyproof.HashBody([]byte(a.Context)); hash != a.Hash || hash != a.Payload.Context {
		t.Errorf("context hash %s", hash)
	}
	payload, err := keyproof.Open(&v.key(t).PublicKey, a.JWS)
	if err != nil {
		t.Fatal(err)
	}
	var got Answer
	if err := json.Unmarshal(payload, &got); err != nil || got != a.Payload {
		t.Errorf("%+v, %v", got, err)
	}
	if header, _ := segments(t, a.JWS); header != `{"alg":"ES256"}` {
		t.Errorf("header %s", header)
	}
	sum := sha256.Sum256([]byte(a.JWS))
	for _, challenge := range [][]byte{sum[:], AnswerChallenge(a.JWS)} {
		if text := base64.RawURLEncoding.EncodeToString(challenge); text != a.Challenge {
			t.Errorf("challenge %s", text)
		}
	}
}

func TestVectorOfOfflineCodes(t *testing.T) {
	o := readVectors(t).Offline
	root, err := hex.DecodeString(o.Root)
	if err != nil {
		t.Fatal(err)
	}
	key, err := offlinecode.Key(root, offlinecode.ID{HostID: o.HostID, UserID: o.UserID, PhoneID: o.PhoneID, Generation: o.Generation, Edition: o.Edition})
	if err != nil || hex.EncodeToString(key) != o.Key {
		t.Fatalf("%x, %v", key, err)
	}
	if len(o.Codes) == 0 {
		t.Error("no codes")
	}
	for n, want := range o.Codes {
		if code, err := offlinecode.Code(key, int64(n)); err != nil || code != want {
			t.Errorf("code %d: %s, %v", n, code, err)
		}
	}
}
