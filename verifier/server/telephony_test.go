// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// TestTelephonyCredits: they are off at first, set and shown, and the administrator
// log tells who set them.
func TestTelephonyCredits(t *testing.T) {
	s := newSite(t)
	const path = "/admin/v1/billing/telephony_credits"
	var got struct{ Credits int }
	s.must(s.call(s.admin, "GET", path, nil, &got))
	if got.Credits != store.Uncounted {
		t.Errorf("at first: %d", got.Credits)
	}
	for _, c := range []struct {
		credits string
		code    int
	}{{"", duoapi.CodeMissingParameter}, {"-2", duoapi.CodeInvalidParameter}, {"many", duoapi.CodeInvalidParameter}, {"50", 0}} {
		if err := s.call(s.admin, "POST", path, params{"credits": c.credits}, &got); code(err) != c.code {
			t.Errorf("%q: %v", c.credits, err)
		}
	}
	s.must(s.call(s.admin, "GET", path, nil, &got))
	if got.Credits != 50 {
		t.Errorf("set to 50: %d", got.Credits)
	}
	var summary map[string]int
	s.must(s.call(s.admin, "GET", "/admin/v1/info/summary", nil, &summary))
	if summary["telephony_credits_remaining"] != 50 {
		t.Errorf("summary %v", summary)
	}
	reader := s.as(s.integration(store.AdminAPI, directory.IntegrationChange{Grants: map[string]bool{store.GrantReadLog: true}}))
	for _, method := range []string{"GET", "POST"} {
		if err := s.call(reader, method, path, params{"credits": "1"}, nil); code(err) != duoapi.CodeGrant {
			t.Errorf("%s without the grant: %v", method, err)
		}
	}
	var log []struct{ Action, Description string }
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/administrator", nil, &log))
	var last struct{ Action, Description string }
	for _, e := range log {
		if e.Action == "telephony_credits_update" {
			last = e
		}
	}
	if !strings.Contains(last.Description, `"before":{"credits":-1}`) || !strings.Contains(last.Description, `"after":{"credits":50}`) {
		t.Errorf("administrator log %+v", last)
	}
}

// TestTelephonyLog: both versions show what the provider was asked for, page by
// page, without a code.
func TestTelephonyLog(t *testing.T) {
	s := newSite(t)
	at := time.Now().Add(-time.Hour).Truncate(time.Millisecond)
	s.must(s.store.Update(t.Context(), func(w store.Writer) error {
		for i := range 5 {
			err := w.AddTelephonyEntry(store.TelephonyEntry{
				ID: fmt.Sprintf("T%d", i), Time: at.Add(time.Duration(i) * time.Second), Context: "authentication", Type: "sms",
				Phone: "+15550100123", TxID: "X", Credits: 2,
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	var v1 []struct {
		Context, Type, Phone, ISOTimestamp string
		Credits, Timestamp                 int64
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/logs/telephony", params{"mintime": fmt.Sprint(at.Unix() + 1)}, &v1))
	if len(v1) < 3 || v1[0].Context != "authentication" || v1[0].Credits != 2 || v1[0].Phone != "+15550100123" || v1[0].ISOTimestamp == "" {
		t.Errorf("version 1: %+v", v1)
	}
	for _, sort := range []string{"ts:asc", "ts:desc"} {
		var ids []string
		query := params{"limit": "2", "sort": sort}
		for {
			var v2 struct {
				Items []struct {
					ID string `json:"telephony_id"`
					TS string
				}
				Metadata struct {
					NextOffset *string `json:"next_offset"`
				}
			}
			s.must(s.call(s.admin, "GET", "/admin/v2/logs/telephony", query, &v2))
			for _, i := range v2.Items {
				ids = append(ids, i.ID)
			}
			if v2.Metadata.NextOffset == nil {
				break
			}
			query["next_offset"] = *v2.Metadata.NextOffset
		}
		want := "T0 T1 T2 T3 T4"
		if sort == "ts:desc" {
			want = "T4 T3 T2 T1 T0"
		}
		if got := strings.Join(ids, " "); got != want {
			t.Errorf("%s: %s", sort, got)
		}
	}
	var used map[string]int
	s.must(s.call(s.admin, "GET", "/admin/v1/info/telephony_credits_used", nil, &used))
	if used["telephony_credits_used"] != 10 {
		t.Errorf("used %v", used)
	}
	s.must(s.call(s.admin, "GET", "/admin/v1/info/telephony_credits_used", params{"maxtime": fmt.Sprint(at.Unix() - 1)}, &used))
	if used["telephony_credits_used"] != 0 {
		t.Errorf("used before: %v", used)
	}
	var raw json.RawMessage
	_, err := s.admin.Call(t.Context(), "GET", "/admin/v2/logs/telephony", url.Values{"maxtime": {"1"}}, &raw)
	s.must(err)
	if !strings.Contains(string(raw), `"items":[]`) || !strings.Contains(string(raw), `"next_offset":null`) {
		t.Errorf("an empty log: %s", raw)
	}
}
