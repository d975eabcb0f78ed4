// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

type authPage struct {
	Authlogs []store.Event `json:"authlogs"`
	Metadata struct {
		NextOffset []string `json:"next_offset"`
		Total      int      `json:"total_objects"`
	} `json:"metadata"`
}

// That an authenticator is activated stands in the log once, with its times in the form
// of all events.
func TestLogOfActivation(t *testing.T) {
	s := newSite(t)
	_, phone := s.authenticator(s.user("alice"))
	var p authPage
	s.must(s.call(s.admin, "GET", "/admin/v2/logs/authentication", params{
		"mintime": "0", "maxtime": fmt.Sprint(s.clock.Now().Add(time.Hour).UnixMilli()),
	}, &p))
	if len(p.Authlogs) != 1 {
		t.Fatalf("events %+v", p.Authlogs)
	}
	e := p.Authlogs[0]
	at, err := time.Parse("2006-01-02T15:04:05.000000+00:00", e.ISOTimestamp)
	if err != nil || at.Unix() != e.Timestamp || e.EventType != "enrollment" || e.Result != "success" || e.AuthDevice.Key != phone {
		t.Errorf("event %+v", e)
	}
}

// A client that pages through the log while people log in reads every event once.
func TestLogPagingUnderLogins(t *testing.T) {
	s := newSite(t)
	s.user("alice")
	const writers, each = 4, 15
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			for range each {
				if err := s.call(s.auth, "POST", "/auth/v2/auth", params{"username": "nobody", "factor": "auto", "device": "auto"}, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	seen := map[string]bool{}
	query := params{"limit": "7", "sort": "ts:asc"}
	for last := false; ; {
		var p authPage
		s.must(s.call(s.admin, "GET", "/admin/v2/logs/authentication", query, &p))
		for _, e := range p.Authlogs {
			if seen[e.TxID] {
				t.Fatalf("%s comes twice", e.TxID)
			}
			seen[e.TxID] = true
			query["next_offset"] = strconv.FormatInt(e.Timestamp*1000, 10) + "," + e.TxID
		}
		if p.Metadata.NextOffset != nil {
			query["next_offset"] = strings.Join(p.Metadata.NextOffset, ",")
			continue
		}
		if last {
			break
		}
		select {
		case <-done:
			last = true
		default:
		}
	}
	if len(seen) != writers*each {
		t.Errorf("%d of %d events", len(seen), writers*each)
	}
}

func TestLogFilters(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	var phone, made map[string]any
	s.must(s.call(s.admin, "POST", "/admin/v1/phones", params{"number": "+15551234567", "user_id": alice}, &phone))
	s.must(s.call(s.admin, "POST", "/admin/v1/tokens", params{"type": "h6", "user_id": alice}, &made))
	event := func(id, result, device string, groups ...string) store.Event {
		now := s.clock.Now()
		return store.Event{
			TxID: id, Time: now, Timestamp: now.Unix(), EventType: "authentication", Result: result, AuthDevice: store.AuthDevice{Key: device},
			User: store.EventUser{Key: alice, Name: "alice", Groups: groups},
		}
	}
	for _, e := range []store.Event{
		event("A", "success", phone["phone_id"].(string), "ops"), event("B", "denied", made["token_id"].(string)), event("C", "fraud", "", "ops"),
	} {
		s.must(s.store.Update(t.Context(), func(w store.Writer) error { return w.AddEvent(e) }))
	}
	for _, c := range []struct {
		p    params
		want string
	}{
		{params{}, "CBA"},
		{params{"sort": "ts:asc", "groups": "ops"}, "AC"},
		{params{"phone_numbers": "+1 555 123-4567"}, "A"},
		{params{"phone_numbers": "+15550000000"}, ""},
		{params{"token_id": made["token_id"].(string)}, "B"},
		{params{"results": "denied,fraud"}, "CB"},
		{params{"assessment": "low"}, ""},
		{params{"maxtime": "1"}, ""},
	} {
		var p authPage
		s.must(s.call(s.admin, "GET", "/admin/v2/logs/authentication", c.p, &p))
		got := ""
		for _, e := range p.Authlogs {
			got += e.TxID
		}
		if got != c.want || p.Metadata.Total != len(c.want) {
			t.Errorf("%v: %q of %d, want %q", c.p, got, p.Metadata.Total, c.want)
		}
	}
	var info map[string]any
	s.must(s.call(s.admin, "GET", "/admin/v1/info/authentication_attempts", nil, &info))
	if got := toJSON(t, info["authentication_attempts"]); got != `{"ERROR":0,"FAILURE":1,"FRAUD":1,"SUCCESS":1}` {
		t.Errorf("attempts %s", got)
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/info/user_authentication_attempts", params{"maxtime": "100"}, &info))
	if got := toJSON(t, info["user_authentication_attempts"]); got != `{"ERROR":0,"FAILURE":0,"FRAUD":0,"SUCCESS":0}` || info["mintime"] != 0.0 || info["maxtime"] != 100.0 {
		t.Errorf("attempts %v", info)
	}
}

// The activity log is the administrator log, page by page.
func TestActivityLog(t *testing.T) {
	s := newSite(t)
	for i := range 5 {
		s.must(s.call(s.admin, "POST", "/admin/v1/users", params{"username": fmt.Sprint("u", i)}, nil))
	}
	var targets []string
	query := params{"limit": "3", "sort": "ts:asc"}
	for {
		var p struct {
			Items []struct {
				ID     string `json:"activity_id"`
				TS     string
				Action struct{ Name, Details string }
				Actor  struct{ Key, Type string }
				Target struct{ Name, Type string }
				Access struct{ IP struct{ Address string } } `json:"access_device"`
			}
			Metadata struct {
				NextOffset *string `json:"next_offset"`
			}
		}
		s.must(s.call(s.admin, "GET", "/admin/v2/logs/activity", query, &p))
		for _, item := range p.Items {
			if item.Action.Name != "user_create" {
				continue
			}
			targets = append(targets, item.Target.Name)
			if item.Actor.Key != s.admin.IntegrationKey || item.Actor.Type != "application" || item.Target.Type != "user" ||
				item.Access.IP.Address != "127.0.0.1" || !json.Valid([]byte(item.Action.Details)) {
				t.Errorf("item %+v", item)
			}
			if _, err := time.Parse("2006-01-02T15:04:05.000000+00:00", item.TS); err != nil || item.ID == "" {
				t.Errorf("item %+v", item)
			}
		}
		if p.Metadata.NextOffset == nil {
			break
		}
		query["next_offset"] = *p.Metadata.NextOffset
	}
	if got := strings.Join(targets, " "); got != "u0 u1 u2 u3 u4" {
		t.Errorf("created %s", got)
	}
}

// Whose offline codes a host takes has a log of its own.
func TestOfflineEnrollmentLog(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	_, activated := s.activated(alice)
	h := s.host("db1")
	for range 2 { // the second time the host has lost the key
		_, err := h.keys(h.login(alice))
		s.must(err)
	}
	s.must(s.call(s.admin, "DELETE", "/sallyport/v1/admin/hosts/"+h.id, nil, nil))
	var log []struct{ Action, Object, Username, Description string }
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/offline_enrollment", nil, &log))
	var actions []string
	for _, e := range log {
		actions = append(actions, e.Action)
		if e.Object != "db1" || e.Username != "alice" || !strings.Contains(e.Description, activated.AuthenticatorID) {
			t.Errorf("entry %+v", e)
		}
	}
	if got := strings.Join(actions, " "); got != "o2fa_user_provisioned o2fa_user_reenrolled o2fa_user_deprovisioned" {
		t.Errorf("actions %s", got)
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", nil, &log))
	for _, e := range log {
		if strings.HasPrefix(e.Action, "o2fa_") {
			t.Errorf("the administrator log has %s", e.Action)
		}
	}
}
