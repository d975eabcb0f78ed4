// SPDX-License-Identifier: Apache-2.0

package pushservice

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"
	"time"
)

func unbase64(t testing.TB, text string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.Join(strings.Fields(text), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRFC8188 opens the examples of RFC 8188, sections 3.1 and 3.2.
func TestRFC8188(t *testing.T) {
	for name, c := range map[string]struct{ key, body string }{
		"one record": {"yqdlZ-tYemfogSmv7Ws5PQ",
			"I1BsxtFttlv3u_Oo94xnmwAAEAAA-NAVub2qFgBEuQKRapoZu-IxkIva3MEB1PD-ly8Thjg"},
		"two records": {"BO3ZVPxUlnLORbVGMpbT1Q",
			"uNCkWiNYzKTnBN9ji3-qWAAAABkCYTHOG8chz_gnvgOqdGYovxyjuqRyJFjEDyoF1Fvkj6hQPdPHI51OEUKEpgz3SsLWIqS_uA"},
	} {
		body := unbase64(t, c.body)
		head := headSize + int(body[headSize-1])
		plain, err := decryptRecords(body[head:], int(binary.BigEndian.Uint32(body[16:])), body[:16], unbase64(t, c.key))
		if err != nil || string(plain) != "I am the walrus" {
			t.Errorf("%s: %q, %v", name, plain, err)
		}
	}
}

// rfc8291 is the message of RFC 8291, section 5.
const rfc8291 = `DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml
	mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT
	pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN`

func rfc8291Receiver(t testing.TB) (*ecdh.PrivateKey, []byte) {
	key, err := ecdh.P256().NewPrivateKey(unbase64(t, "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
	if err != nil {
		t.Fatal(err)
	}
	return key, unbase64(t, "BTBZMqHH6r4Tts7J_aSIgg")
}

// TestRFC8291 opens the message of RFC 8291, appendix A, and none that differs in a byte.
func TestRFC8291(t *testing.T) {
	key, auth := rfc8291Receiver(t)
	body := unbase64(t, rfc8291)
	plain, err := Decrypt(body, key, auth)
	if err != nil || string(plain) != "When I grow up, I want to be a watermelon" {
		t.Fatalf("%q, %v", plain, err)
	}
	for i := range body {
		if i >= 16 && i < 19 { // a larger record size changes nothing for one record
			continue
		}
		body[i] ^= 1
		if plain, err := Decrypt(body, key, auth); err == nil && i != 19 {
			t.Errorf("byte %d changed: %q", i, plain)
		}
		body[i] ^= 1
	}
}

// The example of RFC 8292, section 2.4.
const (
	rfc8292Token = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJleHAiOjE0NTM1MjM3NjgsInN1YiI6Im1" +
		"haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HLGkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA"
	rfc8292Key = "BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"
)

// TestRFC8292 takes the example of RFC 8292, section 2.4, and refuses what is wrong with others.
func TestRFC8292(t *testing.T) {
	const origin = "https://push.example.net"
	expires := time.Unix(1453523768, 0)
	good := "vapid t=" + rfc8292Token + ", k=" + rfc8292Key
	key := unbase64(t, rfc8292Key)
	c, err := checkVAPID(good, origin, key, expires.Add(-time.Hour))
	if err != nil || c.Subject != "mailto:push@example.com" {
		t.Fatalf("%+v, %v", c, err)
	}
	other, _ := rfc8291Receiver(t)
	for name, c := range map[string]struct {
		header, origin string
		key            []byte
		at             time.Time
		want           string
	}{
		"no header":        {"", origin, key, expires.Add(-time.Hour), "scheme"},
		"of a draft":       {"WebPush " + rfc8292Token, origin, key, expires.Add(-time.Hour), "scheme"},
		"another key":      {good, origin, other.PublicKey().Bytes(), expires.Add(-time.Hour), "k: not the key"},
		"no key":           {"vapid t=" + rfc8292Token, origin, key, expires.Add(-time.Hour), "k:"},
		"another origin":   {good, "https://push.example.net:444", key, expires.Add(-time.Hour), "aud"},
		"expired":          {good, origin, key, expires, "expired"},
		"a day and more":   {good, origin, key, expires.Add(-25 * time.Hour), "24 hours"},
		"signature":        {strings.Replace(good, "i3CYb7t4", "i3CYb7t5", 1), origin, key, expires.Add(-time.Hour), "signature"},
		"claims":           {strings.Replace(good, "eyJhdWQi", "eyJhdWQj", 1), origin, key, expires.Add(-time.Hour), "claims"},
		"algorithm":        {strings.Replace(good, "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9", "eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0", 1), origin, key, expires.Add(-time.Hour), "header"},
		"without its sign": {strings.Replace(good, ".i3CYb7t4", "", 1), origin, key, expires.Add(-time.Hour), "t:"},
	} {
		if _, err := checkVAPID(c.header, c.origin, c.key, c.at); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
