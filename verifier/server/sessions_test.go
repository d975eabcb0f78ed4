// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// joined is a host that has joined a site, with clients for both of its credentials.
type joined struct {
	*site
	key  *ecdsa.PrivateKey
	id   string
	api  *duoapi.Client
	host *agentapi.Client
}

func (s *site) joinedHost(name string) *joined {
	s.t.Helper()
	key := s.newKey()
	var out agentapi.Joined
	s.must(s.join(key, s.joinToken(""), name, &out))
	api := *s.admin
	api.IntegrationKey, api.Secret = out.IntegrationKey, []byte(out.SecretKey)
	return &joined{s, key, out.HostID, &api, &agentapi.Client{
		BaseURL: s.base, Key: key, KeyID: out.HostID, HTTP: s.admin.HTTP, Now: s.clock.Now,
	}}
}

const policyPath = "/sallyport/v1/admin/policy/remembered_devices"

func (s *site) remember(p params) {
	s.t.Helper()
	s.must(s.call(s.admin, "POST", policyPath, p, nil))
}

// owner is a person with a token, of which they type codes on a host.
type owner struct {
	name, id, token string
	secret          string
}

func (s *site) owner(name string) *owner {
	s.t.Helper()
	o := &owner{name: name, id: s.user(name)}
	var made struct {
		Secret  string
		TokenID string `json:"token_id"`
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/tokens", params{"type": "t6", "user_id": o.id}, &made))
	o.secret, o.token = made.Secret, made.TokenID
	return o
}

// proves types a code and returns the txid of the event.
func (h *joined) proves(o *owner) string {
	h.t.Helper()
	h.clock.Add(30 * time.Second) // the next code
	passcode, err := totp.GenerateCode(o.secret, h.clock.Now())
	h.must(err)
	var auth duoapi.Auth
	h.must(h.call(h.api, "POST", "/auth/v2/auth",
		params{"username": o.name, "factor": "passcode", "passcode": passcode, "sallyport_passport": "1"}, &auth))
	if auth.Result != duoapi.ResultAllow || auth.TxID == "" {
		h.t.Fatalf("the code of %s: %+v", o.name, auth)
	}
	return auth.TxID
}

func binding(b byte) string {
	return base64.RawURLEncoding.EncodeToString(bytes.Repeat([]byte{b}, 32))
}

func (h *joined) creates(txID, bound string) (agentapi.Session, error) {
	return h.host.CreateSession(h.t.Context(), agentapi.NewSession{TxID: txID, Binding: bound, Service: "sshd", TTY: "ssh"})
}

func (h *joined) uses(name string, bindings ...string) agentapi.SessionUsed {
	h.t.Helper()
	used, err := h.host.UseSession(h.t.Context(), agentapi.SessionUse{Username: name, Bindings: bindings, Service: "sudo"})
	h.must(err)
	return used
}

func TestPreauthOffersToRemember(t *testing.T) {
	s := newSite(t)
	h := s.joinedHost("db1")
	s.owner("alice")
	offer := func(c *duoapi.Client, p params) *duoapi.RememberedDevices {
		var pre duoapi.Preauth
		p["username"] = "alice"
		s.must(s.call(c, "POST", "/auth/v2/preauth", p, &pre))
		return pre.RememberedDevices
	}
	if o := offer(h.api, params{"sallyport_passport": "1"}); o != nil {
		t.Errorf("offered while switched off: %+v", o)
	}
	s.remember(params{"enabled": "1", "max_seconds": "3600"})
	if o := offer(h.api, params{"sallyport_passport": "1"}); o == nil || *o != (duoapi.RememberedDevices{MaxSeconds: 3600, UserChoice: true}) {
		t.Errorf("offered %+v", o)
	}
	if o := offer(h.api, params{}); o != nil {
		t.Errorf("offered to a client that did not ask: %+v", o)
	}
	if o := offer(s.auth, params{"sallyport_passport": "1"}); o != nil {
		t.Errorf("offered to an integration without a host: %+v", o)
	}
}

// Other clients get the answer that they know.
func TestTxidOfAPasscodeOnlyOnRequest(t *testing.T) {
	s := newSite(t)
	o := s.owner("alice")
	passcode, err := totp.GenerateCode(o.secret, s.clock.Now())
	s.must(err)
	var auth duoapi.Auth
	s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "alice", "factor": "passcode", "passcode": passcode}, &auth))
	if auth.Result != duoapi.ResultAllow || auth.TxID != "" {
		t.Errorf("%+v", auth)
	}
}

func TestSession(t *testing.T) {
	s := newSite(t)
	h, other := s.joinedHost("db1"), s.joinedHost("db2")
	alice := s.owner("alice")
	s.owner("bob")
	s.remember(params{"enabled": "1", "max_seconds": "3600"})
	tx := h.proves(alice)
	made, err := h.creates(tx, binding(1))
	s.must(err)
	left := time.Unix(made.Expires, 0).Sub(s.clock.Now())
	if !strings.HasPrefix(made.SessionID, "DS") || made.Factor != "hardware_token" || left > time.Hour || left < 59*time.Minute {
		t.Errorf("made %+v", made)
	}
	// A lost answer is asked for again; another login is not the same.
	again, err := h.creates(tx, binding(1))
	if err != nil || again != made {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := h.creates(tx, binding(2)); code(err) != duoapi.CodeSessionRefused {
		t.Errorf("a second login from one proof: %v", err)
	}
	if _, err := other.creates(h.proves(alice), binding(2)); code(err) != duoapi.CodeSessionRefused {
		t.Errorf("another host's proof: %v", err)
	}

	if used := h.uses("ALICE", binding(8), binding(1)); !used.Allowed || used.SessionID != made.SessionID || used.TxID == "" {
		t.Errorf("used %+v", used)
	}
	for what, used := range map[string]agentapi.SessionUsed{
		"another binding": h.uses("alice", binding(2)),
		"another person":  h.uses("bob", binding(1)),
		"nobody":          h.uses("nobody", binding(1)),
		"another host":    other.uses("alice", binding(1)),
	} {
		if used.Allowed || used.SessionID != "" {
			t.Errorf("%s: %+v", what, used)
		}
	}
	for factor, want := range map[string]bool{duoapi.FactorPasscode: true, duoapi.FactorPush: false, duoapi.FactorPhone: false} {
		used, err := h.host.UseSession(t.Context(), agentapi.SessionUse{Username: "alice", Bindings: []string{binding(1)}, Service: "sudo", Factors: []string{factor}})
		if err != nil || used.Allowed != want {
			t.Errorf("where %s is asked for: %+v, %v", factor, used, err)
		}
	}
	var log struct {
		Events []struct {
			Factor, Result, Reason, Detail string
			Application                    struct{ Name string }
		} `json:"authlogs"`
	}
	s.must(s.call(s.admin, "GET", "/admin/v2/logs/authentication", params{
		"mintime": "0", "maxtime": "9000000000000", "factors": "remembered_device",
	}, &log))
	if len(log.Events) != 2 || log.Events[0].Reason != "remembered_device" || log.Events[0].Result != "success" ||
		log.Events[0].Application.Name != "db1" || log.Events[0].Detail != "session "+made.SessionID+", service sudo" {
		t.Errorf("events %+v", log.Events)
	}

	if ended, err := other.host.EndSession(t.Context(), binding(1)); ended || err != nil {
		t.Errorf("another host ended it: %v, %v", ended, err)
	}
	if ended, err := h.host.EndSession(t.Context(), binding(1)); !ended || err != nil {
		t.Errorf("logout: %v, %v", ended, err)
	}
	if used := h.uses("alice", binding(1)); used.Allowed {
		t.Error("used after logout")
	}
	if _, err := h.creates(tx, binding(1)); code(err) != duoapi.CodeSessionRefused {
		t.Errorf("made anew after logout: %v", err)
	}
}

// What ends a session: each on a session of its own, in use before.
func TestSessionEnds(t *testing.T) {
	s := newSite(t)
	h := s.joinedHost("db1")
	for i, c := range []struct {
		name string
		end  func(o *owner, session string) error
	}{
		{"expiry", func(*owner, string) error { s.clock.Add(time.Hour); return nil }},
		{"administrator", func(_ *owner, id string) error {
			return s.call(s.admin, "DELETE", "/sallyport/v1/admin/sessions/"+id, nil, nil)
		}},
		{"administrator, by user", func(o *owner, _ string) error {
			var out struct{ Ended int }
			err := s.call(s.admin, "DELETE", "/sallyport/v1/admin/users/"+o.id+"/sessions", nil, &out)
			if out.Ended != 1 {
				t.Errorf("ended %d", out.Ended)
			}
			return err
		}},
		{"user disabled", func(o *owner, _ string) error {
			return s.call(s.admin, "POST", "/admin/v1/users/"+o.id, params{"status": "disabled"}, nil)
		}},
		{"user deleted", func(o *owner, _ string) error { return s.call(s.admin, "DELETE", "/admin/v1/users/"+o.id, nil, nil) }},
		{"token deleted", func(o *owner, _ string) error {
			return s.call(s.admin, "DELETE", "/admin/v1/tokens/"+o.token, nil, nil)
		}},
		{"policy off", func(*owner, string) error { return s.call(s.admin, "POST", policyPath, params{"enabled": "0"}, nil) }},
		{"policy shortened", func(*owner, string) error {
			s.clock.Add(10 * time.Second)
			return s.call(s.admin, "POST", policyPath, params{"max_seconds": "5"}, nil)
		}},
		{"factor out of the policy", func(*owner, string) error {
			return s.call(s.admin, "POST", policyPath, params{"factors": "duo_push"}, nil)
		}},
	} {
		s.remember(params{"enabled": "1", "max_seconds": "3600", "factors": "duo_push,hardware_token"})
		o := s.owner("person" + string(rune('a'+i)))
		made, err := h.creates(h.proves(o), binding(byte(i)))
		s.must(err)
		if !h.uses(o.name, binding(byte(i))).Allowed {
			t.Errorf("%s: not remembered before", c.name)
		}
		s.must(c.end(o, made.SessionID))
		if h.uses(o.name, binding(byte(i))).Allowed {
			t.Errorf("%s: remembered after", c.name)
		}
	}
	o := s.owner("last")
	s.remember(params{"enabled": "1", "max_seconds": "3600", "factors": "hardware_token"})
	_, err := h.creates(h.proves(o), binding(99))
	s.must(err)
	s.must(s.call(s.admin, "DELETE", "/sallyport/v1/admin/hosts/"+h.id, nil, nil))
	if _, err := h.host.UseSession(t.Context(), agentapi.SessionUse{Username: "last", Bindings: []string{binding(99)}}); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("revoked host: %v", err)
	}
}

// A proof is good for minutes, a push by the phone as well as a code.
func TestSessionNeedsAFreshProof(t *testing.T) {
	s := newSite(t)
	h := s.joinedHost("db1")
	alice := s.owner("alice")
	s.remember(params{"enabled": "1"})
	tx := h.proves(alice)
	s.clock.Add(11 * time.Minute)
	if _, err := h.creates(tx, binding(1)); code(err) != duoapi.CodeSessionRefused {
		t.Errorf("an old proof: %v", err)
	}
	if _, err := h.creates("TXTXTXTXTX", binding(1)); code(err) != duoapi.CodeSessionRefused {
		t.Errorf("no proof: %v", err)
	}
	// The event of a use proves nothing.
	_, err := h.creates(h.proves(alice), binding(1))
	s.must(err)
	if _, err := h.creates(h.uses("alice", binding(1)).TxID, binding(2)); code(err) != duoapi.CodeSessionRefused {
		t.Errorf("a use as proof: %v", err)
	}
}

func TestSessionCallsNeedTheHostsKey(t *testing.T) {
	s := newSite(t)
	h := s.joinedHost("db1")
	stranger := *h.host
	stranger.Key = s.newKey()
	_, err := stranger.CreateSession(t.Context(), agentapi.NewSession{TxID: "T", Binding: binding(1)})
	_, err2 := stranger.UseSession(t.Context(), agentapi.SessionUse{Username: "alice", Bindings: []string{binding(1)}})
	_, err3 := stranger.EndSession(t.Context(), binding(1))
	for _, err := range []error{err, err2, err3} {
		if code(err) != duoapi.CodeInvalidProof {
			t.Errorf("another key: %v", err)
		}
	}
	// The integration's secret alone obtains nothing.
	for _, path := range []string{"", "/use", "/end"} {
		if err := s.call(h.api, "POST", "/sallyport/v1/sessions"+path, params{"username": "alice"}, nil); code(err) != duoapi.CodeMissingCredentials && code(err) != duoapi.CodeInvalidProof {
			t.Errorf("%s with the secret: %v", path, err)
		}
	}
}

func TestSessionBadInput(t *testing.T) {
	s := newSite(t)
	h := s.joinedHost("db1")
	many := strings.Repeat(`"`+binding(1)+`",`, 33)
	for body, want := range map[string]int{
		`{}`:                                duoapi.CodeMissingParameter,
		`{"username":"a","bindings":[]}`:    duoapi.CodeMissingParameter,
		`{"username":"a","bindings":["x"]}`: duoapi.CodeInvalidParameter,
		`{"username":"a","bindings":["` + binding(1) + `="]}`:                               duoapi.CodeInvalidParameter,
		`{"username":"a","bindings":[` + strings.TrimSuffix(many, ",") + `]}`:               duoapi.CodeInvalidParameter,
		`{"username":"a","bindings":["` + binding(1) + `"],"factors":["sms"]}`:              duoapi.CodeInvalidParameter,
		`{"username":"a","bindings":["` + binding(1) + `"],"admin":true}`:                   duoapi.CodeInvalidParameter,
		`{"username":"` + strings.Repeat("a", 257) + `","bindings":["` + binding(1) + `"]}`: duoapi.CodeInvalidParameter,
	} {
		if err := s.proved(h.key, h.id, "POST", "/sallyport/v1/sessions/use", body, nil, nil); code(err) != want {
			t.Errorf("use %.80s: %v", body, err)
		}
	}
	for body, want := range map[string]int{
		`{}`:                         duoapi.CodeMissingParameter,
		`{"txid":"T","binding":"x"}`: duoapi.CodeInvalidParameter,
		`{"txid":"T","binding":"` + binding(1) + `","service":"` + strings.Repeat("s", 65) + `"}`: duoapi.CodeInvalidParameter,
	} {
		if err := s.proved(h.key, h.id, "POST", "/sallyport/v1/sessions", body, nil, nil); code(err) != want {
			t.Errorf("create %.80s: %v", body, err)
		}
	}
	for _, p := range []params{
		{"max_seconds": "0"}, {"max_seconds": "2592001"}, {"factors": "smoke"}, {"factors": ""}, {"enabled": "perhaps"},
	} {
		if err := s.call(s.admin, "POST", policyPath, p, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("policy %v: %v", p, err)
		}
	}
}

func TestSessionList(t *testing.T) {
	s := newSite(t)
	h := s.joinedHost("db1")
	s.remember(params{"enabled": "1"})
	alice, bob := s.owner("alice"), s.owner("bob")
	first, err := h.creates(h.proves(alice), binding(1))
	s.must(err)
	_, err = h.creates(h.proves(bob), binding(2))
	s.must(err)
	list := func(p params) (out []string) {
		var sessions []struct {
			ID     string `json:"session_id"`
			Status string
			User   struct{ Username string }
			Host   struct{ Name string }
			Why    *string `json:"ended_reason"`
		}
		s.must(s.call(s.admin, "GET", "/sallyport/v1/admin/sessions", p, &sessions))
		for _, x := range sessions {
			text := x.User.Username + "@" + x.Host.Name + " " + x.Status
			if x.Why != nil {
				text += " " + *x.Why
			}
			out = append(out, text)
		}
		return out
	}
	s.must(s.call(s.admin, "DELETE", "/sallyport/v1/admin/sessions/"+first.SessionID, nil, nil))
	for _, c := range []struct {
		params params
		want   []string
	}{
		{nil, []string{"bob@db1 live"}},
		{params{"all": "1"}, []string{"bob@db1 live", "alice@db1 ended admin"}},
		{params{"username": "Alice", "all": "1"}, []string{"alice@db1 ended admin"}},
		{params{"username": "alice"}, nil},
		{params{"host_id": "HOx", "all": "1"}, nil},
	} {
		if got := list(c.params); !slices.Equal(got, c.want) {
			t.Errorf("%v: %q", c.params, got)
		}
	}
	s.clock.Add(9 * time.Hour)
	if got := list(params{"username": "bob", "all": "1"}); !slices.Equal(got, []string{"bob@db1 expired"}) {
		t.Errorf("after the end: %q", got)
	}
	for _, path := range []string{"/sallyport/v1/admin/sessions/DSx", "/sallyport/v1/admin/users/DUx/sessions"} {
		if err := s.call(s.admin, "DELETE", path, nil, nil); code(err) != duoapi.CodeNotFound {
			t.Errorf("%s: %v", path, err)
		}
	}
	var events []struct{ Action, Object string }
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", nil, &events))
	if !slices.ContainsFunc(events, func(e struct{ Action, Object string }) bool {
		return e.Action == "session_end" && e.Object == first.SessionID
	}) || !slices.ContainsFunc(events, func(e struct{ Action, Object string }) bool {
		return e.Action == "policy_update" && e.Object == "remembered_devices"
	}) {
		t.Errorf("administrator log %+v", events)
	}
}

// While the store fails nobody is remembered.
func TestSessionWithoutStore(t *testing.T) {
	s := newSite(t)
	h := s.joinedHost("db1")
	s.remember(params{"enabled": "1"})
	_, err := h.creates(h.proves(s.owner("alice")), binding(1))
	s.must(err)
	s.store.updates.Store(true)
	used, err := h.host.UseSession(t.Context(), agentapi.SessionUse{Username: "alice", Bindings: []string{binding(1)}})
	var refused *duoapi.Error
	if used.Allowed || !errors.As(err, &refused) || refused.Code != duoapi.CodeCannotDecide {
		t.Errorf("%+v, %v", used, err)
	}
}
