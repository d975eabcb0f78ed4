// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/offlinecode"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// offlineHost is a host that has joined.
type offlineHost struct {
	s    *site
	key  *ecdsa.PrivateKey
	id   string
	auth *duoapi.Client
}

func (s *site) host(name string) offlineHost {
	s.t.Helper()
	key := s.newKey()
	var got agentapi.Joined
	s.must(s.join(key, s.joinToken(""), name, &got))
	return offlineHost{s, key, got.HostID, s.as(directory.MadeIntegration{
		Integration: store.Integration{Key: got.IntegrationKey}, Secret: got.SecretKey,
	})}
}

func (h offlineHost) call(method, path string, body, out any) error {
	text := ""
	if body != nil {
		text = toJSON(h.s.t, body)
	}
	return h.s.proved(h.key, h.id, method, path, text, out, nil)
}

func (h offlineHost) keys(txID string, have ...agentapi.OfflineKeyID) (out agentapi.OfflineGrant, err error) {
	if have == nil {
		have = []agentapi.OfflineKeyID{}
	}
	err = h.call("POST", "/sallyport/v1/offline/keys", agentapi.OfflineRequest{TxID: txID, Have: have}, &out)
	return out, err
}

func (h offlineHost) live() []agentapi.LiveKey {
	h.s.t.Helper()
	var out agentapi.LiveKeys
	h.s.must(h.call("GET", "/sallyport/v1/offline/keys", nil, &out))
	return out.Keys
}

// login logs a user in by a bypass code, and returns the transaction.
func (h offlineHost) login(userID string) string {
	h.s.t.Helper()
	codes, err := h.s.dir.AddBypassCodes(h.s.t.Context(), directory.Actor{Name: "test"}, userID, directory.BypassRequest{Count: 1, Uses: 1})
	h.s.must(err)
	var got duoapi.Auth
	h.s.must(h.s.call(h.auth, "POST", "/auth/v2/auth", map[string]string{"user_id": userID, "factor": "passcode", "passcode": codes[0], "sallyport_passport": "1"}, &got))
	if got.Result != duoapi.ResultAllow || got.TxID == "" {
		h.s.t.Fatalf("login: %+v", got)
	}
	return got.TxID
}

// activated makes an authenticator and returns what it was told.
func (s *site) activated(userID string) (*ecdsa.PrivateKey, agentapi.Activated) {
	s.t.Helper()
	phone, err := s.dir.CreatePhone(s.t.Context(), directory.Actor{Name: "test"}, userID, directory.PhoneChange{})
	s.must(err)
	return s.activateAgain(phone.ID)
}

func (s *site) activateAgain(phoneID string) (*ecdsa.PrivateKey, agentapi.Activated) {
	s.t.Helper()
	act, err := s.dir.ActivatePhone(s.t.Context(), directory.Actor{Name: "test"}, phoneID, time.Hour)
	s.must(err)
	key := s.newKey()
	var got agentapi.Activated
	s.must(s.activate(key, act.Code, &got))
	return key, got
}

// Authenticator and host come to the same key by their own ways, each host to its own.
func TestOfflineKeys(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	phone, activated := s.activated(alice)
	if len(activated.OfflineRoot) != offlinecode.Size {
		t.Fatalf("root of %d bytes", len(activated.OfflineRoot))
	}
	seen := map[string]bool{}
	for _, name := range []string{"db1.example", "db2.example"} {
		h := s.host(name)
		got, err := h.keys(h.login(alice))
		s.must(err)
		if len(got.Keys) != 1 || got.UserID != alice || got.MaxUses != 10 || got.MaxDays != 7 || s.clock.Now().Unix()-got.Time > 60 ||
			!strings.HasPrefix(got.Label, name[:3]+"-") || got.Keys[0].Name != "laptop" {
			t.Fatalf("got %+v", got)
		}
		key := got.Keys[0].Key
		if seen[string(key)] {
			t.Error("two hosts have one key")
		}
		seen[string(key)] = true
		var list struct{ Hosts []agentapi.OfflineHost }
		s.must(s.proved(phone, activated.AuthenticatorID, "GET", "/sallyport/v1/authenticator/hosts", "", &list, nil))
		last := list.Hosts[len(list.Hosts)-1]
		own, err := offlinecode.Key(activated.OfflineRoot, offlinecode.ID{
			HostID: last.HostID, UserID: last.UserID, PhoneID: activated.AuthenticatorID, Generation: last.Generation, Edition: last.Edition,
		})
		if err != nil || !bytes.Equal(own, key) || last.Label != got.Label || last.HostID != h.id {
			t.Errorf("%+v: the authenticator comes to another key: %v", last, err)
		}
	}
	// What the store keeps is not the root.
	s.must(s.store.View(t.Context(), func(r store.Reader) error {
		root, err := r.OfflineRoot(activated.AuthenticatorID)
		if bytes.Contains(root.Sealed, activated.OfflineRoot) {
			t.Error("the root is not sealed")
		}
		return err
	}))
}

// A host gets keys for its own logins, by a real factor, for a short while.
func TestOfflineKeysNeedALogin(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	s.activated(alice)
	h, other := s.host("db1"), s.host("db2")
	tx := h.login(alice)
	if _, err := other.keys(tx); code(err) != duoapi.CodeOfflineLogin {
		t.Errorf("the login of another host: %v", err)
	}
	// A host that names another host's id proves nothing.
	spoof := h
	spoof.id = other.id
	if got, err := spoof.keys(tx); code(err) != duoapi.CodeInvalidProof || len(got.Keys) != 0 {
		t.Errorf("under another host's id: %+v, %v", got, err)
	}
	var got agentapi.OfflineGrant
	err := h.call("POST", "/sallyport/v1/offline/keys", map[string]any{"txid": tx, "have": []string{}, "host_id": other.id}, &got)
	if code(err) != duoapi.CodeInvalidParameter || len(got.Keys) != 0 {
		t.Errorf("naming another host in the body: %+v, %v", got, err)
	}
	// What the host reported itself is no login.
	s.must(h.report("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 1, s.event("allow", "valid_passcode")))
	s.must(s.store.View(t.Context(), func(r store.Reader) error {
		events, err := r.Events(store.EventFilter{Reasons: []string{"valid_passcode"}})
		for _, e := range events {
			if e.HostReport != nil {
				if _, err := h.keys(e.TxID); code(err) != duoapi.CodeOfflineLogin {
					t.Errorf("by the host's own report: %v", err)
				}
			}
		}
		return err
	}))
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice, map[string]string{"status": "disabled"}, nil))
	if got, err := h.keys(tx); err != nil || len(got.Keys) != 0 {
		t.Errorf("of a disabled user: %+v, %v", got, err)
	}
	s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice, map[string]string{"status": "active"}, nil))
	s.clock.Add(6 * time.Minute)
	if _, err := h.keys(tx); code(err) != duoapi.CodeOfflineLogin {
		t.Errorf("after six minutes: %v", err)
	}
}

// Whatever ends person, authenticator or host ends the keys for the host that asks next.
func TestOfflineKeysEnd(t *testing.T) {
	for name, end := range map[string]func(s *site, user string, a agentapi.Activated) error{
		"user disabled": func(s *site, user string, _ agentapi.Activated) error {
			return s.call(s.admin, "POST", "/admin/v1/users/"+user, map[string]string{"status": "disabled"}, nil)
		},
		"user deleted": func(s *site, user string, _ agentapi.Activated) error {
			return s.call(s.admin, "DELETE", "/admin/v1/users/"+user, nil, nil)
		},
		"authenticator deleted": func(s *site, _ string, a agentapi.Activated) error {
			return s.call(s.admin, "DELETE", "/admin/v1/phones/"+a.AuthenticatorID, nil, nil)
		},
		"activated again": func(s *site, _ string, a agentapi.Activated) error {
			_, again := s.activateAgain(a.AuthenticatorID)
			if bytes.Equal(again.OfflineRoot, a.OfflineRoot) {
				s.t.Error("the root of the next generation is the same")
			}
			return nil
		},
		"switched off": func(s *site, _ string, _ agentapi.Activated) error {
			return s.call(s.admin, "POST", "/admin/v1/settings", map[string]string{"offline_enabled": "false"}, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			user := s.user("alice")
			_, a := s.activated(user)
			h := s.host("db1")
			_, err := h.keys(h.login(user))
			s.must(err)
			if n := len(h.live()); n != 1 {
				t.Fatalf("%d live keys", n)
			}
			s.must(end(s, user, a))
			if live := h.live(); len(live) != 0 {
				t.Errorf("live: %+v", live)
			}
		})
	}
	s := newSite(t)
	user := s.user("alice")
	s.activated(user)
	h := s.host("db1")
	_, err := h.keys(h.login(user))
	s.must(err)
	s.must(s.call(s.admin, "DELETE", "/sallyport/v1/admin/hosts/"+h.id, nil, nil))
	if err := h.call("GET", "/sallyport/v1/offline/keys", nil, nil); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("a revoked host: %v", err)
	}
}

func (s *site) event(result, reason string) agentapi.HostEvent {
	return agentapi.HostEvent{
		Time: s.clock.Now().UnixMilli(), ID: "id", Hook: "authenticate", Service: "sshd", User: "alice", Username: "alice",
		Result: result, Reason: reason, Source: "10.0.4.7", Rule: "nightly",
	}
}

func (h offlineHost) report(epoch string, first uint64, events ...any) error {
	_, err := h.reportTo(epoch, first, events...)
	return err
}

func (h offlineHost) reportTo(epoch string, first uint64, events ...any) (uint64, error) {
	q := agentapi.HostEvents{Epoch: epoch, First: first}
	for _, e := range events {
		raw, ok := e.(json.RawMessage)
		if !ok {
			raw = json.RawMessage(toJSON(h.s.t, e))
		}
		q.Events = append(q.Events, raw)
	}
	var out agentapi.HostEventsTaken
	err := h.call("POST", "/sallyport/v1/hosts/events", q, &out)
	return out.Seq, err
}

// reported are the events in the log that hosts have reported, as the Admin API gives them.
func (s *site) reported() (out []store.Event) {
	s.t.Helper()
	var got struct{ AuthLogs []store.Event }
	s.must(s.call(s.admin, "GET", "/admin/v2/logs/authentication", map[string]string{
		"mintime": "0", "maxtime": fmt.Sprint(s.clock.Now().Add(time.Hour).UnixMilli()), "sort": "ts:asc", "limit": "1000",
	}, &got))
	for _, e := range got.AuthLogs {
		if e.HostReport != nil {
			out = append(out, e)
		}
	}
	return out
}

const epoch = "0123456789abcdef0123456789abcdef"

// Whatever is sent twice, out of a batch or as a whole, stands in the log once.
func TestReportsOnce(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	h := s.host("db1.example")
	one, two, three := s.event("allow", "rule_bypass"), s.event("deny", "rule_deny"), s.event("allow", "fail_open")
	for i, c := range []struct {
		first  uint64
		events []any
		mark   uint64
	}{
		{1, []any{one, two}, 2}, {1, []any{one, two}, 2}, {2, []any{two, three}, 3}, {1, []any{one}, 3}, {3, []any{three}, 3},
	} {
		if mark, err := h.reportTo(epoch, c.first, c.events...); err != nil || mark != c.mark {
			t.Errorf("report %d: mark %d, %v", i, mark, err)
		}
	}
	got := s.reported()
	if len(got) != 3 {
		t.Fatalf("%d events: %+v", len(got), got)
	}
	reasons := map[string]string{}
	for _, e := range got {
		reasons[e.Reason] = e.Result
		if e.User.Key != alice || e.AccessDevice.Hostname != "db1.example" || e.AccessDevice.IP != "10.0.4.7" ||
			e.HostReport.HostID != h.id || e.HostReport.Rule != "nightly" || e.Application.Name != "db1.example" || e.Detail != "" {
			t.Errorf("event %+v", e)
		}
	}
	if reasons["rule_bypass"] != "success" || reasons["rule_deny"] != "denied" || reasons["fail_open"] != "success" {
		t.Errorf("reasons %v", reasons)
	}
	// Another epoch, and another host, are other places.
	s.must(h.report(strings.Repeat("0", 32), 1, one))
	s.must(s.host("db2").report(epoch, 1, one))
	if n := len(s.reported()); n != 5 {
		t.Errorf("%d events", n)
	}
	// A host reports for itself alone.
	spoof := h
	spoof.id = s.host("db3").id
	if err := spoof.report(epoch, 9, one); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("for another host: %v", err)
	}
	s.must(s.call(s.admin, "DELETE", "/sallyport/v1/admin/hosts/"+h.id, nil, nil))
	if err := h.report(epoch, 4, one); code(err) != duoapi.CodeInvalidProof {
		t.Errorf("a revoked host: %v", err)
	}
}

// What a host says is data: nothing of it is refused for what it says, and
// nothing of it can pass for something else.
func TestReportsAreData(t *testing.T) {
	s := newSite(t)
	h := s.host("db1")
	future, past := s.event("allow", "rule_bypass"), s.event("allow", "rule_bypass")
	future.Time += time.Hour.Milliseconds()
	past.Time = 0
	odd := s.event("allow", "Rule\x1b[2J")
	odd.Username, odd.Source = "no\x1bbody", "x\ny"
	s.must(h.report(epoch, 1, future, past, odd, json.RawMessage(`"nonsense"`), json.RawMessage(`{"reason":"rule_bypass","new":1}`)))
	got := s.reported()
	if len(got) != 5 {
		t.Fatalf("%d events", len(got))
	}
	now := s.clock.Now()
	for _, e := range got {
		if at := time.Unix(e.Timestamp, 0); at.After(now.Add(time.Second)) || at.Before(now.Add(-time.Minute)) {
			t.Errorf("dated %s", at)
		}
		if text := toJSON(t, e); strings.Contains(text, `\u001b`) || strings.Contains(text, `\n`) {
			t.Errorf("control characters in %s", text)
		}
	}
	if !strings.Contains(toJSON(t, got), "ahead") || !strings.Contains(toJSON(t, got), "behind") {
		t.Error("wrong clocks are not told")
	}
	for name, q := range map[string]agentapi.HostEvents{
		"epoch":    {Epoch: "x", First: 1, Events: []json.RawMessage{[]byte("{}")}},
		"first":    {Epoch: epoch, Events: []json.RawMessage{[]byte("{}")}},
		"none":     {Epoch: epoch, First: 1, Events: []json.RawMessage{}},
		"too many": {Epoch: epoch, First: 1, Events: make([]json.RawMessage, agentapi.MaxReportEvents+1)},
		"too big":  {Epoch: epoch, First: 1, Events: []json.RawMessage{[]byte(`"` + strings.Repeat("x", agentapi.MaxEventBytes) + `"`)}},
		"overflow": {Epoch: epoch, First: 1<<63 - 1, Events: []json.RawMessage{[]byte("{}")}},
	} {
		if err := h.call("POST", "/sallyport/v1/hosts/events", q, nil); code(err) != duoapi.CodeInvalidParameter {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The use of a code moves the counter that the verifier knows, and names the authenticator.
func TestReportedUses(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	_, a := s.activated(alice)
	h := s.host("db1")
	got, err := h.keys(h.login(alice))
	s.must(err)
	use := s.event("allow", "offline")
	use.Offline = &agentapi.OfflineUse{OfflineKeyID: got.Keys[0].OfflineKeyID, Counter: 6}
	s.must(h.report(epoch, 1, use))
	if live := h.live(); len(live) != 1 || live[0].Next != 7 {
		t.Errorf("live %+v", live)
	}
	e := s.reported()[0]
	if e.Factor != "offline_code" || e.AuthDevice.Key != a.AuthenticatorID || e.HostReport.Number == nil || *e.HostReport.Number != 6 {
		t.Errorf("event %+v", e)
	}
	// A host that still has the key keeps it; one that has lost it begins another edition.
	kept, err := h.keys(h.login(alice), got.Keys[0].OfflineKeyID)
	s.must(err)
	lost, err := h.keys(h.login(alice))
	s.must(err)
	if !bytes.Equal(kept.Keys[0].Key, got.Keys[0].Key) || bytes.Equal(lost.Keys[0].Key, got.Keys[0].Key) || lost.Keys[0].Edition != 2 {
		t.Errorf("kept %+v, lost %+v", kept.Keys[0].OfflineKeyID, lost.Keys[0].OfflineKeyID)
	}
}

// FuzzHostBody: bodies under a host's key proof.
func FuzzHostBody(f *testing.F) {
	s := newSite(f)
	s.user("alice")
	h := s.host("db1")
	for i := range hostPosts {
		f.Add(uint8(i), `{"epoch":"`+epoch+`","first":1,"events":[{"time":1,"reason":"offline","username":"alice","offline":{"user_id":"x","counter":-1}},[],null,1]}`)
		f.Add(uint8(i), `{"txid":"TX","have":[{"user_id":"DU","authenticator_id":"DP","generation":-1,"edition":9223372036854775807}]}`)
	}
	f.Add(uint8(0), `{"epoch":"`+epoch+`","first":9223372036854775744,"events":[{"time":9223372036854775807}]}`)
	f.Add(uint8(0), `{"epoch":"`+epoch+`","first":5,"events":[{"time":-9223372036854775808,"offline":{"counter":9223372036854775807}}]}`)
	var lock sync.Mutex
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		lock.Lock()
		defer lock.Unlock()
		s.t = t
		checkAnswer(t, s.provedDirect(h.key, h.id, "POST", hostPosts[int(which)%len(hostPosts)], body))
	})
}
