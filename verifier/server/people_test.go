// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func TestYubiKeys(t *testing.T) {
	s := newSite(t)
	const private, aes = "0102030405FF", "000102030405060708090a0b0c0d0e0f"
	var made map[string]any
	s.must(s.call(s.admin, "POST", "/admin/v1/tokens", params{
		"type": "yk", "serial": "1234567", "private_id": private, "aes_key": aes, "user_id": s.user("alice"),
	}, &made))
	if made["type"] != "yk" || made["serial"] != "1234567" || made["totp_step"] != nil || made["secret"] != nil || made["uri"] != nil {
		t.Errorf("made %v", made)
	}
	var kept store.Token
	s.must(s.store.View(t.Context(), func(r store.Reader) (err error) {
		kept, err = r.Token(made["token_id"].(string))
		return err
	}))
	secret, err := factor.OpenYubiKey(s.keys, kept)
	s.must(err)
	if secret.PrivateID != [6]byte{1, 2, 3, 4, 5, 0xff} || !bytes.Equal(secret.AESKey[14:], []byte{14, 15}) || kept.Counter != 0 {
		t.Errorf("kept %+v with %v", kept, secret)
	}
	for name, p := range map[string]params{
		"no serial":         {"private_id": private, "aes_key": aes},
		"no private_id":     {"serial": "2", "aes_key": aes},
		"no aes_key":        {"serial": "2", "private_id": private},
		"neither":           {"serial": "2"},
		"short private_id":  {"serial": "2", "private_id": "01", "aes_key": aes},
		"aes_key not hex":   {"serial": "2", "private_id": private, "aes_key": strings.Repeat("zz", 16)},
		"a secret":          {"serial": "2", "private_id": private, "aes_key": aes, "secret": strings.Repeat("00", 20)},
		"a counter":         {"serial": "2", "private_id": private, "aes_key": aes, "counter": "1"},
		"a step":            {"serial": "2", "private_id": private, "aes_key": aes, "totp_step": "30"},
		"for another type":  {"type": "h6", "private_id": private, "aes_key": aes},
		"serial with a tab": {"serial": "2\t", "private_id": private, "aes_key": aes},
	} {
		if p["type"] == "" {
			p["type"] = "yk"
		}
		got := code(s.call(s.admin, "POST", "/admin/v1/tokens", p, nil))
		if want := duoapi.CodeInvalidParameter; got != want && (!strings.HasPrefix(name, "n") || got != duoapi.CodeMissingParameter) {
			t.Errorf("%s: %d", name, got)
		}
	}
	path := "/admin/v1/tokens/" + kept.ID
	if err := s.call(s.admin, "POST", path+"/resync", params{"code1": "1", "code2": "2", "code3": "3"}, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("resync: %v", err)
	}
	if err := s.call(s.admin, "POST", path, params{"totp_step": "30"}, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("step: %v", err)
	}
}

// raw is an object as it came, so that null and what is not there can be told apart.
func (s *site) raw(method, path string, p params) map[string]json.RawMessage {
	s.t.Helper()
	out := map[string]json.RawMessage{}
	s.must(s.call(s.admin, method, path, p, &out))
	return out
}

// fieldsAre compares fields with their JSON text.
func fieldsAre(t *testing.T, what string, got map[string]json.RawMessage, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if string(got[name]) != value {
			t.Errorf("%s: %s is %s, want %s", what, name, got[name], value)
		}
	}
}

// Fields have the types that clients expect: null, "", numbers, texts.
func TestTypesOfPeople(t *testing.T) {
	s := newSite(t)
	u := s.raw("POST", "/admin/v1/users", params{"username": "alice", "alias2": "al"})
	created := fmt.Sprint(s.clock.Now().Unix())
	fieldsAre(t, "user", u, map[string]string{
		"alias1": "null", "alias2": `"al"`, "alias3": "null", "alias4": "null", "aliases": `{"alias2":"al"}`,
		"realname": `""`, "firstname": `""`, "lastname": `""`, "email": `""`, "notes": `""`, "status": `"active"`,
		"last_login": "null", "last_directory_sync": "null", "is_enrolled": "false", "lockout_reason": "null",
		"groups": "[]", "phones": "[]", "tokens": "[]", "u2ftokens": "[]", "webauthncredentials": "[]",
		"desktoptokens": "[]", "desktop_authenticators": "[]", "custom_attributes": "{}",
	})
	if got := string(u["created"]); got[:len(got)-2] != created[:len(created)-2] || strings.Contains(got, ".") {
		t.Errorf("created %s, now is %s", got, created)
	}
	phone := s.raw("POST", "/admin/v1/phones", params{"number": "+15551234567", "extension": "12", "predelay": "5"})
	fieldsAre(t, "phone", phone, map[string]string{
		"number": `"+15551234567"`, "extension": `"12"`, "predelay": `"5"`, "postdelay": "null", "type": `"Unknown"`, "platform": `"Unknown"`,
		"activated": "false", "encrypted": `""`, "fingerprint": `""`, "screenlock": `""`, "last_seen": `""`, "sms_passcodes_sent": "false",
		"capabilities": `["phone"]`, "users": "[]", "name": `""`, "model": `""`,
	})
	changed := s.raw("POST", "/admin/v1/phones/"+unquote(phone["phone_id"]), params{"predelay": "", "postdelay": "9", "type": "Landline"})
	fieldsAre(t, "phone", changed, map[string]string{"predelay": "null", "postdelay": `"9"`, "type": `"Landline"`})
	hotp := s.raw("POST", "/admin/v1/tokens", params{"type": "h6", "serial": "1"})
	fieldsAre(t, "token", hotp, map[string]string{"type": `"h6"`, "serial": `"1"`, "totp_step": "null", "users": "[]", "admins": "[]"})
	totp := s.raw("POST", "/admin/v1/tokens", params{"type": "t8", "totp_step": "60"})
	fieldsAre(t, "token", totp, map[string]string{"type": `"t8"`, "totp_step": "60"})
}

func unquote(b json.RawMessage) string { return strings.Trim(string(b), `"`) }

func TestCustomAttributes(t *testing.T) {
	s := newSite(t)
	u := s.raw("POST", "/admin/v1/users", params{"username": "alice", "custom_attributes.cost centre": "42", "custom_attributes.x": "y"})
	path := "/admin/v1/users/" + unquote(u["user_id"])
	fieldsAre(t, "made", u, map[string]string{"custom_attributes": `{"cost centre":"42","x":"y"}`})
	u = s.raw("POST", path, params{"custom_attributes.x": "", "custom_attributes.z": "1"})
	fieldsAre(t, "changed", u, map[string]string{"custom_attributes": `{"cost centre":"42","z":"1"}`})
	u = s.raw("POST", path, params{"notes": "n"})
	fieldsAre(t, "left", u, map[string]string{"custom_attributes": `{"cost centre":"42","z":"1"}`})
	many := params{}
	for i := range directory.MaxAttributes + 1 {
		many[fmt.Sprintf("custom_attributes.%d", i)] = "x"
	}
	for name, p := range map[string]params{
		"no name": {"custom_attributes.": "x"}, "control": {"custom_attributes.a\tb": "x"}, "long": {"custom_attributes.x": strings.Repeat("x", 2000)}, "many": many,
	} {
		if err := s.call(s.admin, "POST", path, p, nil); code(err) != duoapi.CodeInvalidParameter || !strings.Contains(err.Error(), "custom_attributes.") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBulkCreate(t *testing.T) {
	s := newSite(t)
	var made []map[string]any
	s.must(s.call(s.admin, "POST", "/admin/v1/users/bulk_create", params{
		"users": `[{"username":"alice","alias1":"al","status":"bypass"},{"username":"bob","email":"b@example.org"}]`,
	}, &made))
	if len(made) != 2 || made[0]["username"] != "alice" || made[0]["alias1"] != "al" || made[0]["status"] != "bypass" || made[1]["email"] != "b@example.org" {
		t.Errorf("made %v", made)
	}
	var many []string
	for i := range 101 {
		many = append(many, fmt.Sprintf(`{"username":"u%d"}`, i))
	}
	for _, c := range []struct {
		users, detail string
		want          int
	}{
		{`[{"username":"carol"},{"username":"bob"}]`, "users[1]", duoapi.CodeConflict},
		{`[{"username":"carol"},{"username":"CAROL"}]`, "users[1]", duoapi.CodeConflict},
		{`[{"username":"carol"},{}]`, "users[1]: username", duoapi.CodeMissingParameter},
		{`[{"username":"carol","status":"locked out"}]`, "users[0]: status", duoapi.CodeInvalidParameter},
		{`[{"username":"carol","alias1":"c\u0000"}]`, "users[0]: alias1", duoapi.CodeInvalidParameter},
		{`["carol"]`, "users[0]", duoapi.CodeInvalidParameter},
		{`{"username":"carol"}`, "users", duoapi.CodeInvalidParameter},
		{`[]`, "users", duoapi.CodeInvalidParameter},
		{"[" + strings.Join(many, ",") + "]", "users: more than 100", duoapi.CodeInvalidParameter},
	} {
		err := s.call(s.admin, "POST", "/admin/v1/users/bulk_create", params{"users": c.users}, nil)
		if code(err) != c.want || !strings.Contains(err.Error(), c.detail) {
			t.Errorf("%.60s: %v", c.users, err)
		}
	}
	var all []map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/users", nil, &all))
	if len(all) != 2 {
		t.Errorf("%d users after calls that failed, want the 2 of before", len(all))
	}
}

func TestTrash(t *testing.T) {
	s := newSite(t)
	alice, bob := s.user("alice"), s.user("bob")
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+bob, params{"status": "bypass"}, nil))
	login := func(name string) string {
		var out duoapi.Auth
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": name, "factor": "passcode", "passcode": "000000"}, &out))
		return out.Result
	}
	ids := toJSON(t, []string{alice, bob})
	if got := login("bob"); got != "allow" {
		t.Fatalf("bob in bypass: %s", got)
	}
	s.group("night shift", store.Bypass, alice, bob) // a group lets nobody out of the trash
	if got := login("alice"); got != "allow" {
		t.Fatalf("alice in a bypass group: %s", got)
	}
	var users []map[string]any
	s.must(s.call(s.admin, "POST", "/admin/v1/users/bulk_send_to_trash", params{"user_id_list": ids}, &users))
	if got := login("alice"); got != "deny" {
		t.Errorf("alice in the trash: %s", got)
	}
	for _, u := range users {
		if u["status"] != "pending deletion" {
			t.Errorf("%v is %v", u["username"], u["status"])
		}
	}
	var counts map[string]int
	s.must(s.call(s.admin, "GET", "/admin/v1/info/summary", nil, &counts))
	if counts["user_pending_deletion_count"] != 2 {
		t.Errorf("summary %v", counts)
	}
	if got := login("bob"); got != "deny" || len(users) != 2 {
		t.Errorf("bob in the trash: %s; %d users", got, len(users))
	}
	var pre duoapi.Preauth
	s.must(s.call(s.auth, "POST", "/auth/v2/preauth", params{"username": "bob"}, &pre))
	if pre.Result != "deny" {
		t.Errorf("preauth of bob in the trash: %+v", pre)
	}
	if err := s.call(s.admin, "POST", "/admin/v1/users/"+bob, params{"status": "active"}, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("a status in the trash: %v", err)
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+bob, params{"notes": "was here"}, nil))
	s.must(s.call(s.admin, "POST", "/admin/v1/users/bulk_send_to_trash", params{"user_id_list": ids}, nil)) // nothing more
	s.must(s.call(s.admin, "POST", "/admin/v1/users/bulk_restore", params{"user_id_list": toJSON(t, []string{bob})}, &users))
	if got := login("bob"); got != "allow" || len(users) != 1 || users[0]["status"] != "bypass" {
		t.Errorf("bob restored: %s, %v", got, users)
	}
	for name, c := range map[string]struct {
		path, list string
		want       int
	}{
		"restore who is not there":  {"bulk_restore", toJSON(t, []string{alice, bob}), duoapi.CodeInvalidParameter},
		"restore nobody":            {"bulk_restore", `["DUX"]`, duoapi.CodeNotFound},
		"trash nobody beside alice": {"bulk_send_to_trash", toJSON(t, []string{bob, "DUX"}), duoapi.CodeNotFound},
		"no list":                   {"bulk_restore", "", duoapi.CodeMissingParameter},
	} {
		if err := s.call(s.admin, "POST", "/admin/v1/users/"+c.path, params{"user_id_list": c.list}, nil); code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	s.must(s.dir.EmptyTrash(t.Context()))
	s.clock.Add(6 * 24 * time.Hour)
	s.must(s.dir.EmptyTrash(t.Context()))
	s.must(s.call(s.admin, "GET", "/admin/v1/users/"+alice, nil, nil))
	s.clock.Add(25 * time.Hour)
	s.must(s.dir.EmptyTrash(t.Context()))
	if err := s.call(s.admin, "GET", "/admin/v1/users/"+alice, nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("after its days: %v", err)
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/users/"+bob, nil, nil))
	s.must(s.call(s.admin, "POST", "/admin/v1/settings", params{"pending_deletion_days": "0"}, nil))
	s.must(s.call(s.admin, "POST", "/admin/v1/users/bulk_send_to_trash", params{"user_id_list": toJSON(t, []string{bob})}, &users))
	if err := s.call(s.admin, "GET", "/admin/v1/users/"+bob, nil, nil); code(err) != duoapi.CodeNotFound || len(users) != 1 {
		t.Errorf("at once: %v, %v", err, users)
	}
	var log []map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", params{"mintime": "0"}, &log))
	var actions []string
	for _, e := range log {
		if a := e["action"].(string); e["object"] != "" && strings.HasPrefix(a, "user_") {
			actions = append(actions, fmt.Sprintf("%s %s by %s", a, e["object"], e["username"]))
		}
	}
	by := "Admin API"
	for _, e := range log {
		if e["action"] == "user_restore" {
			by = e["username"].(string)
		}
	}
	for _, want := range []string{"user_pending_delete alice by " + by, "user_restore bob by " + by, "user_delete alice by Sallyport", "user_delete bob by " + by} {
		if !slices.Contains(actions, want) {
			t.Errorf("no %q in the administrator log: %q", want, actions)
		}
	}
}

func TestBulkOperations(t *testing.T) {
	s := newSite(t)
	bob := s.user("bob")
	var answers []duoapi.Envelope
	s.must(s.call(s.admin, "POST", "/admin/v1/bulk", params{"operations": toJSON(t, []map[string]any{
		{"method": "POST", "path": "/admin/v1/users", "body": map[string]string{"username": "alice"}},
		{"method": "POST", "path": "/admin/v1/users", "body": map[string]string{"username": "bob"}},
		{"method": "POST", "path": "/admin/v1/users/" + bob, "body": map[string]string{"notes": "n"}},
		{"method": "POST", "path": "/admin/v1/users/" + bob + "/phones", "body": map[string]string{}},
		{"method": "GET", "path": "/admin/v1/users"},
		{"method": "POST", "path": "/admin/v1/users/bulk_create", "body": map[string]string{}},
		{"method": "DELETE", "path": "/admin/v1/users/" + bob},
		{"method": "DELETE", "path": "/admin/v1/users/" + bob},
		{"method": "POST", "path": "/admin/v1/integrations", "body": map[string]string{"name": "x", "type": "adminapi"}},
	})}, &answers))
	var codes []int
	for _, a := range answers {
		codes = append(codes, a.Code)
	}
	want := []int{0, duoapi.CodeConflict, 0, duoapi.CodeInvalidParameter, duoapi.CodeInvalidParameter, duoapi.CodeInvalidParameter, 0, duoapi.CodeNotFound, duoapi.CodeInvalidParameter}
	if !reflect.DeepEqual(codes, want) {
		t.Fatalf("codes %v, want %v", codes, want)
	}
	var u map[string]any
	s.must(json.Unmarshal(answers[2].Response, &u))
	if u["notes"] != "n" || answers[0].Stat != "OK" || answers[1].Stat != "FAIL" {
		t.Errorf("answers %+v", answers)
	}
	for _, p := range []params{{"operations": "[]"}, {"operations": "x"}, {"operations": "[" + strings.Repeat("{},", 50) + "{}]"}} {
		if err := s.call(s.admin, "POST", "/admin/v1/bulk", p, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%.20s: %v", p, err)
		}
	}
	reader := s.as(s.integration(store.AdminAPI, directory.IntegrationChange{Grants: map[string]bool{store.GrantReadResource: true}}))
	if err := s.call(reader, "POST", "/admin/v1/bulk", params{"operations": `[{"method":"POST","path":"/admin/v1/users"}]`}, nil); code(err) != duoapi.CodeGrant {
		t.Errorf("without the grant: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	key, da := s.webauthn(alice), s.desktopAuthenticator(alice)
	for _, c := range []struct{ list, one, mine, idName, id string }{
		{"webauthncredentials", "webauthncredentials", "webauthncredentials", "webauthnkey", key},
		{"desktop_authenticators", "desktop_authenticators", "desktopauthenticators", "dakey", da},
	} {
		for _, path := range []string{"/admin/v1/" + c.list, "/admin/v1/users/" + alice + "/" + c.mine} {
			var list []map[string]any
			s.must(s.call(s.admin, "GET", path, nil, &list))
			if len(list) != 1 || list[0][c.idName] != c.id {
				t.Errorf("%s: %v", path, list)
			}
			user, _ := list[0]["user"].(map[string]any)
			if all := !strings.Contains(path, "users"); all != (user["username"] == "alice") {
				t.Errorf("%s: its user is %v", path, list[0]["user"])
			}
		}
		path := "/admin/v1/" + c.one + "/" + c.id
		if one := s.raw("GET", path, nil); unquote(one[c.idName]) != c.id || one["user"] == nil {
			t.Errorf("%s: %v", path, one)
		}
	}
	u := s.raw("GET", "/admin/v1/users/"+alice, nil)
	if !strings.Contains(string(u["webauthncredentials"]), `"label":"Security Key"`) || !strings.Contains(string(u["desktop_authenticators"]), `"device_name":"pc"`) {
		t.Errorf("user %s %s", u["webauthncredentials"], u["desktop_authenticators"])
	}
	for _, path := range []string{"/admin/v1/webauthncredentials/" + key, "/admin/v1/desktop_authenticators/" + da} {
		s.must(s.call(s.admin, "DELETE", path, nil, nil))
		for _, method := range []string{"GET", "DELETE"} {
			if err := s.call(s.admin, method, path, nil, nil); code(err) != duoapi.CodeNotFound {
				t.Errorf("%s %s, removed: %v", method, path, err)
			}
		}
	}
	var none []any
	s.must(s.call(s.admin, "GET", "/admin/v1/u2ftokens", nil, &none))
	if none == nil || len(none) != 0 {
		t.Errorf("U2F tokens %v", none)
	}
	if err := s.call(s.admin, "GET", "/admin/v1/u2ftokens/1", nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("a U2F token: %v", err)
	}
}

func TestDesktopTokens(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	d := s.raw("POST", "/admin/v1/desktoptokens", params{"platform": "linux", "name": "pc"})
	fieldsAre(t, "desktop token", d, map[string]string{"name": `"pc"`, "platform": `"linux"`, "type": `"Desktop Token"`, "users": "[]", "activated": "false"})
	id := unquote(d["desktoptoken_id"])
	path := "/admin/v1/desktoptokens/" + id
	if err := s.call(s.admin, "POST", path+"/activate", nil, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("nobody's: %v", err)
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice+"/phones", params{"phone_id": id}, nil))
	d = s.raw("POST", path, params{"name": "laptop"})
	if !strings.Contains(string(d["users"]), `"alice"`) || unquote(d["name"]) != "laptop" {
		t.Errorf("changed %v", d)
	}
	var phones []any
	for _, list := range []string{"/admin/v1/phones", "/admin/v1/users/" + alice + "/phones"} {
		if s.must(s.call(s.admin, "GET", list, nil, &phones)); len(phones) != 0 {
			t.Errorf("%s has the desktop token: %v", list, phones)
		}
	}
	if err := s.call(s.admin, "GET", "/admin/v1/phones/"+id, nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("a desktop token as a phone: %v", err)
	}
	if err := s.call(s.admin, "GET", "/admin/v1/desktoptokens/"+s.newPhone(), nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("a phone as a desktop token: %v", err)
	}
	act := s.raw("POST", path+"/activate", params{"valid_secs": "60"})
	fieldsAre(t, "activation", act, map[string]string{"valid_secs": "60"})
	key, err := keyproof.GenerateKey()
	s.must(err)
	s.must(s.activate(key, unquote(act["activation_code"]), nil))
	u := s.raw("GET", "/admin/v1/users/"+alice, nil)
	if !strings.Contains(string(u["desktoptokens"]), `"activated":true`) || string(u["is_enrolled"]) != "true" || string(u["phones"]) != "[]" {
		t.Errorf("after the activation: %s", u["desktoptokens"])
	}
	var pre duoapi.Preauth
	s.must(s.call(s.auth, "POST", "/auth/v2/preauth", params{"username": "alice", "client_supports_verified_push": "1"}, &pre))
	if len(pre.Devices) != 1 || pre.Devices[0].Device != id {
		t.Errorf("preauth %+v", pre)
	}
	s.must(s.call(s.admin, "DELETE", path, nil, nil))
}

// orders is a telephony provider that keeps what it was asked for; down, it takes nothing.
type orders struct {
	sent []map[string]string
	down bool
}

func (o *orders) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var order map[string]string
	_ = json.NewDecoder(r.Body).Decode(&order)
	if o.sent = append(o.sent, order); o.down {
		w.WriteHeader(http.StatusBadRequest)
	}
}

func TestTextsToPhones(t *testing.T) {
	o := &orders{}
	hook := httptest.NewServer(o)
	t.Cleanup(hook.Close)
	s := newSiteWith(t, func(c *server.Config, l *login.Config) {
		c.Telephony, _ = newProvider(t, hook.URL)
		l.Telephony = c.Telephony
	})
	alice := s.user("alice")
	phone := s.raw("POST", "/admin/v1/phones", params{"number": "+15551234567", "type": "mobile", "user_id": alice})
	path := "/admin/v1/phones/" + unquote(phone["phone_id"])
	var out map[string]any
	last := func() string {
		t.Helper()
		if len(o.sent) == 0 {
			t.Fatal("nothing was sent")
		}
		m := o.sent[len(o.sent)-1]
		if m["type"] != "sms" || m["number"] != "+15551234567" {
			t.Errorf("sent %v", m)
		}
		return m["text"]
	}

	s.must(s.call(s.admin, "POST", path+"/send_sms_activation", params{"activation_msg": "Go to <acturl> now", "valid_secs": "60"}, &out))
	link, _ := out["activation_url"].(string)
	if got := last(); got != "Go to "+link+" now" || link == "" || out["activation_msg"] != got || out["valid_secs"] != 60.0 || out["installation_msg"] != nil {
		t.Errorf("sent %q, answered %v", got, out)
	}
	key, err := keyproof.GenerateKey()
	s.must(err)
	s.must(s.activate(key, out["activation_code"].(string), nil))

	o.sent = nil
	s.must(s.call(s.admin, "POST", path+"/send_sms_activation", params{"install": "1"}, &out))
	if len(o.sent) != 2 || o.sent[0]["text"] != out["installation_msg"] || !strings.Contains(last(), "sa1.") {
		t.Errorf("sent %v, answered %v", o.sent, out)
	}
	out = nil
	s.must(s.call(s.admin, "POST", path+"/send_sms_installation", params{"installation_msg": "at <insturl>"}, &out))
	if got := last(); got != "at "+s.dir.InstallationURL() || out["installation_msg"] != got {
		t.Errorf("sent %q, answered %v", got, out)
	}

	s.must(s.call(s.admin, "POST", "/admin/v1/settings", params{"sms_batch": "3"}, nil))
	s.must(s.call(s.admin, "POST", path+"/send_sms_passcodes", nil, nil))
	codes := regexp.MustCompile(`[0-9]+`).FindAllString(last(), -1)
	if len(codes) != 3 {
		t.Fatalf("passcodes in %q", last())
	}
	if u := s.raw("GET", "/admin/v1/users/"+alice, nil); !strings.Contains(string(u["phones"]), `"sms_passcodes_sent":true`) {
		t.Errorf("phones %s", u["phones"])
	}
	for i, want := range []string{"allow", "deny", "allow"} {
		var auth duoapi.Auth
		s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": codes[i/2]}, &auth))
		if auth.Result != want {
			t.Errorf("passcode %d: %+v", i, auth)
		}
		s.clock.Add(time.Minute) // whoever failed waits
	}

	before := len(o.sent)
	landline := s.raw("POST", "/admin/v1/phones", params{"number": "+15551234568", "type": "landline", "user_id": alice})
	ownerless := s.raw("POST", "/admin/v1/phones", params{"number": "+15551234569"})
	for name, c := range map[string]struct {
		path string
		p    params
	}{
		"no place for the link": {path + "/send_sms_activation", params{"activation_msg": "hello"}},
		"no place for the page": {path + "/send_sms_installation", params{"installation_msg": "hello"}},
		"control characters":    {path + "/send_sms_activation", params{"activation_msg": "<acturl>\x1b[2J"}},
		"a landline":            {"/admin/v1/phones/" + unquote(landline["phone_id"]) + "/send_sms_passcodes", nil},
		"nobody's, activation":  {"/admin/v1/phones/" + unquote(ownerless["phone_id"]) + "/send_sms_activation", nil},
		"nobody's, passcodes":   {"/admin/v1/phones/" + unquote(ownerless["phone_id"]) + "/send_sms_passcodes", nil},
	} {
		if err := s.call(s.admin, "POST", c.path, c.p, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(o.sent) != before {
		t.Errorf("sent %v", o.sent[before:])
	}
	s.must(s.store.Update(t.Context(), func(w store.Writer) error { return w.SetCredits(0) }))
	if err := s.call(s.admin, "POST", path+"/send_sms_passcodes", nil, nil); code(err) != duoapi.CodeNotSent || len(o.sent) != before {
		t.Errorf("without credits: %v, sent %v", err, o.sent[before:])
	}
	s.must(s.store.Update(t.Context(), func(w store.Writer) error { return w.SetCredits(5) }))
	o.down = true
	if err := s.call(s.admin, "POST", path+"/send_sms_passcodes", nil, nil); code(err) != duoapi.CodeNotSent {
		t.Errorf("a provider that takes nothing: %v", err)
	}
	s.must(s.store.View(t.Context(), func(r store.Reader) error {
		c, err := r.Credits()
		if c.Left != 5 {
			t.Errorf("%d credits left of 5 after a message that the provider refused", c.Left)
		}
		return err
	}))
	var log []map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", params{"mintime": "0"}, &log))
	kinds := map[string]int{}
	for _, e := range log {
		if e["action"] == "phone_send_sms" {
			for _, kind := range []string{"passcodes", "activation", "installation"} {
				if strings.Contains(e["description"].(string), `"message":"`+kind+`"`) {
					kinds[kind]++
				}
			}
		}
		if strings.Contains(fmt.Sprint(e), "sa1.") || strings.Contains(fmt.Sprint(e), codes[0]) {
			t.Errorf("a secret in the administrator log: %v", e)
		}
	}
	if !reflect.DeepEqual(kinds, map[string]int{"passcodes": 2, "activation": 2, "installation": 2}) {
		t.Errorf("entries %v", kinds)
	}

	off := newSite(t)
	if err := off.call(off.admin, "POST", "/admin/v1/phones/"+off.newPhone()+"/send_sms_passcodes", nil, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("without telephony: %v", err)
	}
}

func TestVerificationPush(t *testing.T) {
	s := newSite(t)
	s.must(s.call(s.admin, "POST", "/admin/v1/settings", params{"push_delay": "0"}, nil))
	alice := s.user("alice")
	key, phone := s.authenticator(alice)
	path := "/admin/v1/users/" + alice
	push := func() (id, digits string) {
		var out map[string]string
		s.must(s.call(s.admin, "POST", path+"/send_verification_push", params{"phone_id": phone}, &out))
		return out["push_id"], out["confirmation_code"]
	}
	result := func(id string) string {
		var out map[string]string
		s.must(s.call(s.admin, "GET", path+"/verification_push_response", params{"push_id": id}, &out))
		if out["push_id"] != id {
			t.Errorf("answer %v", out)
		}
		return out["result"]
	}
	for decision, want := range map[string]string{login.Approve: "approve", login.Deny: "deny", login.Fraud: "fraud"} {
		s.must(s.call(s.admin, "POST", path, params{"status": "active"}, nil))
		id, digits := push()
		if got := result(id); got != "waiting" || len(digits) != 6 {
			t.Errorf("at first %s, %q", got, digits)
		}
		s.answerPush(key, phone, id, decision, digits)
		if got := result(id); got != want {
			t.Errorf("after %s: %s", decision, got)
		}
	}
	s.must(s.call(s.admin, "POST", path, params{"status": "active"}, nil))
	// Nobody logs in by it: no policy turns the right answer into a refusal.
	var global struct {
		Key string `json:"policy_key"`
	}
	s.must(s.call(s.admin, "GET", "/admin/v2/policies/global", nil, &global))
	s.must(s.json("PUT", "/admin/v2/policies/"+global.Key, object{"sections": object{"authentication_policy": object{"user_auth_behavior": "deny"}}}, nil))
	denied, digits := push()
	s.answerPush(key, phone, denied, login.Approve, digits)
	if got := result(denied); got != "approve" {
		t.Errorf("approved where policy denies logins: %s", got)
	}
	id, _ := push()
	s.clock.Add(2 * time.Minute)
	if got := result(id); got != "timeout" {
		t.Errorf("after its time: %s", got)
	}
	bob := s.user("bob")
	other := s.as(s.integration(store.AdminAPI, directory.IntegrationChange{Grants: map[string]bool{store.GrantReadResource: true, store.GrantWriteResource: true}}))
	for name, err := range map[string]error{
		"a phone of nobody":     s.call(s.admin, "POST", path+"/send_verification_push", params{"phone_id": "DPX"}, nil),
		"another's phone":       s.call(s.admin, "POST", "/admin/v1/users/"+bob+"/send_verification_push", params{"phone_id": phone}, nil),
		"another user's push":   s.call(s.admin, "GET", "/admin/v1/users/"+bob+"/verification_push_response", params{"push_id": id}, nil),
		"another's integration": s.call(other, "GET", path+"/verification_push_response", params{"push_id": id}, nil),
	} {
		if code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := s.call(s.admin, "POST", "/admin/v1/users/DUX/send_verification_push", params{"phone_id": phone}, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("nobody: %v", err)
	}
	s.must(s.call(s.admin, "POST", path, params{"status": "disabled"}, nil))
	if err := s.call(s.admin, "POST", path+"/send_verification_push", params{"phone_id": phone}, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("a disabled user: %v", err)
	}
}

func TestEnrollForAsLongAsThereIs(t *testing.T) {
	s := newSite(t)
	var activation string
	s.must(s.call(s.admin, "POST", "/admin/v1/users/enroll", params{"username": "alice", "email": "a@example.org", "valid_secs": "0"}, &activation))
	s.clock.Add((directory.MaxActivationSecs - 60) * time.Second)
	key, err := keyproof.GenerateKey()
	s.must(err)
	s.must(s.activate(key, activation, nil))
}

func TestBypassCodesAreNotTied(t *testing.T) {
	s := newSite(t)
	path := "/admin/v1/users/" + s.user("alice") + "/bypass_codes"
	s.must(s.call(s.admin, "POST", path, params{"count": "1", "endpoint_verification": "0"}, nil))
	if err := s.call(s.admin, "POST", path, params{"count": "1", "endpoint_verification": "true"}, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("tied to trusted endpoints: %v", err)
	}
}

// answerPush answers the push that waits for the phone.
func (s *site) answerPush(key *ecdsa.PrivateKey, phone, txID, decision, digits string) {
	s.t.Helper()
	var list struct {
		Transactions []struct {
			TxID, Context string
			Verified      bool
		}
	}
	s.must(s.proved(key, phone, "GET", "/sallyport/v1/authenticator/transactions?wait=5", "", &list, nil))
	if len(list.Transactions) != 1 || list.Transactions[0].TxID != txID || !list.Transactions[0].Verified ||
		!strings.Contains(list.Transactions[0].Context, "Identity verification") {
		s.t.Fatalf("transactions %+v, want %s", list, txID)
	}
	s.must(pending{txID: txID, phone: phone, code: digits, context: list.Transactions[0].Context, key: key}.answer(s, decision, digits))
}

// Who was enrolled with bypass codes logs in with one before the phone is activated.
func TestBypassCodeBeforeActivation(t *testing.T) {
	s := newSite(t)
	var e struct {
		BypassCodes []string `json:"bypass_codes"`
	}
	s.must(s.call(s.auth, "POST", "/auth/v2/enroll", params{"username": "alice", "bypass_codes": "1"}, &e))
	var pre duoapi.Preauth
	s.must(s.call(s.auth, "POST", "/auth/v2/preauth", params{"username": "alice"}, &pre))
	var auth duoapi.Auth
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": e.BypassCodes[0]}, &auth))
	if pre.Result != duoapi.ResultAuth || auth.Result != duoapi.ResultAllow {
		t.Errorf("preauth %+v, auth %+v", pre, auth)
	}
}
