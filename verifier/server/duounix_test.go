// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/json"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// duoUnix is duo_unix 2.2 and later, as its public source has it: version 2 of the API
// with the text prompt, signed by SHA-512 with X-Duo-Date, blank values kept.
type duoUnix struct {
	*site
	client   *duoapi.Client
	verified bool // verified_push = yes
}

func (d duoUnix) send(method, path string, p params, out any) {
	d.t.Helper()
	values := url.Values{}
	for k, v := range p {
		values.Set(k, v)
	}
	target, body := d.base.String()+path, values.Encode()
	if method == "GET" {
		target, body = target+"?"+body, ""
	}
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	date := d.clock.Now().Format("Mon, 02 Jan 2006 15:04:05 -0700")
	r.Header.Set("X-Duo-Date", date)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Authorization", signature.Authorization(signature.Scheme{Version: signature.V2}, signature.Request{
		Method: method, Host: d.base.Hostname(), Path: path, Date: date, Params: values,
	}, d.client.IntegrationKey, d.client.Secret))
	w := httptest.NewRecorder()
	d.srv.ServeHTTP(w, r)
	var env struct{ Response json.RawMessage }
	if w.Code != 200 || json.Unmarshal(w.Body.Bytes(), &env) != nil || json.Unmarshal(env.Response, out) != nil {
		d.t.Fatalf("%s %v: status %d: %s", path, p, w.Code, w.Body)
	}
}

// attempt is one prompt of it: what is typed is looked up among the factors, and sent as it is else.
func (d duoUnix) attempt(user, typed string, async bool) (prompt duoapi.Prompt, out duoapi.Auth, txid string) {
	d.t.Helper()
	var ping struct{ Time int64 }
	if d.send("GET", "/auth/v2/ping", nil, &ping); ping.Time == 0 {
		d.t.Fatal("no time")
	}
	p := params{"text_prompt": "1", "username": user, "ipaddr": "192.0.2.1", "hostname": "db1.example", "failmode": "closed"}
	if d.verified {
		p["client_supports_verified_push"] = "1"
	}
	var pre duoapi.Preauth
	d.send("POST", "/auth/v2/preauth", p, &pre)
	if pre.Result != duoapi.ResultAuth {
		return prompt, duoapi.Auth{Result: pre.Result, StatusMsg: pre.StatusMsg}, ""
	}
	if pre.Prompt == nil || pre.Prompt.Text == "" || pre.Prompt.Factors == nil {
		d.t.Fatalf("no prompt: %+v", pre)
	}
	choice, ok := pre.Prompt.Factors[typed]
	if !ok {
		choice = typed
	}
	p = params{"username": user, "factor": "prompt", "prompt": choice, "async": "0", "hostname": "db1.example", "pushinfo": "Server+IP=1&Command=a%20b"}
	if async {
		p["async"] = "1"
	}
	if pre.TxID != "" {
		p["txid"] = pre.TxID
	}
	d.send("POST", "/auth/v2/auth", p, &out)
	if async && (out.TxID == "" || len(out.TxID) > 255) {
		d.t.Fatalf("no txid: %+v", out)
	}
	return *pre.Prompt, out, out.TxID
}

func (d duoUnix) status(txid string) (out duoapi.Auth) {
	d.t.Helper()
	d.send("GET", "/auth/v2/auth_status", params{"txid": txid}, &out)
	if out.Result == "" || out.StatusMsg == "" {
		d.t.Errorf("the client needs result and status_msg: %+v", out)
	}
	return out
}

// TestDuoUnix22 goes through a login by each answer that the client can give to the menu.
func TestDuoUnix22(t *testing.T) {
	s := newSiteWith(t, withTelephony(t))
	made := s.integration(store.AuthAPI, directory.IntegrationChange{})
	d := duoUnix{s, s.as(made), true}
	alice := s.user("alice")
	key, phone := s.authenticator(alice)
	_, err := s.dir.CreatePhone(t.Context(), directory.Actor{}, alice, directory.PhoneChange{Number: ptr("+15555550123")})
	s.must(err)
	codes, err := s.dir.AddBypassCodes(t.Context(), directory.Actor{}, alice, directory.BypassRequest{Count: 2, Uses: 1})
	s.must(err)

	for typed, want := range map[string]string{codes[0]: "allow", "": "deny", "000000": "deny", "sms2": "deny", "3": "deny"} {
		if _, out, _ := d.attempt("alice", typed, false); out.Result != want || out.StatusMsg == "" {
			t.Errorf("%q: %+v, want %s", typed, out, want)
		}
	}
	if _, out, _ := d.attempt("nobody", "", false); out.Result != duoapi.ResultEnroll && out.Result != duoapi.ResultDeny || out.StatusMsg == "" {
		t.Errorf("nobody: %+v", out)
	}

	// A verified push: the digits stand in the text, and the txid goes along.
	prompt, _, txid := d.attempt("alice", "default", true)
	_, digits, ok := strings.Cut(prompt.Text, "Verification code for a push: ")
	if !ok || len(digits) < 6 || prompt.Factors["default"] != "push1" || len(prompt.Factors) != 4 {
		t.Fatalf("prompt %+v", prompt)
	}
	if out := d.status(txid); out.Result != duoapi.ResultWaiting {
		t.Errorf("while it waits: %+v", out)
	}
	var list struct {
		Transactions []struct{ TxID, Context string }
	}
	s.must(s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions?wait=5", "", &list, nil))
	s.must(pending{txID: txid, phone: phone, context: list.Transactions[0].Context, key: key}.answer(s, login.Approve, digits[:6]))
	if out := d.status(txid); out.Result != duoapi.ResultAllow {
		t.Errorf("approved: %+v", out)
	}
	if e := s.lastEvent(); e.PlainPush || e.Result != "success" {
		t.Errorf("event %+v", e)
	}

	// Without verified_push there is none to choose, and choosing it all the same is denied.
	d.verified = false
	if prompt, out, _ := d.attempt("alice", "push1", false); strings.Contains(prompt.Text, "Push") || out.Result != "deny" {
		t.Errorf("prompt %+v, answer %+v", prompt, out)
	}
}
