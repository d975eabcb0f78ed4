// SPDX-License-Identifier: Apache-2.0

package authenticator

import (
	"encoding/base32"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

// The vectors of RFC 6238, appendix B.
func TestCodesOfRFC6238(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	v := vaultOf(t, s)
	const seed = "1234567890"
	long := strings.Repeat(seed, 7)
	secrets := map[string]string{"SHA1": long[:20], "SHA256": long[:32], "SHA512": long[:64]}
	for algorithm, secret := range secrets {
		token, err := s.AddToken(v, Token{Name: algorithm, Algorithm: algorithm, Digits: 8, Period: 30}, base32.StdEncoding.EncodeToString([]byte(secret)))
		if err != nil {
			t.Fatal(err)
		}
		for at, want := range map[int64]map[string]string{
			59:          {"SHA1": "94287082", "SHA256": "46119246", "SHA512": "90693936"},
			1111111109:  {"SHA1": "07081804", "SHA256": "68084774", "SHA512": "25091201"},
			1111111111:  {"SHA1": "14050471", "SHA256": "67062674", "SHA512": "99943326"},
			1234567890:  {"SHA1": "89005924", "SHA256": "91819424", "SHA512": "93441116"},
			2000000000:  {"SHA1": "69279037", "SHA256": "90698825", "SHA512": "38618901"},
			20000000000: {"SHA1": "65353130", "SHA256": "77737706", "SHA512": "47863826"},
		} {
			code, left, err := token.Code(v, time.Unix(at, 0))
			if err != nil || code != want[algorithm] {
				t.Errorf("%s at %d: %s, %v; want %s", algorithm, at, code, err, want[algorithm])
			}
			if wantLeft := time.Duration(30-at%30) * time.Second; left != wantLeft {
				t.Errorf("%d: %s left, want %s", at, left, wantLeft)
			}
		}
	}
}

func TestParseToken(t *testing.T) {
	for text, want := range map[string]Token{
		"gezd gnbv-":                           {Algorithm: "SHA1", Digits: 6, Period: 30},
		"otpauth://totp/alice?secret=GEZDGNBV": {Name: "alice", Account: "alice", Algorithm: "SHA1", Digits: 6, Period: 30},
		"otpauth://totp/ACME%20Co:alice@x?secret=gezdgnbv&digits=8": {Name: "ACME Co:alice@x", Issuer: "ACME Co", Account: "alice@x", Algorithm: "SHA1", Digits: 8, Period: 30},
		"otpauth://totp/a:b?secret=GEZDGNBV&issuer=C&period=60&algorithm=SHA-256": {
			Name: "C:b", Issuer: "C", Account: "b", Algorithm: "SHA256", Digits: 6, Period: 60},
		" otpauth://totp/?secret=GEZDGNBV&issuer=C\n": {Name: "C", Issuer: "C", Algorithm: "SHA1", Digits: 6, Period: 30},
	} {
		got, secret, err := ParseToken(text)
		if err != nil || got != want || secret != "GEZDGNBV" {
			t.Errorf("%q: %+v, %q, %v; want %+v", text, got, secret, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                                 "the secret is missing",
		"1":                                "not base32",
		"otpauth://totp/a":                 "the secret is missing",
		"otpauth://totp/a?secret=GEZDGNB!": "not base32",
		"otpauth://hotp/a?secret=GEZDGNBV": "only totp",
		"otpauth://totp/a?secret=GEZDGNBV&encoder=steam":      "encoder",
		"otpauth://totp/a?secret=GEZDGNBV&algorithm=MD5":      "none of SHA1",
		"otpauth://totp/a?secret=GEZDGNBV&digits=9":           "there can be 6 to 8",
		"otpauth://totp/a?secret=GEZDGNBV&digits=x":           "no number",
		"otpauth://totp/a?secret=GEZDGNBV&period=0":           "a period of 0 s",
		"otpauth://totp/%zz?secret=GEZDGNBV":                  "cannot be read",
		"otpauth://totp/a?secret=" + strings.Repeat("A", 400): "there can be 1 to 128",
	} {
		_, _, err := ParseToken(text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		} else if strings.Contains(err.Error(), "GEZDG") {
			t.Errorf("the error holds the secret: %v", err)
		}
	}
}

// What is shown of a token makes the same token.
func TestTokenURI(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	v := vaultOf(t, s)
	for _, uri := range []string{
		"otpauth://totp/ACME%20Co:alice+x@example.org?algorithm=SHA256&digits=8&issuer=ACME%20Co&period=60&secret=GEZDGNBV",
		"otpauth://totp/alice?algorithm=SHA1&digits=6&period=30&secret=GEZDGNBV",
	} {
		token, secret, err := ParseToken(uri)
		if err != nil {
			t.Fatal(err)
		}
		token, err = s.AddToken(v, token, secret)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := token.URI(v); err != nil || got != uri {
			t.Errorf("%s, %v; want %s", got, err, uri)
		}
	}
}

func TestTokens(t *testing.T) {
	s := Store{Dir: t.TempDir()}
	v := vaultOf(t, s)
	if tokens, err := s.Tokens(); err != nil || len(tokens) != 0 {
		t.Fatalf("%v, %v", tokens, err)
	}
	plain := Token{Algorithm: "SHA1", Digits: 6, Period: 30}
	for _, name := range []string{"b", "a"} {
		plain.Name = name
		if _, err := s.AddToken(v, plain, "GEZDGNBV"); err != nil {
			t.Fatal(err)
		}
	}
	plain.Name = "A"
	if _, err := s.AddToken(v, plain, "GEZDGNBV"); !errors.Is(err, ErrTokenExists) {
		t.Errorf("a second a: %v", err)
	}
	for _, name := range []string{"", strings.Repeat("x", 129), "\xff"} {
		plain.Name = name
		if _, err := s.AddToken(v, plain, "GEZDGNBV"); err == nil {
			t.Errorf("name %q was taken", name)
		}
	}
	tokens, err := s.Tokens()
	if err != nil || len(tokens) != 2 || tokens[0].Name != "b" || tokens[1].Name != "a" {
		t.Errorf("%+v, %v", tokens, err)
	}
	text, err := os.ReadFile(s.tokensPath())
	if err != nil || strings.Contains(string(text), "GEZDGNBV") {
		t.Errorf("the secret stands in the file: %v", err)
	}
	if info, err := os.Stat(s.tokensPath()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := s.RemoveToken("c"); !errors.Is(err, ErrNoToken) {
		t.Errorf("%v", err)
	}
	if err := s.RemoveToken("b"); err != nil {
		t.Fatal(err)
	}
	if tokens, err := s.Tokens(); err != nil || len(tokens) != 1 {
		t.Errorf("%+v, %v", tokens, err)
	}
	if accounts, err := s.List(); err != nil || len(accounts) != 0 {
		t.Errorf("the tokens are an account: %+v, %v", accounts, err)
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("otpauth://totp/ACME%20Co:alice@x?secret=GEZDGNBV&digits=8")
	f.Add("GEZD GNBV")
	f.Add("otpauth://totp/a?secret=GEZDGNBV&period=-1")
	v, err := newVault(make([]byte, sealKeySize))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, secret, err := ParseToken(text)
		if err != nil {
			return
		}
		token.Sealed = v.seal(sealTOTP, token.Name, []byte(secret))
		code, left, err := token.Code(v, time.Unix(1_800_000_000, 0))
		if err != nil || len(code) != token.Digits || left <= 0 {
			t.Fatalf("%q: %q, %s, %v", text, code, left, err)
		}
	})
}
