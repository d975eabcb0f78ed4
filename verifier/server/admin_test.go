// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/base32"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"github.com/pquerna/otp/totp"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

type params = map[string]string

func TestUsers(t *testing.T) {
	s := newSite(t)
	var u map[string]any
	s.must(s.call(s.admin, "POST", "/admin/v1/users", params{
		"username": " Alice ", "alias1": "al", "alias3": "ali", "email": "a@example.org", "realname": "Alice A", "notes": "one\ntwo",
	}, &u))
	if u["username"] != "alice" || u["alias1"] != "al" || u["alias2"] != nil || u["alias3"] != "ali" || u["status"] != "active" {
		t.Errorf("created %v", u)
	}
	path := "/admin/v1/users/" + u["user_id"].(string)
	for _, c := range []struct {
		params params
		field  string
		want   any
	}{
		{params{"status": "disabled"}, "status", "disabled"},
		{params{"status": "bypass"}, "status", "bypass"},
		{params{"alias2": "al2"}, "alias3", "ali"},
		{params{"alias1": ""}, "alias2", "al2"},
		{params{"alias3": ""}, "alias3", nil},
		{params{"aliases": "alias2=b&alias3=c"}, "alias3", "c"},
		{params{"aliases": `["x","y"]`}, "alias1", "x"},
		{params{"aliases": ""}, "alias1", nil},
		{params{"username": "alicia"}, "username", "alicia"},
	} {
		s.must(s.call(s.admin, "POST", path, c.params, &u))
		if u[c.field] != c.want {
			t.Errorf("%v: %s is %v, want %v", c.params, c.field, u[c.field], c.want)
		}
	}
	for _, c := range []struct {
		params params
		want   int
	}{
		{params{"status": "locked out"}, duoapi.CodeInvalidParameter},
		{params{"username": ""}, duoapi.CodeInvalidParameter},
		{params{"username": "a\x1b[2Jb"}, duoapi.CodeInvalidParameter},
		{params{"username": "a\u202eb"}, duoapi.CodeInvalidParameter},
		{params{"aliases": "alias9=x"}, duoapi.CodeInvalidParameter},
		{params{"alias1": "alicia"}, duoapi.CodeInvalidParameter},
		{params{"alias1": "p", "alias2": "P"}, duoapi.CodeInvalidParameter},
	} {
		if err := s.call(s.admin, "POST", path, c.params, nil); code(err) != c.want {
			t.Errorf("%q: %v", c.params, err)
		}
	}
	s.user("bob")
	for _, p := range []params{{"username": "bob"}, {"alias1": "bob"}} {
		if err := s.call(s.admin, "POST", path, p, nil); code(err) != duoapi.CodeConflict {
			t.Errorf("%v: %v", p, err)
		}
	}
	s.must(s.call(s.admin, "DELETE", path, nil, nil))
	if err := s.call(s.admin, "GET", path, nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("deleted user: %v", err)
	}
}

func TestPaging(t *testing.T) {
	s := newSite(t)
	for i := range 7 {
		s.user(fmt.Sprintf("user%d", i))
	}
	seen := map[string]bool{}
	offset, pages := 0, 0
	for {
		var page []map[string]any
		meta, err := s.admin.Call(t.Context(), "GET", "/admin/v1/users", url.Values{
			"limit": {"3"}, "offset": {fmt.Sprint(offset)},
		}, &page)
		s.must(err)
		for _, u := range page {
			seen[u["username"].(string)] = true
		}
		pages++
		if meta.TotalObjects != 7 {
			t.Errorf("total_objects %d", meta.TotalObjects)
		}
		if meta.NextOffset == nil {
			break
		}
		offset = *meta.NextOffset
	}
	if len(seen) != 7 || pages != 3 {
		t.Errorf("%d users on %d pages", len(seen), pages)
	}
	var found []map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/users", params{"username": "USER3"}, &found))
	if len(found) != 1 || found[0]["username"] != "user3" {
		t.Errorf("by name: %v", found)
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/users", params{"username_list": `["user1","nobody","user5"]`}, &found))
	if len(found) != 2 {
		t.Errorf("by list: %d", len(found))
	}
	if err := s.call(s.admin, "GET", "/admin/v1/users", params{"limit": "0"}, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("limit 0: %v", err)
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/users", params{"limit": "100000"}, nil)) // is cut, not refused
}

func TestTokens(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	var made struct {
		TokenID string `json:"token_id"`
		Serial  string
		Secret  string
		URI     string
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/tokens", params{"type": "t6", "user_id": alice}, &made))
	uri, err := url.Parse(made.URI)
	s.must(err)
	if uri.Scheme != "otpauth" || uri.Host != "totp" || uri.Path != "/Sallyport:alice" || uri.Query().Get("secret") != made.Secret {
		t.Errorf("uri %s", made.URI)
	}
	passcode, err := totp.GenerateCode(made.Secret, s.clock.Now())
	s.must(err)
	var auth duoapi.Auth
	login := params{"username": "alice", "factor": "passcode", "passcode": passcode}
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", login, &auth))
	if auth.Result != duoapi.ResultAllow {
		t.Errorf("first use %+v", auth)
	}
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", login, &auth))
	if auth.Result != duoapi.ResultDeny {
		t.Errorf("second use %+v", auth)
	}
	var shown map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/tokens/"+made.TokenID, nil, &shown))
	if shown["secret"] != nil || shown["uri"] != nil || shown["type"] != "t6" || shown["totp_step"] != 30.0 {
		t.Errorf("shown %v", shown)
	}
	for name, p := range map[string]params{
		"no such type":   {"type": "x9"},
		"Duo's own":      {"type": "d1", "serial": "1"},
		"short secret":   {"type": "h6", "secret": "00112233"},
		"not hex":        {"type": "h6", "secret": strings.Repeat("zz", 20)},
		"not base32":     {"type": "h6", "secret_base32": strings.Repeat("1", 32)},
		"step for HOTP":  {"type": "h6", "totp_step": "30"},
		"unheard step":   {"type": "t6", "totp_step": "31"},
		"both encodings": {"type": "t6", "secret": strings.Repeat("00", 20), "secret_base32": strings.Repeat("A", 32)},
	} {
		if err := s.call(s.admin, "POST", "/admin/v1/tokens", p, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.call(s.admin, "POST", "/admin/v1/tokens", params{"type": "t6", "serial": made.Serial}, nil); code(err) != duoapi.CodeConflict {
		t.Errorf("serial in use: %v", err)
	}
	if err := s.call(s.admin, "POST", "/admin/v1/tokens", params{"type": "t6", "user_id": "DUNOBODY"}, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("token for nobody: %v", err)
	}
}

func TestHOTPResync(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	secret := []byte("12345678901234567890")
	var made struct {
		TokenID string `json:"token_id"`
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/tokens", params{
		"type": "h6", "secret": fmt.Sprintf("%x", secret), "user_id": alice, "counter": "5",
	}, &made))
	at := func(counter uint64) string {
		out, err := hotp.GenerateCodeCustom(base32.StdEncoding.EncodeToString(secret), counter,
			hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1})
		s.must(err)
		return out
	}
	resync := func(a, b, c uint64) error {
		return s.call(s.admin, "POST", "/admin/v1/tokens/"+made.TokenID+"/resync", params{"code1": at(a), "code2": at(b), "code3": at(c)}, nil)
	}
	use := func(counter uint64) string {
		var auth duoapi.Auth
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": at(counter)}, &auth))
		return auth.Result
	}
	if got := use(500); got != "deny" {
		t.Errorf("far ahead: %s", got)
	}
	for name, err := range map[string]error{
		"with a gap": resync(500, 501, 503), "reversed": resync(502, 501, 500), "too far": resync(5000, 5001, 5002), "behind": resync(1, 2, 3),
	} {
		if code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.must(resync(500, 501, 502))
	if got := use(502); got != "deny" {
		t.Errorf("a code that resync used: %s", got)
	}
	if got := use(503); got != "allow" {
		t.Errorf("the next code: %s", got)
	}
	if err := resync(600, 601, 602); err != nil {
		t.Error(err)
	}
}

func TestBypassCodes(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	path := "/admin/v1/users/" + alice + "/bypass_codes"
	use := func(c string) string {
		var auth duoapi.Auth
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": c}, &auth))
		return auth.Result
	}
	var first, second []string
	s.must(s.call(s.admin, "POST", path, params{"count": "2"}, &first))
	if len(first) != 2 || first[0] == first[1] || len(first[0]) != 9 {
		t.Fatalf("codes %q", first)
	}
	if a, b := use(first[0]), use(first[0]); a != "allow" || b != "deny" {
		t.Errorf("used twice: %s, %s", a, b)
	}
	s.must(s.call(s.admin, "POST", path, params{"codes": "111222333", "reuse_count": "2", "preserve_existing": "1"}, &second))
	if a, b, c := use("111222333"), use("111222333"), use("111222333"); a != "allow" || b != "allow" || c != "deny" {
		t.Errorf("good for two: %s, %s, %s", a, b, c)
	}
	if got := use(first[1]); got != "allow" {
		t.Errorf("preserved: %s", got)
	}
	var voided []string
	s.must(s.call(s.admin, "POST", path, params{"count": "1"}, &voided))
	s.must(s.call(s.admin, "POST", path, params{"count": "1", "valid_secs": "60"}, &second))
	if got := use(voided[0]); got != "deny" {
		t.Errorf("a code from before the last ones: %s", got)
	}
	var list []map[string]any
	s.must(s.call(s.admin, "GET", path, nil, &list))
	if len(list) != 1 {
		t.Errorf("%d codes after those before were voided", len(list))
	}
	s.clock.Add(2 * time.Minute)
	if got := use(second[0]); got != "deny" {
		t.Errorf("expired: %s", got)
	}
	for _, p := range []params{{"count": "11"}, {"codes": "123456"}, {"codes": "12345678a"}, {"codes": "123456789,123456789"}, {"count": "1", "codes": "123456789"}} {
		if err := s.call(s.admin, "POST", path, p, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%v: %v", p, err)
		}
	}
}

func TestPhones(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	var p map[string]any
	s.must(s.call(s.admin, "POST", "/admin/v1/phones", params{"number": "+1 (555) 123-4567", "type": "Mobile", "user_id": alice}, &p))
	if p["number"] != "+15551234567" || p["type"] != "Mobile" || p["activated"] != false {
		t.Errorf("phone %v", p)
	}
	path := "/admin/v1/phones/" + p["phone_id"].(string)
	for _, n := range []string{"5551234567", "+0555", "+1555123456789012", "+1555x", "0015551234567"} {
		if err := s.call(s.admin, "POST", path, params{"number": n}, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("number %q: %v", n, err)
		}
	}
	var list []map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/users/"+alice+"/phones", nil, &list))
	if len(list) != 1 {
		t.Errorf("phones of alice: %d", len(list))
	}
	s.must(s.call(s.admin, "DELETE", "/admin/v1/users/"+alice+"/phones/"+p["phone_id"].(string), nil, nil))
	if err := s.call(s.admin, "POST", path+"/activation_url", nil, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("activation of nobody's phone: %v", err)
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice+"/phones", params{"phone_id": p["phone_id"].(string)}, nil))
	var act map[string]any
	s.must(s.call(s.admin, "POST", path+"/activation_url", params{"valid_secs": "60"}, &act))
	if !strings.HasPrefix(act["activation_url"].(string), s.base.String()+"/sallyport/activate#sa1.") {
		t.Errorf("activation %v", act)
	}
	s.must(s.call(s.admin, "DELETE", path, nil, nil))
}

// Whoever may manage integrations gains nothing by it that they lack.
func TestGrantsCannotBeGained(t *testing.T) {
	s := newSite(t)
	weak := s.as(s.integration(store.AdminAPI, directory.IntegrationChange{Grants: map[string]bool{store.GrantIntegrations: true}}))
	admin := "/admin/v3/integrations/" + s.admin.IntegrationKey
	for name, err := range map[string]error{
		"create": s.call(weak, "POST", "/admin/v3/integrations", params{"type": "adminapi", "name": "x", store.GrantWriteResource: "1"}, nil),
		"update": s.call(weak, "POST", "/admin/v3/integrations/"+weak.IntegrationKey, params{store.GrantWriteResource: "1"}, nil),
		"reset":  s.call(weak, "POST", admin, params{"reset_secret_key": "1"}, nil),
		"delete": s.call(weak, "DELETE", admin, nil, nil),
	} {
		if code(err) != duoapi.CodeGrant {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.must(s.call(weak, "POST", "/admin/v3/integrations", params{"type": "authapi", "name": "x"}, nil))
}

func TestIntegrationParameters(t *testing.T) {
	s := newSite(t)
	for name, p := range map[string]params{
		"type":         {"type": "toaster", "name": "x"},
		"blank name":   {"type": "authapi", "name": " "},
		"v1 for admin": {"type": "adminapi", "name": "x", "allow_v1": "1"},
		"grant":        {"type": "authapi", "name": "x", store.GrantInfo: "1"},
		"network":      {"type": "authapi", "name": "x", "networks_for_api_access": "10.0.0.0/99"},
		"policy":       {"type": "authapi", "name": "x", "enroll_policy": "perhaps"},
		"access":       {"type": "authapi", "name": "x", "user_access": "SOME"},
		"group":        {"type": "authapi", "name": "x", "groups_allowed": "DG\x1b"},
		"range":        {"type": "authapi", "name": "x", "networks_for_api_access": "10.0.0.9-10.0.0.1"},
		"whitelist":    {"type": "authapi", "name": "x", "ip_whitelist": "everywhere"},
		"days":         {"type": "authapi", "name": "x", "trusted_device_days": "-1"},
		"enroll_url":   {"type": "authapi", "name": "x", "enroll_url": "javascript:alert(1)"},
	} {
		if err := s.call(s.admin, "POST", "/admin/v3/integrations", p, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%s: %v", name, err)
		}
	}
	made := s.integration(store.AuthAPI, directory.IntegrationChange{Networks: &[]string{"127.0.0.1", "::1"}})
	s.must(s.call(s.as(made), "GET", "/auth/v2/check", nil, nil))
}

func TestSettings(t *testing.T) {
	s := newSite(t)
	var got store.Settings
	s.must(s.call(s.admin, "POST", "/admin/v1/settings", params{"lockout_threshold": "3", "helpdesk_message": "call 1"}, &got))
	if got.LockoutThreshold != 3 || got.HelpdeskMessage != "call 1" || got.PushBudget != store.DefaultSettings().PushBudget {
		t.Errorf("settings %+v", got)
	}
	if err := s.call(s.admin, "POST", "/admin/v1/settings", params{"lockout_threshold": "0"}, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("threshold 0: %v", err)
	}
	alice := s.user("alice")
	s.must(s.call(s.admin, "POST", "/admin/v1/tokens", params{"type": "t6", "user_id": alice}, nil))
	for range 3 {
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": "000000"}, nil))
	}
	var u map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/users/"+alice, nil, &u))
	if u["status"] != "locked out" || u["lockout_reason"] == nil {
		t.Errorf("after three failures: %v, %v", u["status"], u["lockout_reason"])
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice, params{"status": "active"}, &u))
	if u["status"] != "active" || u["lockout_reason"] != nil {
		t.Errorf("unlocked: %v, %v", u["status"], u["lockout_reason"])
	}
}

// Each change has its entry in the administrator log, and no entry has a secret.
func TestChangesAreAudited(t *testing.T) {
	s := newSite(t)
	var secrets []string
	var out map[string]any
	post := func(path string, p params) map[string]any {
		out = nil
		s.must(s.call(s.admin, "POST", path, p, &out))
		for _, name := range []string{"secret", "secret_key", "activation_code", "token"} {
			if v, ok := out[name].(string); ok {
				secrets = append(secrets, v)
			}
		}
		return out
	}
	user := post("/admin/v1/users", params{"username": "alice"})["user_id"].(string)
	post("/admin/v1/users/"+user, params{"notes": "x"})
	phone := post("/admin/v1/phones", params{"user_id": user})["phone_id"].(string)
	post("/admin/v1/phones/"+phone, params{"name": "mine"})
	post("/admin/v1/phones/"+phone+"/activation_url", nil)
	token := post("/admin/v1/tokens", params{"type": "h6", "user_id": user})["token_id"].(string)
	key := post("/admin/v3/integrations", params{"type": "authapi", "name": "web"})["integration_key"].(string)
	post("/admin/v3/integrations/"+key, params{"reset_secret_key": "1"})
	post("/admin/v1/settings", params{"push_budget": "5"})
	post("/sallyport/v1/admin/host_tokens", nil)
	var codes []string
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+user+"/bypass_codes", params{"count": "1"}, &codes))
	secrets = append(secrets, codes...)
	for _, path := range []string{
		"/admin/v1/users/" + user + "/phones/" + phone, "/admin/v1/users/" + user + "/tokens/" + token,
		"/admin/v1/phones/" + phone, "/admin/v1/tokens/" + token, "/admin/v3/integrations/" + key, "/admin/v1/users/" + user,
	} {
		s.must(s.call(s.admin, "DELETE", path, nil, nil))
	}
	var log []struct{ Action, Username, Object, Description string }
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", nil, &log))
	seen := map[string]bool{}
	for _, e := range log {
		seen[e.Action] = true
		for _, secret := range secrets {
			if strings.Contains(e.Description, secret) || strings.Contains(e.Object, secret) {
				t.Errorf("%s tells a secret: %s", e.Action, e.Description)
			}
		}
	}
	for _, action := range []string{
		"user_create", "user_update", "user_delete", "phone_create", "phone_update", "phone_delete", "phone_associate", "phone_disassociate",
		"hardtoken_create", "hardtoken_associate", "hardtoken_disassociate", "hardtoken_delete", "bypass_create", "activation_create",
		"integration_create", "integration_update", "integration_delete", "settings_update", "host_token_create",
	} {
		if !seen[action] {
			t.Errorf("no entry for %s", action)
		}
	}
	if len(secrets) < 6 {
		t.Errorf("only %d secrets looked for", len(secrets))
	}
}

func TestAuthenticationLog(t *testing.T) {
	s := newSite(t)
	s.must(s.call(s.admin, "POST", "/admin/v1/tokens", params{"type": "t6", "user_id": s.user("alice")}, nil))
	for range 5 {
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": "000000", "ipaddr": "192.0.2.7"}, nil))
	}
	type page struct {
		Authlogs []store.Event
		Metadata struct {
			NextOffset []string `json:"next_offset"`
		}
	}
	seen := map[string]bool{}
	query := params{"limit": "2", "mintime": "0", "maxtime": fmt.Sprint(time.Now().Add(time.Minute).UnixMilli()), "sort": "ts:asc"}
	for range 3 {
		var p page
		s.must(s.call(s.admin, "GET", "/admin/v2/logs/authentication", query, &p))
		for _, e := range p.Authlogs {
			if seen[e.TxID] {
				t.Errorf("%s comes twice", e.TxID)
			}
			seen[e.TxID] = true
			if e.User.Name != "alice" || e.Result != "denied" || e.AccessDevice.IP != "192.0.2.7" {
				t.Errorf("event %+v", e)
			}
		}
		query["next_offset"] = strings.Join(p.Metadata.NextOffset, ",")
	}
	if len(seen) != 5 || query["next_offset"] != "" {
		t.Errorf("%d events, then %q", len(seen), query["next_offset"])
	}
	var none page
	s.must(s.call(s.admin, "GET", "/admin/v2/logs/authentication", params{"results": "success"}, &none))
	if len(none.Authlogs) != 0 {
		t.Errorf("%d successes", len(none.Authlogs))
	}
	var v1 []map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/authentication", nil, &v1))
	if len(v1) != 5 || v1[0]["result"] != "FAILURE" || v1[0]["username"] != "alice" {
		t.Errorf("version 1: %d, %v", len(v1), v1)
	}
}

func TestSummary(t *testing.T) {
	s := newSite(t)
	s.user("alice")
	var out map[string]int
	s.must(s.call(s.admin, "GET", "/admin/v1/info/summary", nil, &out))
	if out["user_count"] != 1 || out["integration_count"] != 2 {
		t.Errorf("summary %v", out)
	}
}
