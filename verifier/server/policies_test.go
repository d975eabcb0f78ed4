// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/pquerna/otp/totp"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// policy makes a policy with these sections and returns its key.
func (s *site) policy(name, sections string) string {
	s.t.Helper()
	var given map[string]json.RawMessage
	s.must(json.Unmarshal([]byte(sections), &given))
	p, err := s.dir.CreatePolicy(s.t.Context(), directory.Actor{Name: "test"}, directory.PolicyChange{Name: &name, Sections: given})
	s.must(err)
	return p.ID
}

// put puts a policy on the application of s.auth, or on groups there.
func (s *site) put(policy string, groups ...string) {
	s.t.Helper()
	_, err := s.dir.UpdatePolicy(s.t.Context(), directory.Actor{Name: "test"}, policy, directory.PolicyChange{
		Put: []directory.PolicyPlace{{IntegrationKey: s.auth.IntegrationKey, GroupIDs: groups}},
	})
	s.must(err)
}

// json calls with a JSON body, as clients of policies do.
func (s *site) json(method, path string, body, out any) error {
	s.t.Helper()
	_, err := s.admin.CallJSON(s.t.Context(), method, path, body, out)
	return err
}

type policyAnswer struct {
	Key      string                     `json:"policy_key"`
	Name     string                     `json:"policy_name"`
	Global   bool                       `json:"is_global_policy"`
	Sections map[string]json.RawMessage `json:"sections"`
}

type object = map[string]any

func TestPolicies(t *testing.T) {
	s := newSite(t)
	ops := s.group("ops", store.Active)
	var p, global policyAnswer
	s.must(s.json("POST", "/admin/v2/policies", object{
		"policy_name": "VPN", "sections": object{"new_user": object{"new_user_behavior": "deny"}, "browsers": object{"x": []int{1}}},
		"apply_to_apps": object{"apply_list": []string{s.auth.IntegrationKey}},
		"apply_to_groups_in_apps": object{"apply_group_policies_list": []object{
			{"app_integration_key": s.auth.IntegrationKey, "group_id_list": []string{ops}},
		}},
	}, &p))
	if p.Name != "VPN" || p.Global || len(p.Sections) != 2 || string(p.Sections["browsers"]) != `{"x":[1]}` || !strings.HasPrefix(p.Key, "PO") {
		t.Errorf("created %+v", p)
	}
	s.must(s.call(s.admin, "GET", "/admin/v2/policies/global", nil, &global))
	if !global.Global || len(global.Sections) != 0 {
		t.Errorf("global %+v", global)
	}
	var summary struct {
		Policies []struct {
			Key     string   `json:"policy_key"`
			Applies []object `json:"policy_applies_to"`
		} `json:"policies"`
		Count     int  `json:"policy_count"`
		Truncated bool `json:"response_is_truncated"`
	}
	s.must(s.call(s.admin, "GET", "/admin/v2/policies/summary", nil, &summary))
	if summary.Count != 2 || summary.Truncated || len(summary.Policies[1].Applies) != 2 ||
		summary.Policies[1].Applies[0]["group_name"] != "ops" || summary.Policies[1].Applies[0]["apply_type"] != "group_app" ||
		summary.Policies[1].Applies[1]["apply_type"] != "app" || summary.Policies[1].Applies[1]["group_name"] != nil {
		t.Errorf("summary %+v", summary)
	}
	// A change names what changes; the rest stays.
	key := p.Key
	p = policyAnswer{}
	s.must(s.json("PUT", "/admin/v2/policies/"+key, object{
		"policy_name": "VPN 2", "sections": object{"plugins": object{}}, "sections_to_delete": []string{"browsers"},
		"apply_to_apps": object{"unapply_list": []string{s.auth.IntegrationKey}},
	}, &p))
	if p.Name != "VPN 2" || len(p.Sections) != 2 || p.Sections["browsers"] != nil || p.Sections["new_user"] == nil {
		t.Errorf("changed %+v", p)
	}
	s.must(s.call(s.admin, "GET", "/admin/v2/policies/summary", nil, &summary))
	if len(summary.Policies[1].Applies) != 1 {
		t.Errorf("summary %+v", summary)
	}
	var many struct {
		Policies []policyAnswer `json:"policies"`
	}
	s.must(s.json("POST", "/admin/v2/policies/copy", object{"policy_key": p.Key, "new_policy_names_list": []string{"A", "B"}}, &many))
	if len(many.Policies) != 2 || many.Policies[1].Name != "B" || len(many.Policies[1].Sections) != 2 {
		t.Errorf("copied %+v", many)
	}
	both := []string{many.Policies[0].Key, global.Key}
	many.Policies = nil
	s.must(s.json("PUT", "/admin/v2/policies/update", object{
		"policies_to_update": object{"edit_all_policies": false, "edit_list": both},
		"policy_changes":     object{"sections": object{"screen_lock": object{}}, "sections_to_delete": []string{"plugins"}},
	}, &many))
	if len(many.Policies) != 2 || many.Policies[0].Sections["screen_lock"] == nil || many.Policies[0].Sections["plugins"] != nil {
		t.Errorf("changed together %+v", many)
	}
	var page []policyAnswer
	meta, err := s.admin.Call(t.Context(), "GET", "/admin/v2/policies", url.Values{"limit": {"2"}}, &page)
	s.must(err)
	if len(page) != 2 || !page[0].Global || page[1].Name != "A" || meta.TotalObjects != 4 || *meta.NextOffset != 2 {
		t.Errorf("page %+v, %+v", page, meta)
	}
	for _, c := range []struct {
		method, path string
		body         object
		want         int
		detail       string
	}{
		{"POST", "", object{}, duoapi.CodeMissingParameter, "policy_name"},
		{"POST", "", object{"policy_name": "A"}, duoapi.CodeConflict, "policy_name"},
		{"POST", "", object{"policy_name": "C", "sections": object{"nonsense": object{}}}, duoapi.CodeInvalidParameter, "sections.nonsense: there is no such section"},
		{"POST", "", object{"policy_name": "C", "sections": object{"new_user": object{"x": 1}}}, duoapi.CodeInvalidParameter, "sections.new_user.x: there is no such key"},
		{"POST", "", object{"policy_name": "C", "sections": []int{}}, duoapi.CodeInvalidParameter, "sections"},
		{"POST", "", object{"policy_name": "C", "apply_to_apps": object{"apply_list": []string{"DInone"}}}, duoapi.CodeInvalidParameter, "apply_to_apps"},
		{"POST", "", object{"policy_name": "C", "apply_to_apps": object{"apply_list": []string{s.admin.IntegrationKey}}}, duoapi.CodeInvalidParameter, "apply_to_apps"},
		{"POST", "", object{"policy_name": "C", "apply_to_apps": object{"applylist": []string{}}}, duoapi.CodeInvalidParameter, "apply_to_apps"},
		{"POST", "", object{"policy_name": "C", "apply_to_groups_in_apps": object{"apply_list": []object{{"app_integration_key": s.auth.IntegrationKey, "group_id_list": []string{"DGnone"}}}}}, duoapi.CodeInvalidParameter, "apply_to_groups_in_apps"},
		{"PUT", "/" + global.Key, object{"apply_to_apps": object{"apply_list": []string{s.auth.IntegrationKey}}}, duoapi.CodeInvalidParameter, "global"},
		{"PUT", "/" + p.Key, object{"sections_to_delete": []string{"nonsense"}}, duoapi.CodeInvalidParameter, "sections_to_delete"},
		{"PUT", "/POnone", object{"policy_name": "x"}, duoapi.CodeNotFound, ""},
		{"PUT", "/update", object{"policies_to_update": object{"edit_list": []string{"POnone"}}, "policy_changes": object{"sections_to_delete": []string{"plugins"}}}, duoapi.CodeNotFound, "POnone"},
		{"PUT", "/update", object{"policies_to_update": object{}, "policy_changes": object{"sections_to_delete": []string{"plugins"}}}, duoapi.CodeInvalidParameter, "policies_to_update"},
		{"PUT", "/update", object{"policies_to_update": object{"edit_all_policies": true}, "policy_changes": object{}}, duoapi.CodeInvalidParameter, "policy_changes"},
		{"POST", "/copy", object{"policy_key": "POnone", "new_policy_names_list": []string{"x"}}, duoapi.CodeNotFound, ""},
		{"POST", "/copy", object{"policy_key": p.Key, "new_policy_names_list": []string{"y", "A"}}, duoapi.CodeConflict, "new_policy_names_list"},
	} {
		err := s.json(c.method, "/admin/v2/policies"+c.path, c.body, nil)
		if code(err) != c.want || !strings.Contains(err.Error(), c.detail) {
			t.Errorf("%s %s %v: %v, want %d with %q", c.method, c.path, c.body, err, c.want, c.detail)
		}
	}
	if err := s.call(s.admin, "DELETE", "/admin/v2/policies/"+global.Key, nil, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("delete the global policy: %v", err)
	}
	s.must(s.call(s.admin, "DELETE", "/admin/v2/policies/"+p.Key, nil, nil))
	if err := s.call(s.admin, "GET", "/admin/v2/policies/"+p.Key, nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("a deleted policy: %v", err)
	}
	s.wantActions("policy_create", "policy_apply", "policy_update", "policy_unapply", "policy_delete")
}

// wantActions checks that the administrator log has entries of these actions.
func (s *site) wantActions(actions ...string) {
	s.t.Helper()
	var log []struct{ Action string }
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", nil, &log))
	for _, want := range actions {
		if !slices.ContainsFunc(log, func(e struct{ Action string }) bool { return e.Action == want }) {
			s.t.Errorf("no %s in %v", want, log)
		}
	}
}

// TestPolicyGrants: to read takes one grant, to change another.
func TestPolicyGrants(t *testing.T) {
	s := newSite(t)
	reader := s.as(s.integration(store.AdminAPI, directory.IntegrationChange{Grants: map[string]bool{store.GrantReadResource: true, store.GrantWriteResource: true}}))
	s.must(s.call(reader, "GET", "/admin/v2/policies", nil, nil))
	if err := s.call(reader, "POST", "/admin/v2/policies", params{"policy_name": "x"}, nil); code(err) != duoapi.CodeGrant {
		t.Errorf("change without %s: %v", store.GrantSettings, err)
	}
}

type explained struct {
	Decision struct {
		Result, Reason, Because string
		Message                 string `json:"status_msg"`
	}
	Sections map[string]struct {
		Policy string `json:"policy_name"`
		Type   string `json:"apply_type"`
		Group  string `json:"group_name"`
	}
	Factors struct {
		Methods []string
		Digits  int `json:"verified_push_digits"`
	}
}

// TestPolicyAtLogin walks over HTTP through what policy comes to, and explain says the same.
func TestPolicyAtLogin(t *testing.T) {
	s := newSite(t)
	alice, app := s.user("alice"), s.auth.IntegrationKey
	var token struct{ Secret string }
	s.must(s.call(s.admin, "POST", "/admin/v1/tokens", params{"type": "t6", "serial": "1", "user_id": alice}, &token))
	s.user("newcomer")
	ops := s.group("ops", store.Active, alice)
	forApp, forOps := s.policy("for the application", `{}`), s.policy("for operators", `{}`)
	s.put(forApp)
	s.put(forOps, ops)
	set := func(policy, sections string) {
		t.Helper()
		s.must(s.json("PUT", "/admin/v2/policies/"+policy, object{"sections": json.RawMessage(sections)}, nil))
	}
	unset := func(policy string, keys ...string) {
		t.Helper()
		s.must(s.json("PUT", "/admin/v2/policies/"+policy, object{"sections_to_delete": keys}, nil))
	}
	// want asks as alice from ip and compares with explain.
	want := func(user, ip, result, message string) explained {
		t.Helper()
		var pre duoapi.Preauth
		s.must(s.call(s.auth, "POST", "/auth/v2/preauth", params{"username": user, "ipaddr": ip}, &pre))
		var e explained
		s.must(s.call(s.admin, "GET", "/sallyport/v1/admin/policy/explain", params{"username": user, "integration_key": app, "ipaddr": ip}, &e))
		if pre.Result != result || !strings.Contains(pre.StatusMsg, message) || e.Decision.Result != result {
			t.Errorf("%s from %q: %s (%s), explained as %+v; want %s (%s)", user, ip, pre.Result, pre.StatusMsg, e.Decision, result, message)
		}
		if result != "auth" && e.Decision.Message != pre.StatusMsg {
			t.Errorf("explained message %q, answered %q", e.Decision.Message, pre.StatusMsg)
		}
		return e
	}
	want("alice", "192.0.2.1", "auth", "Account is active")
	set(forApp, `{"authentication_policy":{"user_auth_behavior":"deny"}}`)
	e := want("alice", "", "deny", "policy lets nobody in here")
	if e.Sections["authentication_policy"].Policy != "for the application" || e.Decision.Reason != "denied_by_policy" {
		t.Errorf("%+v", e)
	}
	want("nobody", "", "deny", "policy lets nobody in here")
	set(forOps, `{"authentication_policy":{"user_auth_behavior":"bypass"}}`)
	if e = want("alice", "", "allow", "policy asks for none here"); e.Sections["authentication_policy"].Group != "ops" {
		t.Errorf("%+v", e)
	}
	unset(forApp, "authentication_policy")
	unset(forOps, "authentication_policy")

	set(forApp, `{"authorized_networks":{"no_2fa_required":{"ip_list":["192.0.2.0/24"],"require_enrollment":true},"blocked":{"ip_list":["203.0.113.7"]}}}`)
	want("alice", "192.0.2.9", "allow", "from this network")
	want("alice", "198.51.100.1", "auth", "")
	want("alice", "203.0.113.7", "deny", "from this network")
	want("alice", "", "deny", "from this network") // not known: it might be the blocked one
	want("newcomer", "192.0.2.9", "enroll", "")
	want("nobody", "192.0.2.9", "enroll", "")
	unset(forApp, "authorized_networks")

	set(forApp, `{"authentication_methods":{"blocked_auth_list":["hardware-token"],"verified_push_digits":4}}`)
	e = want("alice", "", "auth", "")
	if slices.Contains(e.Factors.Methods, "hardware-token") || e.Factors.Digits != 4 {
		t.Errorf("%+v", e.Factors)
	}
	passcode, err := totp.GenerateCode(token.Secret, s.clock.Now())
	s.must(err)
	var out duoapi.Auth
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": passcode}, &out))
	if out.Result != "deny" || !strings.Contains(out.StatusMsg, "kind of passcode") {
		t.Errorf("a passcode of a kind that is not allowed: %+v", out)
	}
	unset(forApp, "authentication_methods") // it was not spent
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": passcode}, &out))
	if out.Result != "allow" {
		t.Errorf("the passcode where it is allowed: %+v", out)
	}

	for status, word := range map[string]string{"disabled": "your group is disabled", "bypass": "your group is in bypass status"} {
		s.must(s.call(s.admin, "POST", "/admin/v1/groups/"+ops, params{"status": status}, nil))
		want("alice", "", map[string]string{"disabled": "deny", "bypass": "allow"}[status], word)
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/groups/"+ops, params{"status": "active"}, nil))
	s.must(s.call(s.admin, "POST", "/admin/v3/integrations/"+app, params{"groups_allowed": s.group("others", store.Active)}, nil))
	want("alice", "", "deny", "this application is not for this account")
	want("nobody", "", "deny", "this application is not for this account")
}

// TestSameAnswerForUnknown: a name that nobody has and a person without a factor
// read the same, field by field, whatever policy says.
func TestSameAnswerForUnknown(t *testing.T) {
	s := newSite(t)
	s.user("newcomer")
	p := s.policy("p", `{}`)
	s.put(p)
	for _, sections := range []string{
		`{"authentication_policy":{"user_auth_behavior":"deny"}}`, `{"authentication_policy":{"user_auth_behavior":"bypass"}}`,
		`{"authentication_policy":{},"new_user":{"new_user_behavior":"deny"}}`, `{"new_user":{"new_user_behavior":"enroll"}}`,
		`{"new_user":{"new_user_behavior":"no-mfa"}}`, `{"authorized_networks":{"no_2fa_required":{"ip_list":["192.0.2.1"]}}}`,
		`{"authorized_networks":{"deny_other_access":true}}`, `{"authorized_networks":{"mfa_required":{"ip_list":["192.0.2.1"]}}}`,
		`{"trusted_endpoints":{"trusted_endpoint_checking":"require-trusted"}}`,
	} {
		s.must(s.json("PUT", "/admin/v2/policies/"+p, object{"sections": json.RawMessage(sections)}, nil))
		for _, call := range []struct {
			path   string
			params params
		}{
			{"/auth/v2/preauth", params{"ipaddr": "192.0.2.1", "text_prompt": "1"}},
			{"/auth/v2/auth", params{"ipaddr": "192.0.2.1", "factor": "passcode", "passcode": "123456"}},
			{"/auth/v2/auth", params{"ipaddr": "192.0.2.1", "factor": "auto", "device": "auto"}},
		} {
			var answers []string
			for _, name := range []string{"newcomer", "nobody"} {
				var out json.RawMessage
				call.params["username"] = name
				err := s.call(s.auth, "POST", call.path, call.params, &out)
				answers = append(answers, string(out))
				s.must(err)
			}
			if answers[0] != answers[1] {
				t.Errorf("%s, %s: %s for a person, %s for nobody", sections, call.path, answers[0], answers[1])
			}
		}
	}
}

// TestPolicyOfRememberedLogins: a session answers only where policy would ask for a
// factor that it was proved by, or ask for none.
func TestPolicyOfRememberedLogins(t *testing.T) {
	s := newSite(t)
	h := s.joinedHost("db1")
	alice := s.owner("alice")
	s.remember(params{"enabled": "1"})
	if _, err := h.creates(h.proves(alice), binding(1)); err != nil {
		t.Fatal(err)
	}
	p := s.policy("p", `{}`)
	s.must(s.json("PUT", "/admin/v2/policies/"+p, object{"apply_to_apps": object{"apply_list": []string{h.api.IntegrationKey}}}, nil))
	holds := func(sections string) { // these and no others
		s.must(s.json("PUT", "/admin/v2/policies/"+p, object{
			"sections_to_delete": []string{"authentication_policy", "authorized_networks", "authentication_methods", "remembered_devices", "screen_lock"},
		}, nil))
		s.must(s.json("PUT", "/admin/v2/policies/"+p, object{"sections": json.RawMessage(sections)}, nil))
	}
	for sections, want := range map[string]bool{
		`{"authentication_policy":{"user_auth_behavior":"deny"}}`:             false,
		`{"authentication_policy":{"user_auth_behavior":"bypass"}}`:           true,
		`{"authorized_networks":{"blocked":{"ip_list":["192.0.2.1"]}}}`:       false, // the host names no address
		`{"authorized_networks":{"mfa_required":{"ip_list":["192.0.2.1"]}}}`:  true,
		`{"authentication_methods":{"blocked_auth_list":["hardware-token"]}}`: false,
		`{"authentication_methods":{"blocked_auth_list":["duo-push"]}}`:       true,
		`{"remembered_devices":{"host_logins":{"enabled":false}}}`:            false,
		`{"screen_lock":{}}`: true,
	} {
		holds(sections)
		if used := h.uses("alice", binding(1)); (used.SessionID != "") != want {
			t.Errorf("%s: %+v", sections, used)
		}
	}
	holds(`{"remembered_devices":{"host_logins":{"enabled":false}}}`)
	if _, err := h.creates(h.proves(alice), binding(2)); code(err) != duoapi.CodeSessionRefused {
		t.Errorf("remembered though policy forbids it: %v", err)
	}
	var pre duoapi.Preauth
	s.must(s.call(h.api, "POST", "/auth/v2/preauth", params{"username": "alice", "sallyport_passport": "1"}, &pre))
	if pre.RememberedDevices != nil {
		t.Errorf("offered though policy forbids it: %+v", pre)
	}
}
