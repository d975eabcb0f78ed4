// SPDX-License-Identifier: Apache-2.0

package webpush

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"os/exec"
	"slices"
	"testing"
)

// TestWebCrypto: what is sent opens by WebCrypto, which knows nothing of this
// code, as does the message of RFC 8291.
func TestWebCrypto(t *testing.T) {
	text := base64.RawURLEncoding.EncodeToString
	to := private(t, "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94")
	auth := unbase64(t, "BTBZMqHH6r4Tts7J_aSIgg")
	point := to.PublicKey().Bytes()
	bodies := []string{`DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A` +
		`_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN`}
	want := []string{"When I grow up, I want to be a watermelon"}
	for _, k := range []kind{login, test} {
		sender, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		salt := make([]byte, saltSize)
		_, _ = rand.Read(salt)
		body, err := encrypt(k.payload(), padTo, to.PublicKey(), auth, sender, salt)
		if err != nil {
			t.Fatal(err)
		}
		bodies, want = append(bodies, text(body)), append(want, string(k.payload()))
	}
	in, err := json.Marshal(map[string]any{
		"auth": text(auth), "bodies": bodies,
		"key": map[string]string{"kty": "EC", "crv": "P-256", "x": text(point[1:33]), "y": text(point[33:]), "d": text(to.Bytes())},
	})
	if err != nil {
		t.Fatal(err)
	}
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "node", "testdata/useragent.mjs")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &complaints
	if err := cmd.Run(); err != nil {
		t.Fatalf("node: %v\n%s", err, complaints.String())
	}
	var got []string
	if err := json.Unmarshal(out.Bytes(), &got); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}
