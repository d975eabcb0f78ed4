// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const admins = "/admin/v1/admins"

// activate uses a link as the console will.
func (s *site) useAdminLink(linkCode string) bool {
	s.t.Helper()
	var won bool
	s.must(s.store.Update(s.t.Context(), func(w store.Writer) (err error) {
		_, won, err = w.UseAdminActivation(s.keys.Hash(directory.ActivationPurpose, linkCode), store.Administrator{ID: unique("DE"), Name: "n"}, s.clock.Now())
		return err
	}))
	return won
}

func TestAdministrators(t *testing.T) {
	s := newSite(t)
	var owner map[string]any
	s.must(s.call(s.admin, "POST", admins, params{"name": "Olga", "email": " Olga@Example.org ", "phone": "+1 555 123 4567"}, &owner))
	link, _ := owner["activation_url"].(string)
	if owner["email"] != "olga@example.org" || owner["role"] != "Owner" || owner["status"] != "Pending Activation" || owner["phone"] != "+15551234567" ||
		!strings.HasPrefix(link, s.base.String()+"/sallyport/console/activate#") {
		t.Errorf("created %v", owner)
	}
	path := admins + "/" + owner["admin_id"].(string)
	var got map[string]any
	s.must(s.call(s.admin, "GET", path, nil, &got))
	if got["activation_url"] != nil {
		t.Error("the link is shown again")
	}
	if err := s.call(s.admin, "POST", admins, params{"name": "x", "email": "olga@example.org"}, nil); code(err) != duoapi.CodeConflict {
		t.Errorf("the same mail: %v", err)
	}
	for _, p := range []params{{"status": "Active"}, {"role": "Emperor"}, {"name": ""}, {"phone": "5"}, {"status": "Disabled"}, {"role": "Read-only"}} {
		if err := s.call(s.admin, "POST", path, p, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%v: %v", p, err)
		}
	}
	if err := s.call(s.admin, "DELETE", path, nil, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("delete the only Owner: %v", err)
	}
	// Another link voids the first, works once, and in its time.
	_, first, _ := strings.Cut(link, "#")
	var second struct{ Code, Link string }
	s.must(s.call(s.admin, "POST", path+"/activation_link", params{"valid_days": "2"}, &second))
	if s.useAdminLink(first) {
		t.Error("a link is good after another was made")
	}
	if !s.useAdminLink(second.Code) || s.useAdminLink(second.Code) {
		t.Error("a link is good once")
	}
	if err := s.call(s.admin, "POST", path+"/activation_link", nil, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("a link for an active one: %v", err)
	}
	// With a second Owner the first can go.
	other, otherLink := s.administrator("owner")
	if !s.useAdminLink(otherLink) {
		t.Fatal("the second Owner was not activated")
	}
	s.must(s.call(s.admin, "POST", path, params{"role": "help desk", "status": "Disabled"}, &got))
	if got["role"] != "Help Desk" || got["status"] != "Disabled" {
		t.Errorf("changed %v", got)
	}
	s.must(s.call(s.admin, "POST", path, params{"status": "active"}, &got))
	if got["status"] != "Active" {
		t.Errorf("enabled %v", got)
	}
	if err := s.call(s.admin, "DELETE", admins+"/"+other, nil, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("delete the last Owner: %v", err)
	}
	s.must(s.call(s.admin, "DELETE", path, nil, nil))
	if err := s.call(s.admin, "GET", path, nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("a deleted administrator: %v", err)
	}
	if err := s.call(s.admin, "POST", path+"/activation_link/email", nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("mail: %v", err)
	}
}

func TestAdministratorInvitations(t *testing.T) {
	s := newSite(t)
	var made, second map[string]any
	s.must(s.call(s.admin, "POST", admins+"/activations", params{"email": "new@example.org", "admin_role": "User Manager", "valid_days": "1"}, &made))
	s.must(s.call(s.admin, "POST", admins+"/activations", params{"email": "late@example.org"}, &second))
	if made["email_sent"] != 0.0 || made["admin_role"] != "User Manager" || !strings.HasSuffix(made["link"].(string), "#"+made["code"].(string)) {
		t.Errorf("made %v", made)
	}
	var list []map[string]any
	s.must(s.call(s.admin, "GET", admins+"/activations", nil, &list))
	if len(list) != 2 || list[0]["code"] != nil || list[0]["link"] != nil {
		t.Errorf("links %v", list)
	}
	if !s.useAdminLink(made["code"].(string)) {
		t.Error("the link is no good")
	}
	if err := s.call(s.admin, "POST", admins+"/activations", params{"email": "new@example.org"}, nil); code(err) != duoapi.CodeConflict {
		t.Errorf("invite an administrator: %v", err)
	}
	s.clock.Add(8 * 24 * time.Hour)
	if s.useAdminLink(second["code"].(string)) {
		t.Error("a link is good after its time")
	}
	s.must(s.call(s.admin, "DELETE", admins+"/activations/"+second["admin_activation_id"].(string), nil, nil))
	if err := s.call(s.admin, "DELETE", admins+"/activations/"+second["admin_activation_id"].(string), nil, nil); code(err) != duoapi.CodeNotFound {
		t.Errorf("twice: %v", err)
	}
	var all []map[string]any
	s.must(s.call(s.admin, "GET", admins, nil, &all))
	if len(all) != 1 || all[0]["status"] != "Active" || all[0]["role"] != "User Manager" {
		t.Errorf("administrators %v", all)
	}
	if err := s.call(s.admin, "POST", admins+"/activations", params{"email": "a@example.org", "send_email": "1"}, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("mail: %v", err)
	}
}

func TestAdministratorPasswords(t *testing.T) {
	s := newSite(t)
	id, _ := s.administrator("Help Desk")
	path := admins + "/" + id + "/password_mgmt"
	s.must(s.call(s.admin, "POST", "/admin/v1/settings", params{"password_requires_special": "1", "minimum_password_length": "14"}, nil))
	for _, p := range []params{
		{"password": "correct horse battery"}, // not managed here
		{"password": "too short #", "has_external_password_mgmt": "1"},
		{"password": "nothingspecial", "has_external_password_mgmt": "1"},
	} {
		if err := s.call(s.admin, "POST", path, p, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%v: %v", p, err)
		}
	}
	const password = "correct horse battery"
	var got map[string]any
	s.must(s.call(s.admin, "POST", path, params{"password": password, "has_external_password_mgmt": "1"}, &got))
	if got["has_external_password_mgmt"] != true || got["has_password"] != true {
		t.Errorf("set %v", got)
	}
	s.must(s.store.View(t.Context(), func(r store.Reader) error {
		a, err := r.Administrator(id)
		if !strings.HasPrefix(a.Password, "$argon2id$v=19$m=65536,t=3,p=4$") {
			t.Errorf("kept as %s", a.Password)
		}
		return err
	}))
	var log []struct{ Action, Description string }
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", nil, &log))
	if last := log[len(log)-1]; last.Action != "admin_set_password" || strings.Contains(last.Description, password) || strings.Contains(last.Description, "argon2") {
		t.Errorf("log %+v", last)
	}
	var list []map[string]any
	s.must(s.call(s.admin, "GET", admins+"/password_mgmt", nil, &list))
	if len(list) != 1 || list[0]["admin_id"] != id {
		t.Errorf("list %v", list)
	}
}

func TestAdministratorsNeedTheGrant(t *testing.T) {
	s := newSite(t)
	weak := s.as(s.integration(store.AdminAPI, directory.IntegrationChange{Grants: map[string]bool{store.GrantWriteResource: true, store.GrantSettings: true}}))
	for _, method := range []string{"GET", "POST"} {
		if err := s.call(weak, method, admins, nil, nil); code(err) != duoapi.CodeGrant {
			t.Errorf("%s: %v", method, err)
		}
	}
	var methods map[string]any
	s.must(s.call(s.admin, "POST", admins+"/allowed_auth_methods", params{"sms_enabled": "1", "verified_push_length": "4"}, &methods))
	if methods["sms_enabled"] != true || methods["verified_push_length"] != 4.0 || methods["push_enabled"] != true {
		t.Errorf("methods %v", methods)
	}
}

func TestSettingsOfTheReference(t *testing.T) {
	s := newSite(t)
	var before, got map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/settings", nil, &before))
	change := map[string]any{
		"timezone": "Europe/Berlin", "fraud_email": "f@example.org", "fraud_email_enabled": true, "keypress_fraud": "9", "language": "DE",
		"minimum_password_length": 20.0, "helpdesk_bypass": "limit", "inactive_user_expiration": 90.0, "log_retention_days": 30.0,
	}
	p := params{}
	for name, value := range change {
		if before[name] == nil || before[name] == value {
			t.Errorf("%s was %v", name, before[name])
		}
		p[name] = strings.Trim(toJSON(t, value), `"`)
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/settings", p, nil))
	s.must(s.call(s.admin, "GET", "/admin/v1/settings", nil, &got))
	for name, value := range before {
		want := value
		if c, ok := change[name]; ok {
			want = c
		}
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	for _, p := range []params{{"helpdesk_message": "a\x1b[2Jb"}, {"timezone": "../../etc/passwd"}, {"timezone": "Local"}, {"fraud_email": "x"}, {"name": "a\nb"}} {
		if err := s.call(s.admin, "POST", "/admin/v1/settings", p, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%v: %v", p, err)
		}
	}
}
