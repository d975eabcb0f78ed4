// SPDX-License-Identifier: Apache-2.0

package signature

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

var secret = []byte("Zh5eGmUq9zpfQnyUIu5OL9iWoMMv5ZNmk3zLJ4Ep")

const date = "Tue, 21 Aug 2012 17:29:18 -0000"

var at = time.Date(2012, 8, 21, 17, 29, 18, 0, time.UTC)

// The vector of Duo's public Auth API documentation: signature version 2 with SHA-1.
func TestDocumentedVector(t *testing.T) {
	r := Request{
		Method: "POST", Host: "api-xxxxxxxx.duosecurity.com", Path: "/accounts/v1/account/list", Date: date,
		Params: url.Values{"realname": {"First Last"}, "username": {"root"}},
	}
	want := "Tue, 21 Aug 2012 17:29:18 -0000\nPOST\napi-xxxxxxxx.duosecurity.com\n/accounts/v1/account/list\nrealname=First%20Last&username=root"
	if got := Canonical(V2, r); got != want {
		t.Fatalf("canonical form:\n%s\nwant\n%s", got, want)
	}
	got := Authorization(Scheme{V2, SHA1}, r, "DIWJ8X6AEYOR5OMC6TQ1", secret)
	if want := "Basic RElXSjhYNkFFWU9SNU9NQzZUUTE6MmQ5N2Q2MTY2MzE5NzgxYjVhM2EwN2FmMzlkMzY2ZjQ5MTIzNGVkYw=="; got != want {
		t.Fatalf("authorization: %s\nwant %s", got, want)
	}
}

func TestCanonicalForms(t *testing.T) {
	empty := "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e"
	get := Request{Method: "get", Host: "API.Example:8443", Path: "/auth/v2/check", Date: date, Params: url.Values{"b": {"2", "1"}, "a": {"x y~*"}}}
	post := Request{Method: "POST", Host: "[2001:DB8::1]:8443", Path: "/p", Date: date, Body: []byte(`{}`), JSON: true, Headers: map[string]string{"x-duo-b": "2", "x-duo-a": "1"}}
	for _, c := range []struct {
		name string
		v    Version
		r    Request
		want []string
	}{
		{"v1 has no date", V1, get, []string{"GET", "api.example", "/auth/v2/check", "a=x%20y~%2A&b=1&b=2"}},
		{"v2", V2, get, []string{date, "GET", "api.example", "/auth/v2/check", "a=x%20y~%2A&b=1&b=2"}},
		{"v4 of a GET hashes nothing", V4, get, []string{date, "GET", "api.example", "/auth/v2/check", "a=x%20y~%2A&b=1&b=2", empty}},
		{"v5 without headers", V5, get, []string{date, "GET", "api.example", "/auth/v2/check", "a=x%20y~%2A&b=1&b=2", empty, empty}},
		{"v5 of a POST", V5, post, []string{date, "POST", "[2001:db8::1]", "/p", "", sha512Hex([]byte("{}")), sha512Hex([]byte("x-duo-a\x001\x00x-duo-b\x002"))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, want := Canonical(c.v, c.r), strings.Join(c.want, "\n"); got != want {
				t.Fatalf("got\n%q\nwant\n%q", got, want)
			}
		})
	}
}

// sign makes an HTTP request as a client would.
func sign(t *testing.T, s Scheme, method, target, contentType, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	if s.Version != V1 {
		r.Header.Set("Date", date)
	}
	r.SetBasicAuth("DI", "00")
	req, _, err := Parse(r, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", Authorization(s, req, "DI", secret))
	return r
}

func verify(r *http.Request, body string, sha1, v1 bool, now time.Time) (Scheme, error) {
	req, cred, err := Parse(r, []byte(body))
	if err != nil {
		return Scheme{}, err
	}
	return Verify(req, cred, secret, req.Candidates(sha1, v1), now)
}

func TestVerify(t *testing.T) {
	const form, json = "application/x-www-form-urlencoded", "application/json"
	for _, c := range []struct {
		name           string
		scheme         Scheme
		method, target string
		ctype, body    string
		sha1, v1       bool
		now            time.Time
		want           error
	}{
		{"v2 form", Scheme{V2, SHA512}, "POST", "/p", form, "a=1+2&b=", false, false, at, nil},
		{"v4 json", Scheme{V4, SHA512}, "POST", "/p", json, `{"a":1}`, false, false, at, nil},
		{"v5 json", Scheme{V5, SHA512}, "POST", "/p", json, `{"a":1}`, false, false, at, nil},
		{"v5 get", Scheme{V5, SHA512}, "GET", "/p?txid=1", "", "", false, false, at, nil},
		{"sha1 not allowed", Scheme{V2, SHA1}, "POST", "/p", form, "a=1", false, false, at, ErrBadSignature},
		{"sha1 allowed", Scheme{V2, SHA1}, "POST", "/p", form, "a=1", true, false, at, nil},
		{"v2 never signs a JSON body", Scheme{V2, SHA512}, "POST", "/p", json, `{"a":1}`, true, false, at, ErrBadSignature},
		{"v1 not allowed", Scheme{V1, SHA1}, "POST", "/p", form, "a=1", true, false, at, ErrMissingDate},
		{"v1 with SHA-1 needs both", Scheme{V1, SHA1}, "POST", "/p", form, "a=1", false, true, at, ErrBadSignature},
		{"v1 with SHA-512", Scheme{V1, SHA512}, "POST", "/p", form, "a=1", false, true, at, nil},
		{"v4 form of a PUT", Scheme{V4, SHA512}, "PUT", "/p", form, "a=1", false, false, at, nil},
		{"v1 allowed", Scheme{V1, SHA1}, "POST", "/p", form, "a=1", true, true, at, nil},
		{"late by 300 s", Scheme{V2, SHA512}, "POST", "/p", form, "a=1", false, false, at.Add(MaxSkew), nil},
		{"late by 301 s", Scheme{V2, SHA512}, "POST", "/p", form, "a=1", false, false, at.Add(MaxSkew + time.Second), ErrBadDate},
		{"early by 301 s", Scheme{V2, SHA512}, "POST", "/p", form, "a=1", false, false, at.Add(-MaxSkew - time.Second), ErrBadDate},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sign(t, c.scheme, c.method, c.target, c.ctype, c.body)
			got, err := verify(r, c.body, c.sha1, c.v1, c.now)
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
			if err == nil && got != c.scheme {
				t.Fatalf("scheme %v, want %v", got, c.scheme)
			}
		})
	}
}

func TestVerifyRefusesChanges(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for name, change := range map[string]func(*http.Request){
		"method": func(r *http.Request) { r.Method = "PUT" },
		"host":   func(r *http.Request) { r.Host = "other.example" },
		"path":   func(r *http.Request) { r.URL.Path = "/q" },
		"date":   func(r *http.Request) { r.Header.Set("Date", "Tue, 21 Aug 2012 17:29:19 -0000") },
		"header": func(r *http.Request) { r.Header.Set("X-Duo-Extra", "1") },
	} {
		t.Run(name, func(t *testing.T) {
			r := sign(t, Scheme{V5, SHA512}, "POST", "/p", form, "a=1")
			change(r)
			if _, err := verify(r, "a=1", false, false, at); !errors.Is(err, ErrBadSignature) {
				t.Fatalf("error %v, want ErrBadSignature", err)
			}
		})
	}
	t.Run("body", func(t *testing.T) {
		r := sign(t, Scheme{V5, SHA512}, "POST", "/p", form, "a=1")
		if _, err := verify(r, "a=2", false, false, at); !errors.Is(err, ErrBadSignature) {
			t.Fatalf("error %v, want ErrBadSignature", err)
		}
	})
}

// Only what is under the signature comes out of Parse.
func TestUnsignedBodyIsDropped(t *testing.T) {
	for method, want := range map[string]string{"GET": "", "DELETE": "", "POST": "a=1", "PUT": "a=1", "PATCH": "a=1"} {
		r := sign(t, Scheme{V2, SHA512}, method, "/p", "application/x-www-form-urlencoded", "a=1")
		req, _, err := Parse(r, []byte("a=1"))
		if err != nil || string(req.Body) != want || req.Params.Has("a") != (want != "") {
			t.Errorf("%s: body %q, parameters %v, %v", method, req.Body, req.Params, err)
		}
	}
}

// duo_hmac sends X-Duo-Date alone, signs it as the date and hashes it as a header.
func TestDuoHMAC(t *testing.T) {
	req := Request{
		Method: "POST", Host: "api.example", Path: "/admin/v2/policies", Date: date, Body: []byte(`{"a":1}`), JSON: true,
		Headers: map[string]string{"x-duo-date": date},
	}
	want := strings.Join([]string{
		date, "POST", "api.example", "/admin/v2/policies", "", sha512Hex([]byte(`{"a":1}`)), sha512Hex([]byte("x-duo-date\x00" + date)),
	}, "\n")
	if got := Canonical(V5, req); got != want {
		t.Fatalf("got\n%q\nwant\n%q", got, want)
	}
	r := httptest.NewRequest("POST", "/admin/v2/policies", strings.NewReader(`{"a":1}`))
	r.Host = "API.example:8443"
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.Header.Set("X-Duo-Date", date)
	r.Header.Set("Date", "Wed, 22 Aug 2012 00:00:00 GMT") // of a proxy on the way
	auth := Authorization(Scheme{V5, SHA512}, req, "DI", secret)
	pair, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(auth, "Basic "))
	r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("DI:"+strings.ToUpper(string(pair[3:])))))
	if got, err := verify(r, `{"a":1}`, false, false, at); err != nil || got.Version != V5 {
		t.Errorf("%v, %v", got, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		make func() *http.Request
		want error
	}{
		"no credentials": {func() *http.Request { return httptest.NewRequest("GET", "/", nil) }, ErrMissingCredentials},
		"not hexadecimal": {func() *http.Request {
			r := httptest.NewRequest("GET", "/", nil)
			r.SetBasicAuth("DI", "xyz")
			return r
		}, ErrMissingCredentials},
		"query on a POST": {func() *http.Request {
			r := httptest.NewRequest("POST", "/?factor=push", nil)
			r.SetBasicAuth("DI", "00")
			return r
		}, ErrMalformed},
		"broken escape": {func() *http.Request {
			r := httptest.NewRequest("GET", "/?a=%zz", nil)
			r.SetBasicAuth("DI", "00")
			return r
		}, ErrMalformed},
		"repeated header": {func() *http.Request {
			r := httptest.NewRequest("GET", "/", nil)
			r.SetBasicAuth("DI", "00")
			r.Header["X-Duo-Date"] = []string{date, date}
			return r
		}, ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := Parse(c.make(), nil); !errors.Is(err, c.want) {
				t.Fatalf("error %v, want %v", err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add("POST", "/auth/v2/auth", "", "Basic REk6MDA=", "application/json", date, `{"a":1}`)
	f.Add("GET", "/auth/v2/auth_status", "txid=a%20b&txid=", "Basic REk6MDA=", "", date, "")
	f.Add("POST", "/rest/v1/auth", "", "Basic !!", "application/x-www-form-urlencoded; charset=utf-8", "", "a=%zz&b;c")
	f.Fuzz(func(t *testing.T, method, path, query, authorization, contentType, when, body string) {
		r := &http.Request{Method: method, Host: "h:1", URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{}}
		r.Header.Set("Authorization", authorization)
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Date", when)
		req, cred, err := Parse(r, []byte(body))
		if err != nil {
			return
		}
		if _, err := Verify(req, cred, secret, req.Candidates(true, true), at); err == nil {
			t.Fatalf("a signature made without the secret was accepted")
		}
		again, err := url.ParseQuery(EncodeParams(req.Params))
		if err != nil || EncodeParams(again) != EncodeParams(req.Params) {
			t.Fatalf("canonical parameters do not survive a round trip: %v", err)
		}
	})
}
