// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

var suffixes = []string{"", ".json", ".bson"}

// legacySite is a site with a client of the legacy API, as Debian's libpam-duo is one.
type legacySite struct {
	*site
	client *duoapi.Client
	scheme signature.Scheme
	suffix string
}

func newLegacySite(t *testing.T, plainPush bool, suffix string) *legacySite {
	s := newSiteWith(t, withTelephony(t))
	made := s.integration(store.AuthAPI, directory.IntegrationChange{
		AllowV1: ptr(true), AllowSHA1: ptr(true), AllowPlainPush: &plainPush,
	})
	return &legacySite{s, s.as(made), signature.Scheme{Version: signature.V1, Digest: signature.SHA1}, suffix}
}

// call sends a request and gives status and the answer as JSON.
func (l *legacySite) call(method, call string, p params) (int, string) {
	l.t.Helper()
	w := l.legacy(l.client, l.scheme, method, "/rest/v1/"+call+l.suffix, p)
	if l.suffix != ".bson" {
		return w.Code, w.Body.String()
	}
	if kind := w.Header().Get("Content-Type"); kind != "application/bson" {
		l.t.Errorf("%s is answered in %s", call, kind)
	}
	return w.Code, fromBSON(l.t, w)
}

// fromBSON is the answer as JSON.
func fromBSON(t testing.TB, w *httptest.ResponseRecorder) string {
	t.Helper()
	out, err := bson.MarshalExtJSON(bson.Raw(w.Body.Bytes()), false, false)
	if err != nil || bson.Raw(w.Body.Bytes()).Validate() != nil {
		t.Fatalf("not BSON: %v: %q", err, w.Body)
	}
	return string(out)
}

// legacy serves a request with a signature of any scheme straight to the handler.
func (s *site) legacy(c *duoapi.Client, scheme signature.Scheme, method, path string, p params) *httptest.ResponseRecorder {
	values := url.Values{}
	for k, v := range p {
		values.Set(k, v)
	}
	target, body := s.base.String()+path, ""
	if method == "POST" {
		body = values.Encode()
	} else {
		target += "?" + values.Encode()
	}
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	sig := signature.Request{Method: method, Host: s.base.Host, Path: path, Params: values, Body: []byte(body)}
	if method == "POST" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if scheme.Version != signature.V1 {
		sig.Date = s.clock.Now().UTC().Format(time.RFC1123Z)
		sig.Headers = map[string]string{"x-duo-date": sig.Date}
		r.Header.Set("X-Duo-Date", sig.Date)
	}
	r.Header.Set("Authorization", signature.Authorization(scheme, sig, c.IntegrationKey, c.Secret))
	w := httptest.NewRecorder()
	s.srv.ServeHTTP(w, r)
	return w
}

// want asserts the answer: parts of the form "name":"value", or !"name" for what must not be there.
func (l *legacySite) want(method, call string, p params, parts ...string) string {
	l.t.Helper()
	status, body := l.call(method, call, p)
	for _, part := range append([]string{`"stat":"OK"`}, parts...) {
		if absent, not := strings.CutPrefix(part, "!"); not == strings.Contains(body, absent) {
			l.t.Errorf("%s %v: status %d: %s\nwant %s", call, p, status, body, part)
		}
	}
	return body
}

func eachSuffix(t *testing.T, plainPush bool, run func(*testing.T, *legacySite)) {
	for _, suffix := range suffixes {
		t.Run("suffix "+suffix, func(t *testing.T) { run(t, newLegacySite(t, plainPush, suffix)) })
	}
}

func TestLegacyCalls(t *testing.T) {
	eachSuffix(t, false, func(t *testing.T, l *legacySite) {
		l.want("GET", "ping", nil, `"response":"pong"`)
		l.want("GET", "check", nil, `"response":"valid"`)
		for _, c := range []struct {
			method, call string
			params       params
			want         string
		}{
			{"GET", "logo", nil, `"code":40401`},
			{"POST", "preauth", nil, `"code":40001`},
			{"POST", "preauth", params{"user": ""}, `"code":40002`},
			{"POST", "auth", params{"user": "a", "factor": "auto"}, `"message_detail":"auto"`},
			{"POST", "auth", params{"user": "a", "factor": "passcode"}, `"message_detail":"code"`},
			{"POST", "auth", params{"user": "a", "factor": "push"}, `"message_detail":"phone"`},
			{"POST", "auth", params{"user": "a", "factor": "smoke"}, `"code":40002`},
			{"GET", "status", params{"txid": "none"}, `"code":40002`},
			{"POST", "ping", nil, `"code":40501`},
			{"GET", "nothing", nil, `"code":40401`},
		} {
			status, body := l.call(c.method, c.call, c.params)
			if !strings.Contains(body, `"stat":"FAIL"`) || !strings.Contains(body, c.want) || status/100 != 4 || status == 401 {
				t.Errorf("%s %v: status %d: %s, want %s", c.call, c.params, status, body, c.want)
			}
		}
		l.client = l.admin
		l.scheme = signature.Scheme{Version: signature.V2}
		if status, body := l.call("GET", "check", nil); status != 403 || !strings.Contains(body, `"code":40301`) {
			t.Errorf("an Admin API integration: %d %s", status, body)
		}
	})
}

// What people must read is a result, since these clients drop the body of a refusal.
func TestLegacyLogin(t *testing.T) {
	eachSuffix(t, false, func(t *testing.T, l *legacySite) {
		alice := l.user("alice")
		l.want("POST", "preauth", params{"user": "alice"}, `"result":"enroll"`, "!factors", `"status":"`)
		l.authenticator(alice)
		_, err := l.dir.CreatePhone(t.Context(), directory.Actor{}, alice, directory.PhoneChange{Number: ptr("+15555550123")})
		l.must(err)
		codes, err := l.dir.AddBypassCodes(t.Context(), directory.Actor{}, alice, directory.BypassRequest{Count: 3, Uses: 1})
		l.must(err)

		// Plain push is not allowed here, so it is in no menu; phone and SMS are.
		l.want("POST", "preauth", params{"user": "alice", "hostname": "db1", "failmode": "open", "ipaddr": "192.0.2.1"},
			`"result":"auth"`, `login for alice`, `"factors":{`, `"default":"phone2"`, `"2":"sms2"`, "!push", "!Push")
		login := func(p params, parts ...string) string {
			p["user"] = "alice"
			return l.want("POST", "auth", p, parts...)
		}
		login(params{"factor": "auto", "auto": "push1", "async": "0"}, `"result":"deny"`, `"status":"Push needs`)
		login(params{"factor": "auto", "auto": codes[0]}, `"result":"allow"`, `"status":"Success`, "!txid")
		login(params{"factor": "auto", "auto": codes[0]}, `"result":"deny"`, `"status":"Incorrect`)
		login(params{"factor": "auto", "auto": ""}, `"result":"deny"`, `"status":"Incorrect`)
		login(params{"factor": "passcode", "code": codes[1]}, `"result":"allow"`)
		login(params{"factor": "sms", "phone": "phone2"}, `"result":"deny"`, `"status":"New SMS`)
		login(params{"factor": "auto", "auto": "sms2"}, `"result":"deny"`, `"status":"New SMS`)

		body := login(params{"factor": "auto", "auto": codes[2], "async": "1"}, `"txid":"`, "!result")
		l.want("GET", "status", params{"txid": txidOf(t, body)}, `"result":"allow"`, `"status":"Success`)
		body = login(params{"factor": "phone", "phone": "phone2", "async": "1"}, `"txid":"`, "!result")
		l.want("GET", "status", params{"txid": txidOf(t, body)}, "!result", `"status":"Dialing`)

		l.must(l.site.call(l.admin, "POST", "/admin/v1/users/"+alice, params{"status": "disabled"}, nil))
		l.want("POST", "preauth", params{"user": "alice"}, `"result":"deny"`, `"status":"Your account is disabled`)
		l.must(l.site.call(l.admin, "POST", "/admin/v1/users/"+alice, params{"status": "bypass"}, nil))
		l.want("POST", "preauth", params{"user": "alice"}, `"result":"allow"`)

		l.store.updates.Store(true)
		l.want("POST", "auth", params{"user": "alice", "factor": "auto", "auto": "123456"}, `"result":"deny"`, `"status":"The verifier`)
	})
}

func txidOf(t *testing.T, body string) string {
	t.Helper()
	var out struct{ Response struct{ TxID string } }
	if err := json.Unmarshal([]byte(body), &out); err != nil || out.Response.TxID == "" {
		t.Fatalf("no txid: %v: %s", err, body)
	}
	return out.Response.TxID
}

// TestPlainPushIsFlagged: where the integration allows it, a client that cannot
// show digits gets a plain push, and the log says that it was one. Elsewhere push
// is neither in the menu nor among the devices.
func TestPlainPushIsFlagged(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		for _, version := range []string{"v1", "v2"} {
			t.Run(fmt.Sprintf("%s, allowed %v", version, allowed), func(t *testing.T) {
				l := newLegacySite(t, allowed, ".bson")
				key, phone := l.authenticator(l.user("alice"))
				menu, auth := l.prompts(version)
				if strings.Contains(menu, "push1") != allowed || strings.Contains(menu, `"push"`) != (allowed && version == "v2") {
					t.Errorf("the menu is %s", menu)
				}
				txid := auth("push1")
				if !allowed {
					if e := l.lastEvent(); e.Result != audit.Denied || e.Reason != audit.FactorRestricted || e.PlainPush {
						t.Errorf("event %+v", e)
					}
					return
				}
				var list struct {
					Transactions []struct {
						TxID, Context string
						Verified      bool
					}
				}
				l.must(l.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions?wait=5", "", &list, nil))
				if len(list.Transactions) != 1 || list.Transactions[0].TxID != txid || list.Transactions[0].Verified {
					t.Fatalf("pushes %+v", list)
				}
				p := pending{txID: txid, phone: phone, context: list.Transactions[0].Context, key: key}
				l.must(p.answer(l.site, login.Approve, ""))
				if e := l.lastEvent(); e.Result != audit.Success || !e.PlainPush || e.TxID != txid || e.Factor != "duo_push" {
					t.Errorf("event %+v", e)
				}
			})
		}
	}
}

// prompts asks for the menu by one version of the API, and gives how to answer it.
func (l *legacySite) prompts(version string) (menu string, auth func(choice string) (txid string)) {
	if version == "v1" {
		_, menu = l.call("POST", "preauth", params{"user": "alice"})
		return menu, func(choice string) string {
			return txidOf(l.t.(*testing.T), l.want("POST", "auth", params{"user": "alice", "factor": "auto", "auto": choice, "async": "1"}))
		}
	}
	var pre duoapi.Preauth
	l.must(l.site.call(l.client, "POST", "/auth/v2/preauth", params{"username": "alice", "text_prompt": "1"}, &pre))
	return toJSON(l.t, pre), func(choice string) string {
		var out duoapi.Auth
		l.must(l.site.call(l.client, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "prompt", "prompt": choice, "async": "1"}, &out))
		return out.TxID
	}
}

// lastEvent is the newest event of the authentication log.
func (s *site) lastEvent() store.Event {
	s.t.Helper()
	var out struct{ AuthLogs []store.Event }
	s.must(s.call(s.admin, "GET", "/admin/v2/logs/authentication", params{
		"mintime": "0", "maxtime": fmt.Sprint(s.clock.Now().Add(time.Minute).UnixMilli()), "event_types": "authentication",
	}, &out))
	if len(out.AuthLogs) == 0 {
		s.t.Fatal("no event")
	}
	return out.AuthLogs[0]
}

// TestLegacySignatures: without a date only where the integration allows it, and
// only under the legacy paths; SHA-1 only where it allows that.
func TestLegacySignatures(t *testing.T) {
	s := newSite(t)
	v1, v2 := signature.V1, signature.V2
	for _, c := range []struct {
		v1, sha1 bool
		scheme   signature.Scheme
		want     int
	}{
		{false, false, signature.Scheme{Version: v2}, 0},
		{false, false, signature.Scheme{Version: signature.V5}, 0},
		{false, false, signature.Scheme{Version: v2, Digest: signature.SHA1}, duoapi.CodeInvalidSignature},
		{false, true, signature.Scheme{Version: v2, Digest: signature.SHA1}, 0},
		{false, true, signature.Scheme{Version: v1, Digest: signature.SHA1}, duoapi.CodeMissingDate},
		{false, false, signature.Scheme{Version: v1}, duoapi.CodeMissingDate},
		{true, false, signature.Scheme{Version: v1}, 0},
		{true, false, signature.Scheme{Version: v1, Digest: signature.SHA1}, duoapi.CodeInvalidSignature},
		{true, true, signature.Scheme{Version: v1, Digest: signature.SHA1}, 0},
	} {
		client := s.as(s.integration(store.AuthAPI, directory.IntegrationChange{AllowV1: &c.v1, AllowSHA1: &c.sha1}))
		for path, want := range map[string]int{"/rest/v1/check": c.want, "/auth/v2/check": c.want} {
			if path == "/auth/v2/check" && c.scheme.Version == v1 {
				want = duoapi.CodeMissingDate
			}
			env, err := envelopeOf(s.legacy(client, c.scheme, "GET", path, nil))
			if err != nil || env.Code != want {
				t.Errorf("%s by %v, allow_v1 %v, allow_sha1 %v: code %d (%v), want %d", path, c.scheme, c.v1, c.sha1, env.Code, err, want)
			}
		}
	}
	// A signature without a date is replayable, so the Admin API never takes one.
	if env, _ := envelopeOf(s.legacy(s.admin, signature.Scheme{Version: v1}, "GET", "/admin/v1/users", nil)); env.Code != duoapi.CodeMissingDate {
		t.Errorf("Admin API without a date: %d", env.Code)
	}
}
