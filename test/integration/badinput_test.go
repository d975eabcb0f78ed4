// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/harness"
)

// Whatever a client sends, the verifier answers with an error of the documented
// shape, never with 5xx; and where the signature is good, never with 401: Duo's
// own clients let people in on those.
func TestCraftedRequests(t *testing.T) {
	t.Parallel()
	app := application(t, "crafted")
	p := town.person(t, "crafted")
	p.hotp(t)
	long := strings.Repeat("a", 200_000)
	for name, params := range map[string]url.Values{
		"nothing":                  {},
		"no factor":                {"username": {p.name}},
		"unknown factor":           {"username": {p.name}, "factor": {"telepathy"}},
		"empty name":               {"username": {""}, "factor": {"passcode"}, "passcode": {"1"}},
		"two names":                {"username": {p.name, "root"}, "factor": {"passcode"}, "passcode": {"1"}},
		"name and id":              {"username": {p.name}, "user_id": {"DU0"}, "factor": {"passcode"}, "passcode": {"1"}},
		"long name":                {"username": {long}, "factor": {"passcode"}, "passcode": {"1"}},
		"long passcode":            {"username": {p.name}, "factor": {"passcode"}, "passcode": {long}},
		"control characters":       {"username": {"a\x00\x1b[2J\r\n"}, "factor": {"passcode"}, "passcode": {"\x7f\u202e"}},
		"no UTF-8":                 {"username": {"\xff\xfe"}, "factor": {"passcode"}, "passcode": {"\xff"}},
		"SQL":                      {"username": {"' OR 1=1 --"}, "factor": {"passcode"}, "passcode": {"' OR 1=1 --"}},
		"device of another person": {"username": {p.name}, "factor": {"push"}, "device": {"DPAAAAAAAAAAAAAAAAAA"}},
		"push without a phone":     {"username": {p.name}, "factor": {"push"}, "device": {"auto"}},
		"unknown txid":             {"username": {p.name}, "factor": {"push"}, "device": {"auto"}, "txid": {"nothing"}},
		"async maybe":              {"username": {p.name}, "factor": {"passcode"}, "passcode": {"000000"}, "async": {"maybe"}},
	} {
		for _, path := range []string{"/auth/v2/auth", "/auth/v2/preauth", "/auth/v2/auth_status", "/auth/v2/enroll_status"} {
			method := http.MethodPost
			if path == "/auth/v2/auth_status" {
				method = http.MethodGet
			}
			t.Run(name+" "+path, func(t *testing.T) {
				r := app.signed(t, method, path, params)
				answer := town.send(t, r)
				if answer.status == 401 || answer.status >= 500 {
					t.Errorf("answered with %d: %s", answer.status, answer.body)
				}
				if answer.status != http.StatusRequestHeaderFieldsTooLarge { // the HTTP library's own answer
					answer.assertShape(t)
				}
			})
		}
	}
}

// Requests that nobody has signed, or that are no HTTP at all.
func TestUnsignedRequests(t *testing.T) {
	t.Parallel()
	app := application(t, "unsigned")
	for name, change := range map[string]func(*http.Request){
		"no authorization": func(r *http.Request) { r.Header.Del("Authorization") },
		"another scheme":   func(r *http.Request) { r.Header.Set("Authorization", "Bearer abc") },
		"no base64":        func(r *http.Request) { r.Header.Set("Authorization", "Basic ***") },
		"no colon": func(r *http.Request) {
			r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("x")))
		},
		"unknown key":           func(r *http.Request) { r.SetBasicAuth("DIXXXXXXXXXXXXXXXXXX", strings.Repeat("0", 128)) },
		"wrong signature":       func(r *http.Request) { r.SetBasicAuth(app.Key, strings.Repeat("0", 128)) },
		"short signature":       func(r *http.Request) { r.SetBasicAuth(app.Key, "00") },
		"no date":               func(r *http.Request) { r.Header.Del("Date") },
		"an old date":           func(r *http.Request) { r.Header.Set("Date", "Tue, 21 Aug 2012 17:29:18 -0000") },
		"no date at all":        func(r *http.Request) { r.Header.Set("Date", "yesterday") },
		"a key proof of nobody": func(r *http.Request) { r.Header.Set("Authorization", "Sallyport a.b.c") },
	} {
		t.Run(name, func(t *testing.T) {
			r := app.signed(t, http.MethodGet, "/auth/v2/check", nil)
			change(r)
			answer := town.send(t, r)
			if answer.status != 401 && answer.status != 400 {
				t.Errorf("answered with %d: %s", answer.status, answer.body)
			}
			answer.assertShape(t)
		})
	}
	for name, r := range map[string]*http.Request{
		"unknown path":        app.signed(t, http.MethodGet, "/auth/v2/everything", nil),
		"path that climbs":    app.signed(t, http.MethodGet, "/auth/v2/../../etc/passwd", nil),
		"method":              app.signed(t, http.MethodDelete, "/auth/v2/check", nil),
		"admin without grant": app.signed(t, http.MethodGet, "/admin/v1/users", nil),
		"proof, no signature": app.signed(t, http.MethodGet, "/sallyport/v1/hosts/self", nil),
	} {
		t.Run(name, func(t *testing.T) {
			answer := town.send(t, r)
			if answer.status < 400 || answer.status >= 500 {
				t.Errorf("answered with %d: %s", answer.status, answer.body)
			}
		})
	}
}

// signed makes a request with signature version 2 and SHA-512.
func (i integration) signed(t *testing.T, method, path string, params url.Values) *http.Request {
	t.Helper()
	canonical := canonicalParams(params)
	date := time.Now().UTC().Format("Mon, 02 Jan 2006 15:04:05 -0000")
	mac := hmac.New(sha512.New, []byte(i.Secret))
	fmt.Fprint(mac, strings.Join([]string{date, method, "verifier", path, canonical}, "\n"))

	var body io.Reader
	target := verifierURL + path
	if method == http.MethodPost {
		body = strings.NewReader(canonical)
	} else if canonical != "" {
		target += "?" + canonical
	}
	r, err := http.NewRequestWithContext(t.Context(), method, target, body)
	must(t, err)
	r.Header.Set("Date", date)
	r.SetBasicAuth(i.Key, hex.EncodeToString(mac.Sum(nil)))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

func canonicalParams(params url.Values) string {
	var pairs []string
	escape := func(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }
	for key, values := range params {
		for _, value := range values {
			pairs = append(pairs, escape(key)+"="+escape(value))
		}
	}
	sort.Strings(pairs)
	return strings.Join(pairs, "&")
}

type httpAnswer struct {
	status int
	body   string
}

// send sends a request from the client's machine, through openssl: the test
// process itself has no way into the site's network.
func (s *site) send(t *testing.T, r *http.Request) httpAnswer {
	t.Helper()
	r.Close = true
	var wire bytes.Buffer
	must(t, r.Write(&wire))
	out, err := s.client.Run(t.Context(), harness.Command{
		Args: []string{"openssl", "s_client", "-quiet", "-ign_eof", "-verify_return_error",
			"-connect", "verifier:8443", "-servername", "verifier", "-CAfile", verifierCA},
		Stdin: &wire,
	})
	must(t, err)
	response, err := http.ReadResponse(bufio.NewReader(strings.NewReader(out.Stdout)), r)
	if err != nil {
		t.Fatalf("no HTTP answer: %v: %s", err, out.Output())
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return httpAnswer{response.StatusCode, string(body)}
}

// assertShape asserts that the answer has the one shape that answers have.
func (a httpAnswer) assertShape(t *testing.T) {
	t.Helper()
	var envelope struct {
		Stat     string
		Code     int
		Message  string
		Response json.RawMessage
	}
	if err := json.Unmarshal([]byte(a.body), &envelope); err != nil {
		t.Errorf("the answer is no JSON: %v: %q", err, a.body)
		return
	}
	switch envelope.Stat {
	case "OK":
		if a.status != 200 || envelope.Response == nil {
			t.Errorf("%d with %s", a.status, a.body)
		}
	case "FAIL":
		if envelope.Code/100 != a.status || envelope.Message == "" {
			t.Errorf("%d with %s", a.status, a.body)
		}
	default:
		t.Errorf("stat is %q", envelope.Stat)
	}
}
