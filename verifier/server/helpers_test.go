// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"crypto/ecdsa"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/telephony"
)

type netConn = net.Conn

var dialer net.Dialer

func toJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const webhookSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

func newProvider(t testing.TB, hook string) (*telephony.Provider, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(webhookSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := telephony.New(config.Telephony{
		URL: hook, SecretFile: file, ApproveKey: "#", FraudKey: "*", Attempts: 1, Timeout: config.Duration{Duration: 5 * time.Second},
	}, &url.URL{Scheme: "https", Host: "verifier.example:8443"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return p, webhookSecret
}

// report is a callback of the provider, signed with secret.
func (s *site) report(secret, id string, body map[string]string) error {
	s.t.Helper()
	hook, err := telephony.Key(secret)
	s.must(err)
	text := toJSON(s.t, body)
	now := time.Now()
	sig, err := hook.Sign(id, now, []byte(text))
	s.must(err)
	return s.open("POST", telephony.CallbackPath, text, http.Header{
		"Webhook-Id": {id}, "Webhook-Timestamp": {strconv.FormatInt(now.Unix(), 10)}, "Webhook-Signature": {sig},
	}, nil)
}

// signed serves a request with a signature of version 5 straight to the handler.
func (s *site) signed(c *duoapi.Client, method, target, contentType, body string) *httptest.ResponseRecorder {
	return s.signedBy(c, signature.Scheme{Version: signature.V5}, method, target, contentType, body)
}

func (s *site) signedSHA1(c *duoapi.Client, method, target string) *httptest.ResponseRecorder {
	return s.signedBy(c, signature.Scheme{Version: signature.V2, Digest: signature.SHA1}, method, target, "", "")
}

func (s *site) signedBy(c *duoapi.Client, scheme signature.Scheme, method, target, contentType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, s.base.String()+target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	sig := signature.Request{
		Method: method, Host: s.base.Host, Path: r.URL.EscapedPath(), Date: s.clock.Now().UTC().Format(time.RFC1123Z), Body: []byte(body),
	}
	if params, err := url.ParseQuery(r.URL.RawQuery); err == nil {
		sig.Params = params
	}
	r.Header.Set("Date", sig.Date)
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	r.Header.Set("Authorization", signature.Authorization(scheme, sig, c.IntegrationKey, c.Secret))
	w := httptest.NewRecorder()
	s.srv.ServeHTTP(w, r)
	return w
}

// provedDirect serves a request with a key proof straight to the handler.
func (s *site) provedDirect(key *ecdsa.PrivateKey, kid, method, target, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, s.base.String()+target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	s.must(keyproof.SetHeader(r, []byte(body), key, kid, s.base.String(), s.clock.Now()))
	w := httptest.NewRecorder()
	s.srv.ServeHTTP(w, r)
	return w
}

// reportDirect serves a callback with a good signature straight to the handler.
func (s *site) reportDirect(body string) *httptest.ResponseRecorder {
	hook, err := telephony.Key(webhookSecret)
	s.must(err)
	now := time.Now()
	sig, err := hook.Sign("msg_1", now, []byte(body))
	s.must(err)
	r := httptest.NewRequest("POST", s.base.String()+telephony.CallbackPath, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("webhook-id", "msg_1")
	r.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	r.Header.Set("webhook-signature", sig)
	w := httptest.NewRecorder()
	s.srv.ServeHTTP(w, r)
	return w
}

// withTelephony turns telephony on, with a provider that takes every order and does nothing.
func withTelephony(t testing.TB) func(*server.Config, *login.Config) {
	return func(c *server.Config, l *login.Config) {
		c.Telephony, _ = provider(t)
		l.Telephony = c.Telephony
	}
}
