// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func TestEvent(t *testing.T) {
	r := Request{
		Integration: store.Integration{Key: "DI1", Name: "sshd"},
		User:        store.User{ID: "DU1", Username: "alice", Email: "a@example.org"}, Name: "al", IP: "192.0.2.1", Hostname: "web1",
	}
	e := Outcome(New("T1", r), time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC), Success, ValidPasscode)
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{
		`"txid":"T1"`, `"timestamp":1772366400`, `"isotimestamp":"2026-03-01T12:00:00.005000+00:00"`, `"event_type":"authentication"`,
		`"result":"success"`, `"reason":"valid_passcode"`, `"user":{"key":"DU1","name":"alice","groups":[]}`, `"alias":"al"`,
		`"application":{"key":"DI1","name":"sshd"}`, `"ip":"192.0.2.1"`, `"hostname":"web1"`, `"email":"a@example.org"`,
	} {
		if !strings.Contains(string(b), part) {
			t.Errorf("no %s in %s", part, b)
		}
	}
	r.Name = "alice"
	if e := New("T1", r); e.Alias != "" {
		t.Errorf("alias %q", e.Alias)
	}
	unknown := New("T1", Request{Name: "mal\x1b[2Jlory\n"})
	if unknown.User.Key != "" || unknown.User.Name != "mal\uFFFD[2Jlory\uFFFD" {
		t.Errorf("%+v", unknown.User)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"a b": "a b", "ä€": "ä€", "\x00\x7f\u0085": "\uFFFD\uFFFD\uFFFD", "x\u202ey": "x\uFFFDy", "\xff": "\uFFFD",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if n := len([]rune(Printable(strings.Repeat("é", 1000)))); n != 256 {
		t.Errorf("%d characters", n)
	}
}
