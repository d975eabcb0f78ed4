// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// logBuffer is a log that tests read while the server writes it.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// After a rotation both secrets are good until the overlap ends, the log names
// who uses the old one, and then it is refused.
func TestSecretRotation(t *testing.T) {
	log := &logBuffer{}
	s := newSiteWith(t, func(c *server.Config, _ *login.Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
	made := s.integration(store.AuthAPI, directory.IntegrationChange{Name: ptr("old web shop")})
	old, fresh := s.as(made), s.as(made)
	check := func(c *duoapi.Client) int { return code(s.call(c, "GET", "/auth/v2/check", nil, nil)) }
	path := "/admin/v3/integrations/" + made.Key
	rotate := func(overlap string) string {
		var out struct {
			SecretKey string `json:"secret_key"`
		}
		s.must(s.call(s.admin, "POST", path, params{"reset_secret_key": "1", "reset_secret_overlap_secs": overlap}, &out))
		return out.SecretKey
	}
	fresh.Secret = []byte(rotate("3600"))
	if a, b := check(fresh), check(old); a != 0 || b != 0 {
		t.Errorf("while both are good: new %d, old %d", a, b)
	}
	if text := log.String(); strings.Count(text, "from before its last rotation; give") != 1 || !strings.Contains(text, made.Key) || !strings.Contains(text, "old web shop") {
		t.Errorf("log: %s", text)
	}
	var shown map[string]any
	s.must(s.call(s.admin, "GET", path, nil, &shown))
	if shown["old_secret_expires"] == nil || shown["secret_key"] != nil {
		t.Errorf("during the overlap: %v", shown)
	}
	s.clock.Add(time.Hour)
	if a, b := check(fresh), check(old); a != 0 || b != duoapi.CodeInvalidSignature {
		t.Errorf("after the overlap: new %d, old %d", a, b)
	}
	if text := log.String(); !strings.Contains(text, "refused an integration that signs with the secret from before") {
		t.Errorf("log: %s", text)
	}
	s.must(s.call(s.admin, "GET", path, nil, &shown))
	if shown["old_secret_expires"] != nil {
		t.Errorf("after the overlap: %v", shown)
	}
	// Two rotations in a row void the first secret, and none is left as old that overlaps with nothing.
	second := s.as(made)
	second.Secret = []byte(rotate("3600"))
	third := s.as(made)
	third.Secret = []byte(rotate("3600"))
	if a, b, c := check(fresh), check(second), check(third); a != duoapi.CodeInvalidSignature || b != 0 || c != 0 {
		t.Errorf("after two rotations: first %d, second %d, third %d", a, b, c)
	}
	if err := s.call(s.admin, "POST", path, params{"reset_secret_key": "1", "reset_secret_overlap_secs": "2592001"}, nil); code(err) != duoapi.CodeInvalidParameter {
		t.Errorf("an overlap of over 30 days: %v", err)
	}
}

// An integration without an old secret has none that an empty one would fit.
func TestNoOldSecretIsNotEmpty(t *testing.T) {
	s := newSite(t)
	made := s.integration(store.AuthAPI, directory.IntegrationChange{})
	s.must(s.store.Update(t.Context(), func(w store.Writer) error {
		i, err := w.Integration(made.Key)
		if err != nil {
			return err
		}
		i.OldSecret = store.OldSecret{Sealed: s.keys.Seal(nil, "integration", made.Key), Until: s.clock.Now().Add(time.Hour)}
		return w.SetIntegration(i)
	}))
	c := s.as(made)
	c.Secret = nil
	if err := s.call(c, "GET", "/auth/v2/check", nil, nil); code(err) != duoapi.CodeInvalidSignature {
		t.Errorf("an empty secret: %v", err)
	}
}

func TestIntegrationVersions(t *testing.T) {
	s := newSite(t)
	group := s.newGroup()
	var made map[string]any
	s.must(s.call(s.admin, "POST", "/admin/v1/integrations", params{
		"type": "authapi", "name": "shop", "groups_allowed": group, "visual_style": "flat", "trusted_device_days": "7",
		"self_service_allowed": "1", "ip_whitelist": "192.0.2.0/24,198.51.100.7", "ip_whitelist_enroll_policy": "enforce",
		"networks_for_api_access": "127.0.0.1, 10.0.0.0-10.0.0.3, 10.1.0.0/16", "enroll_policy": "allow", "notes": "n",
		"username_normalization_policy": "none", "greeting": "hi", "user_access": "NO_USERS",
	}, &made))
	want := map[string]any{
		"name": "shop", "networks_for_api_access": "127.0.0.1/32,10.0.0.0/30,10.1.0.0/16", "enroll_policy": "allow", "notes": "n",
		"self_service_allowed": true, "ip_whitelist_enroll_policy": "enforce", "username_normalization_policy": "None", "greeting": "hi",
		"adminapi_info": 0.0,
	}
	only := map[string]map[string]any{
		"v1": {"visual_style": "flat", "trusted_device_days": 7.0},
		"v2": {},
		"v3": {"user_access": "PERMITTED_GROUPS"}, // an unknown parameter of version 1 has no effect
	}
	for version, own := range only {
		var got map[string]any
		s.must(s.call(s.admin, "GET", "/admin/"+version+"/integrations/"+made["integration_key"].(string), nil, &got))
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%s: %s is %v, want %v", version, name, got[name], value)
			}
		}
		for _, fields := range only {
			for name := range fields {
				if got[name] != own[name] {
					t.Errorf("%s: %s is %v, want %v", version, name, got[name], own[name])
				}
			}
		}
		if toJSON(t, got["groups_allowed"]) != `["`+group+`"]` || toJSON(t, got["ip_whitelist"]) != `["192.0.2.0/24","198.51.100.7/32"]` {
			t.Errorf("%s: %v", version, got)
		}
		if got["secret_key"] != nil {
			t.Errorf("%s shows the secret again", version)
		}
	}
	path := "/admin/v3/integrations/" + made["integration_key"].(string)
	for _, c := range []struct {
		p    params
		want string
	}{
		{params{"groups_allowed": ""}, "ALL_USERS"},
		{params{"user_access": "no_users"}, "NO_USERS"},
		{params{"groups_allowed": `["` + group + `"]`}, "PERMITTED_GROUPS"},
		{params{"notes": "kept"}, "PERMITTED_GROUPS"},
	} {
		var got map[string]any
		s.must(s.call(s.admin, "POST", path, c.p, &got))
		if got["user_access"] != c.want {
			t.Errorf("%v: user_access is %v, want %s", c.p, got["user_access"], c.want)
		}
	}
}
