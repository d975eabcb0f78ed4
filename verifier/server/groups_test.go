// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"net/url"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// group makes a group with these users and returns its id.
func (s *site) group(name string, status store.UserStatus, userIDs ...string) string {
	s.t.Helper()
	a := directory.Actor{Name: "test"}
	g, err := s.dir.CreateGroup(s.t.Context(), a, directory.GroupChange{Name: &name, Status: &status})
	s.must(err)
	for _, id := range userIDs {
		s.must(s.dir.JoinGroup(s.t.Context(), a, id, g.ID))
	}
	return g.ID
}

func TestGroups(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	var g map[string]any
	s.must(s.call(s.admin, "POST", "/admin/v1/groups", params{
		"name": "ops", "desc": "operators", "sms_enabled": "0", "u2f_enabled": "1",
	}, &g))
	id := g["group_id"].(string)
	for field, want := range map[string]any{
		"name": "ops", "desc": "operators", "status": "active", "push_enabled": true, "sms_enabled": false, "mobile_otp_enabled": true,
	} {
		if g[field] != want {
			t.Errorf("created: %s is %v, want %v", field, g[field], want)
		}
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/groups/"+id, params{"status": "Disabled", "desc": ""}, &g))
	if g["status"] != "disabled" || g["desc"] != "" || g["name"] != "ops" {
		t.Errorf("changed %v", g)
	}
	for _, path := range []string{"/admin/v1/groups/", "/admin/v2/groups/"} {
		s.must(s.call(s.admin, "GET", path+id, nil, &g))
		if g["name"] != "ops" {
			t.Errorf("%s: %v", path, g)
		}
	}
	other := s.group("zoo", store.Active)
	for _, c := range []struct {
		path   string
		params params
		want   int
	}{
		{"/admin/v1/groups", nil, duoapi.CodeMissingParameter},
		{"/admin/v1/groups", params{"name": " "}, duoapi.CodeInvalidParameter},
		{"/admin/v1/groups", params{"name": "ops"}, duoapi.CodeConflict},
		{"/admin/v1/groups/" + other, params{"name": "ops"}, duoapi.CodeConflict},
		{"/admin/v1/groups/" + other, params{"status": "locked out"}, duoapi.CodeInvalidParameter},
		{"/admin/v1/groups/" + other, params{"push_enabled": "perhaps"}, duoapi.CodeInvalidParameter},
		{"/admin/v1/groups/DGnone", params{"desc": "x"}, duoapi.CodeNotFound},
		{"/admin/v1/users/" + alice + "/groups", nil, duoapi.CodeMissingParameter},
		{"/admin/v1/users/" + alice + "/groups", params{"group_id": "DGnone"}, duoapi.CodeNotFound},
		{"/admin/v1/users/DUnone/groups", params{"group_id": id}, duoapi.CodeNotFound},
	} {
		if err := s.call(s.admin, "POST", c.path, c.params, nil); code(err) != c.want {
			t.Errorf("%s %v: %v", c.path, c.params, err)
		}
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice+"/groups", params{"group_id": id}, nil))
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice+"/groups", params{"group_id": other}, nil))
	var list []map[string]any
	meta, err := s.admin.Call(t.Context(), "GET", "/admin/v1/users/"+alice+"/groups", url.Values{"limit": {"1"}}, &list)
	s.must(err)
	if len(list) != 1 || list[0]["name"] != "ops" || meta.TotalObjects != 2 || *meta.NextOffset != 1 {
		t.Errorf("groups of a user: %v, %+v", list, meta)
	}
	meta, err = s.admin.Call(t.Context(), "GET", "/admin/v2/groups/"+id+"/users", nil, &list)
	s.must(err)
	if len(list) != 1 || list[0]["user_id"] != alice || list[0]["username"] != "alice" || meta.TotalObjects != 1 {
		t.Errorf("users of a group: %v, %+v", list, meta)
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/groups", params{"group_id_list": toJSON(t, []string{other, "DGnone"})}, &list))
	if len(list) != 1 || list[0]["name"] != "zoo" {
		t.Errorf("by ids: %v", list)
	}
	var u struct {
		Groups []map[string]any `json:"groups"`
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/users/"+alice, nil, &u))
	if len(u.Groups) != 2 || u.Groups[0]["group_id"] != id {
		t.Errorf("user %+v", u)
	}
	// The groups of the person stand in the event.
	s.must(s.call(s.auth, "POST", "/auth/v2/preauth", params{"username": "alice"}, nil))
	var log struct {
		Events []store.Event `json:"authlogs"`
	}
	s.must(s.call(s.admin, "GET", "/admin/v2/logs/authentication", nil, &log))
	if len(log.Events) != 1 || len(log.Events[0].User.Groups) != 2 || log.Events[0].User.Groups[0] != "ops" {
		t.Errorf("event %+v", log)
	}
	s.must(s.call(s.admin, "DELETE", "/admin/v1/users/"+alice+"/groups/"+id, nil, nil))
	s.must(s.call(s.admin, "DELETE", "/admin/v1/groups/"+other, nil, nil))
	for _, path := range []string{"/admin/v1/users/" + alice + "/groups/" + id, "/admin/v1/groups/" + other} {
		if err := s.call(s.admin, "DELETE", path, nil, nil); code(err) != duoapi.CodeNotFound {
			t.Errorf("%s again: %v", path, err)
		}
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/users/"+alice, nil, &u))
	if len(u.Groups) != 0 {
		t.Errorf("user %+v", u)
	}
}
