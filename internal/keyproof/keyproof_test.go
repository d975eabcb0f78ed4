// SPDX-License-Identifier: Apache-2.0

package keyproof

import (
	"crypto/ecdsa"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const audience = "https://verifier.example:8443"

var at = time.Unix(1_700_000_000, 0)

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestProof(t *testing.T) {
	key, other := newKey(t), newKey(t)
	body := []byte(`{"a":1}`)
	for name, c := range map[string]struct {
		change func(*http.Request)
		key    *ecdsa.PrivateKey
		body   string
		aud    string
		now    time.Time
		want   error
	}{
		"as sent":         {want: nil},
		"another key":     {key: other, want: ErrSignature},
		"another body":    {body: `{"a":2}`, want: ErrMismatch},
		"another path":    {change: func(r *http.Request) { r.URL.Path = "/y" }, want: ErrMismatch},
		"another query":   {change: func(r *http.Request) { r.URL.RawQuery = "q=2" }, want: ErrMismatch},
		"another method":  {change: func(r *http.Request) { r.Method = "PUT" }, want: ErrMismatch},
		"another server":  {aud: "https://other.example", want: ErrMismatch},
		"late":            {now: at.Add(MaxSkew + time.Second), want: ErrTime},
		"from the future": {now: at.Add(-MaxSkew - time.Second), want: ErrTime},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/x?q=1", nil)
			if err := SetHeader(r, body, key, "DH1", audience, at); err != nil {
				t.Fatal(err)
			}
			if c.change != nil {
				c.change(r)
			}
			checkKey, checkBody, aud, now := key, body, audience, at
			if c.key != nil {
				checkKey = c.key
			}
			if c.body != "" {
				checkBody = []byte(c.body)
			}
			if c.aud != "" {
				aud = c.aud
			}
			if !c.now.IsZero() {
				now = c.now
			}
			u, err := ParseHeader(r)
			if err != nil || u.KeyID != "DH1" {
				t.Fatalf("parse: %v, key id %q", err, u.KeyID)
			}
			if _, err := u.Verify(&checkKey.PublicKey, r, checkBody, aud, now); !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
		})
	}
}

func TestOpenRefusesOtherAlgorithms(t *testing.T) {
	key := newKey(t)
	// {"alg":"none"} and {"alg":"HS256"} with an empty signature.
	for _, compact := range []string{"eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJIUzI1NiJ9.e30.AA", strings.Repeat("a", maxSize+1)} {
		if _, err := Open(&key.PublicKey, compact); !errors.Is(err, ErrMalformed) {
			t.Errorf("%.30s: error %v, want ErrMalformed", compact, err)
		}
	}
}

func TestKeyEncoding(t *testing.T) {
	key := newKey(t)
	s, err := EncodeKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeKey(s)
	if err != nil || !back.Equal(&key.PublicKey) {
		t.Fatalf("key did not survive: %v", err)
	}
	id, err := ID("HO", back)
	if err != nil || len(id) != 20 || !strings.HasPrefix(id, "HO") {
		t.Fatalf("id %q, %v", id, err)
	}
	for _, bad := range []string{"", "!", "AAAA", strings.Repeat("A", maxSize+4)} {
		if _, err := DecodeKey(bad); err == nil {
			t.Errorf("%.20q was accepted", bad)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	key := newKey(f)
	r := httptest.NewRequest("GET", "/x", nil)
	if err := SetHeader(r, nil, newKey(f), "HO1", audience, at); err != nil {
		f.Fatal(err)
	}
	f.Add(r.Header.Get("Authorization"))
	f.Add("Sallyport eyJhbGciOiJub25lIn0.e30.")
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "/x", nil)
		r.Header.Set("Authorization", header)
		u, err := ParseHeader(r)
		if err != nil {
			return
		}
		if _, err := u.Verify(&key.PublicKey, r, nil, audience, at); err == nil {
			t.Fatal("a proof made without the key was accepted")
		}
	})
}
