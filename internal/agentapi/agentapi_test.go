// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

var at = time.Unix(1_800_000_000, 0)

// serve answers every call with response after checking its proof.
func serve(t *testing.T, response string, check func(r *http.Request, body []byte)) *Client {
	t.Helper()
	key, err := keyproof.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{Key: key, KeyID: "DP1", Now: func() time.Time { return at }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		proof, err := keyproof.ParseHeader(r)
		if err != nil {
			t.Error(err)
			return
		}
		if _, err := proof.Verify(&key.PublicKey, r, body, c.Audience(), at); err != nil || proof.KeyID != "DP1" {
			t.Errorf("proof of %q: %v", proof.KeyID, err)
		}
		if check != nil {
			check(r, body)
		}
		fmt.Fprint(w, response)
	}))
	t.Cleanup(s.Close)
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.BaseURL, c.HTTP = base, HTTPClient(nil, time.Minute)
	return c
}

func TestJoin(t *testing.T) {
	var sent Join
	c := serve(t, `{"stat":"OK","response":{"host_id":"HO1","secret_key":"s"}}`, func(r *http.Request, body []byte) {
		if err := json.Unmarshal(body, &sent); err != nil || r.URL.Path != "/sallyport/v1/hosts/join" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
	})
	got, err := c.Join(t.Context(), "sj1.x.y", "db1")
	if err != nil || got.HostID != "HO1" || got.SecretKey != "s" {
		t.Fatalf("%+v, %v", got, err)
	}
	public, err := keyproof.DecodeKey(sent.PublicKey)
	if err != nil || !public.Equal(&c.Key.PublicKey) || sent.Token != "sj1.x.y" || sent.Name != "db1" {
		t.Errorf("sent %+v, %v", sent, err)
	}
}

func TestTransactions(t *testing.T) {
	var query url.Values
	c := serve(t, `{"stat":"OK","response":{"transactions":[{"txid":"T","context":"{\"v\":1}","verified":true,"created":4,"expires":5}]}}`,
		func(r *http.Request, _ []byte) { query = r.URL.Query() })
	got, err := c.Transactions(t.Context(), time.Hour, []string{"A", "B&C"})
	if err != nil || len(got) != 1 || got[0] != (Transaction{"T", `{"v":1}`, true, 4, 5}) {
		t.Fatalf("%+v, %v", got, err)
	}
	if query.Get("wait") != "25" || !slices.Equal(query["seen"], []string{"A", "B&C"}) {
		t.Errorf("query %v", query)
	}
}

// What is signed must be bound to the transaction, its context and this verifier.
func TestAnswer(t *testing.T) {
	var c *Client
	var answer Answer
	c = serve(t, `{"stat":"OK","response":{"txid":"T/1","decision":"deny"}}`, func(r *http.Request, body []byte) {
		if r.URL.EscapedPath() != "/sallyport/v1/authenticator/transactions/T%2F1" {
			t.Errorf("path %s", r.URL.EscapedPath())
		}
		var sent struct{ Answer string }
		if err := json.Unmarshal(body, &sent); err != nil {
			t.Error(err)
		}
		payload, err := keyproof.Open(&c.Key.PublicKey, sent.Answer)
		if err != nil {
			t.Error(err)
		}
		if err := json.Unmarshal(payload, &answer); err != nil {
			t.Error(err)
		}
	})
	recorded, err := c.Answer(t.Context(), Transaction{TxID: "T/1", Context: `{"v":1}`}, Approve, "123456")
	if err != nil || recorded != Deny {
		t.Fatalf("%q, %v", recorded, err)
	}
	want := Answer{1, c.Audience(), "T/1", keyproof.HashBody([]byte(`{"v":1}`)), Approve, "123456", at.Unix()}
	if answer != want {
		t.Errorf("signed %+v, want %+v", answer, want)
	}
}

func TestErrors(t *testing.T) {
	var refused *duoapi.Error
	c := serve(t, `{"stat":"FAIL","code":40107,"message":"no"}`, nil)
	if _, err := c.Self(t.Context()); !errors.As(err, &refused) || refused.Code != duoapi.CodeInvalidProof {
		t.Errorf("refusal: %v", err)
	}
	c = serve(t, `<html>`, nil)
	if _, err := c.Self(t.Context()); !errors.Is(err, duoapi.ErrMalformed) {
		t.Errorf("garbage: %v", err)
	}
	c.BaseURL = &url.URL{Scheme: "http", Host: "127.0.0.1:1"}
	if _, err := c.Self(t.Context()); !errors.Is(err, duoapi.ErrTransport) {
		t.Errorf("nobody there: %v", err)
	}
}

// A proof is for one address: a redirect is an answer that makes no sense.
func TestRedirectsAreNotFollowed(t *testing.T) {
	s := httptest.NewServer(http.RedirectHandler("http://127.0.0.1:1/", http.StatusTemporaryRedirect))
	t.Cleanup(s.Close)
	c := serve(t, "", nil)
	base, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	c.BaseURL = base
	if _, err := c.Self(t.Context()); !errors.Is(err, duoapi.ErrMalformed) {
		t.Errorf("redirect: %v", err)
	}
}
