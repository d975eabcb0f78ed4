// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// An application enrols a name that nobody has yet only where everything says so:
// its secret alone makes nobody up.
func TestWhoMayEnrol(t *testing.T) {
	s := newSite(t)
	n := 0
	enrols := func() int {
		t.Helper()
		n++
		return code(s.call(s.auth, "POST", "/auth/v2/enroll", params{"username": "new" + string(rune('a'+n)), "bypass_codes": "1"}, nil))
	}
	if got := enrols(); got != 0 {
		t.Fatalf("by default: %d", got)
	}
	change := func(c directory.IntegrationChange) {
		t.Helper()
		_, err := s.dir.UpdateIntegration(t.Context(), directory.Actor{Name: "test"}, s.auth.IntegrationKey, c)
		s.must(err)
	}
	for _, policy := range []string{store.EnrollDeny, store.EnrollAllow} {
		change(directory.IntegrationChange{EnrollPolicy: &policy})
		if got := enrols(); got != duoapi.CodeForbidden {
			t.Errorf("enroll_policy %s: %d", policy, got)
		}
	}
	offer := store.EnrollOffer
	change(directory.IntegrationChange{EnrollPolicy: &offer})
	none, all := store.AccessNone, store.AccessAll
	change(directory.IntegrationChange{UserAccess: &none})
	if got := enrols(); got != duoapi.CodeForbidden {
		t.Errorf("an application for nobody: %d", got)
	}
	change(directory.IntegrationChange{GroupsAllowed: &[]string{}}) // as versions 1 and 2 write back what they read
	if got := enrols(); got != duoapi.CodeForbidden {
		t.Errorf("an application for nobody, after a blank list of groups: %d", got)
	}
	change(directory.IntegrationChange{UserAccess: &all})
	for _, sections := range []string{`{"new_user":{"new_user_behavior":"deny"}}`, `{"authentication_policy":{"user_auth_behavior":"deny"}}`} {
		p := s.policy("p", sections)
		s.put(p)
		if got := enrols(); got != duoapi.CodeForbidden {
			t.Errorf("%s: %d", sections, got)
		}
		s.must(s.call(s.admin, "DELETE", "/admin/v2/policies/"+p, nil, nil))
	}
	if got := enrols(); got != 0 {
		t.Errorf("without these policies: %d", got)
	}
}

// The networks of a host bind its key, too.
func TestHostKeyWithinNetworks(t *testing.T) {
	s := newSite(t)
	h := s.joinedHost("db1")
	self := func() int {
		return code(s.proved(h.key, h.id, "GET", "/sallyport/v1/hosts/self", "", nil, nil))
	}
	if got := self(); got != 0 {
		t.Fatalf("from anywhere: %d", got)
	}
	for network, want := range map[string]int{"203.0.113.0/24": duoapi.CodeNetwork, "127.0.0.0/8": 0} {
		_, err := s.dir.UpdateIntegration(t.Context(), directory.Actor{Name: "test"}, h.api.IntegrationKey, directory.IntegrationChange{Networks: &[]string{network}})
		s.must(err)
		if got := self(); got != want {
			t.Errorf("only from %s: %d, want %d", network, got, want)
		}
	}
}

// Who may manage applications but no people makes none that enrols people.
func TestApplicationsThatEnrolNeedTheGrant(t *testing.T) {
	s := newSite(t)
	a := directory.Actor{Name: "terraform", Integration: "DIx", Grants: []string{store.GrantIntegrations}}
	label, offer := "vpn", store.EnrollOffer
	m, err := s.dir.CreateIntegration(t.Context(), a, store.AuthAPI, directory.IntegrationChange{Name: &label})
	if err != nil || m.EnrollPolicy != store.EnrollDeny {
		t.Errorf("made with enroll_policy %q: %v", m.EnrollPolicy, err)
	}
	if _, err := s.dir.CreateIntegration(t.Context(), a, store.AuthAPI, directory.IntegrationChange{Name: &label, EnrollPolicy: &offer}); code(err) != duoapi.CodeGrant {
		t.Errorf("made one that enrols: %v", err)
	}
	if _, err := s.dir.UpdateIntegration(t.Context(), a, m.Key, directory.IntegrationChange{EnrollPolicy: &offer}); code(err) != duoapi.CodeGrant {
		t.Errorf("turned into one that enrols: %v", err)
	}
	if _, err := s.dir.UpdateIntegration(t.Context(), a, s.auth.IntegrationKey, directory.IntegrationChange{NewSecret: true}); code(err) != duoapi.CodeGrant {
		t.Errorf("read the secret of one that enrols: %v", err)
	}
}
