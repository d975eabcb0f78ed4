// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const formType = "application/x-www-form-urlencoded"

// sent is a request that can be sent again, byte for byte, by whoever saw it.
type sent struct {
	method, target, body string
	header               http.Header
}

// record makes a signed request as a client of Duo's does, without a nonce.
func (s *site) record(c *duoapi.Client, method, target, body string) sent {
	date := s.clock.Now().UTC().Format(time.RFC1123Z)
	path, query, _ := strings.Cut(target, "?")
	sig := signature.Request{Method: method, Host: s.base.Host, Path: path, Date: date, Body: []byte(body)}
	raw := query
	if method != "GET" && method != "DELETE" {
		raw = body
	}
	sig.Params = formValues(raw)
	return sent{method, target, body, http.Header{
		"Date": {date}, "Content-Type": {formType},
		"Authorization": {signature.Authorization(signature.Scheme{Version: signature.V2}, sig, c.IntegrationKey, c.Secret)},
	}}
}

func formValues(raw string) map[string][]string {
	out := map[string][]string{}
	for _, pair := range strings.FieldsFunc(raw, func(c rune) bool { return c == '&' }) {
		name, value, _ := strings.Cut(pair, "=")
		out[name] = append(out[name], value)
	}
	return out
}

// to sends the request to a verifier, and gives the code: 0 for success.
func (q sent) to(t *testing.T, srv http.Handler) int {
	t.Helper()
	r := httptest.NewRequest(q.method, "https://verifier.example:8443"+q.target, strings.NewReader(q.body))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header = q.header.Clone()
	w := httptest.NewRecorder()
	srv.ServeHTTP(w, r)
	env, err := envelopeOf(w)
	if err != nil || w.Code >= 500 {
		t.Errorf("status %d: %v", w.Code, err)
	}
	return env.Code
}

// another is a second verifier on the same store.
func (s *site) another(t *testing.T) *server.Server {
	return server.New(server.Config{
		Base: s.base, Store: s.store, Keys: s.keys, Hub: s.hub, Directory: s.dir, Now: s.clock.Now, Log: slog.New(slog.DiscardHandler),
	})
}

// A write of the Admin API that comes again is not carried out again, at whichever
// verifier and in whatever wrapping it comes; another one in the same second is.
func TestReplay(t *testing.T) {
	s := newSite(t)
	other := s.another(t)
	alice := s.user("alice")
	codes := "/admin/v1/users/" + alice + "/bypass_codes"
	first := s.record(s.admin, "POST", codes, "count=1&preserve_existing=1")
	second := s.record(s.admin, "POST", codes, "count=2&preserve_existing=1")
	for what, q := range map[string]sent{"one": first, "another of the same second": second} {
		if got := q.to(t, s.srv); got != 0 {
			t.Errorf("%s: %d", what, got)
		}
	}
	upper := first
	upper.header = first.header.Clone()
	upper.header.Set("X-Request-Id", "2")
	upper.body = "preserve_existing=1&count=%31"
	for what, try := range map[string]func() int{
		"again":                       func() int { return first.to(t, s.srv) },
		"at another verifier":         func() int { return first.to(t, other) },
		"in another order and escape": func() int { return upper.to(t, s.srv) },
		"the second one":              func() int { return second.to(t, other) },
	} {
		if got := try(); got != duoapi.CodeReplay {
			t.Errorf("%s: code %d, want %d", what, got, duoapi.CodeReplay)
		}
	}
	s.clock.Add(signature.MaxSkew - 2*time.Second)
	if got := first.to(t, s.srv); got != duoapi.CodeReplay {
		t.Errorf("at the end of the time of its date: %d", got)
	}
	s.clock.Add(3 * time.Second)
	if got := first.to(t, s.srv); got != duoapi.CodeBadDate {
		t.Errorf("after it: %d", got)
	}
	// Marks are forgotten after the dates that they are for; until then they hold.
	ahead := s.record(s.admin, "POST", codes, "count=3&preserve_existing=1")
	s.clock.Add(-signature.MaxSkew + 2*time.Second)
	if got := ahead.to(t, s.srv); got != 0 {
		t.Errorf("from a clock that is ahead: %d", got)
	}
	for range 2*int(signature.MaxSkew/time.Minute) - 1 {
		s.clock.Add(time.Minute)
		s.must(s.call(s.admin, "POST", "/admin/v1/users/"+alice, params{"notes": "x"}, nil)) // which purges
		if got := ahead.to(t, other); got != duoapi.CodeReplay {
			t.Fatalf("at %v: code %d", s.clock.Now(), got)
		}
	}

	var list []struct{}
	s.must(s.call(s.admin, "GET", codes, nil, &list))
	if len(list) != 6 {
		t.Errorf("%d codes were made, want 6", len(list))
	}
}

// What is no replay: reads, logins, and what was refused before the handler.
func TestNoReplay(t *testing.T) {
	s := newSite(t)
	alice := s.user("alice")
	codes, err := s.dir.AddBypassCodes(t.Context(), directory.Actor{}, alice, directory.BypassRequest{Count: 2, Uses: 5})
	s.must(err)
	for what, q := range map[string]sent{
		"a read": s.record(s.admin, "GET", "/admin/v1/users?limit=3", ""),
		"two sudo at once": s.record(s.auth, "POST", "/auth/v2/auth",
			"username=alice&factor=passcode&passcode="+codes[0]),
		"a preauth": s.record(s.auth, "POST", "/auth/v2/preauth", "username=alice"),
	} {
		for i := range 2 {
			if got := q.to(t, s.srv); got != 0 {
				t.Errorf("%s, time %d: %d", what, i+1, got)
			}
		}
	}
	// A DELETE and a PUT are writes too; the device API as well.
	gone := s.record(s.admin, "DELETE", "/admin/v1/users/"+alice, "")
	if one, two := gone.to(t, s.srv), gone.to(t, s.srv); one != 0 || two != duoapi.CodeReplay {
		t.Errorf("DELETE: %d, then %d", one, two)
	}
}

// Of one request that comes from everywhere at once, one is carried out.
func TestReplayRace(t *testing.T) {
	s := newSite(t)
	servers := []http.Handler{s.srv, s.another(t)}
	q := s.record(s.admin, "POST", "/admin/v1/users", "username=racer")
	var group sync.WaitGroup
	got := make([]int, 64)
	for i := range got {
		group.Go(func() { got[i] = q.to(t, servers[i%len(servers)]) })
	}
	group.Wait()
	count := map[int]int{}
	for _, code := range got {
		count[code]++
	}
	if count[0] != 1 || count[duoapi.CodeReplay] != len(got)-1 {
		t.Errorf("codes %v", count)
	}
}

// limited is a site with rates, a log that can be read, and a server whose clock goes
// on only by ahead: how fast the machine is must not decide what is too often.
func limited(t *testing.T, rates gate.Rates) (s *site, log *bytes.Buffer, ahead *atomic.Int64) {
	log, ahead = &bytes.Buffer{}, &atomic.Int64{}
	still := time.Now()
	now := func() time.Time { return still.Add(time.Duration(ahead.Load())) }
	s = newSiteWith(t, func(c *server.Config, _ *login.Config) {
		c.Rates, c.Log, c.Now = rates, slog.New(slog.NewTextHandler(log, nil)), now
	})
	return s, log, ahead
}

// An integration that asks too often is told when to come again; the others go on.
func TestRateLimit(t *testing.T) {
	s, _, ahead := limited(t, gate.Rates{store.AdminAPI: 2})
	refused := 0
	var last error
	for i := range 30 {
		if err := s.call(s.admin, "POST", "/admin/v1/users", params{"username": fmt.Sprint("u", i)}, nil); err != nil {
			refused, last = refused+1, err
		}
	}
	var e *duoapi.Error
	if code(last) != duoapi.CodeTooManyRequests || refused != 10 {
		t.Fatalf("%d of 30 refused, the last with %v", refused, last)
	}
	if !errors.As(last, &e) || e.RetryAfter != 1 {
		t.Errorf("Retry-After %+v", e)
	}
	other := s.as(s.integration(store.AdminAPI, directory.IntegrationChange{Grants: map[string]bool{store.GrantReadResource: true}}))
	s.must(s.call(other, "GET", "/admin/v1/users", nil, nil))
	for range 50 {
		s.must(s.call(s.auth, "GET", "/auth/v2/check", nil, nil))
	}
	// What was refused for coming too fast may be sent again as it is: Duo's own client does so.
	for range 30 {
		_ = s.call(s.admin, "GET", "/admin/v1/users", nil, nil)
	}
	q := s.record(s.admin, "POST", "/admin/v1/users", "username=patient")
	if got := q.to(t, s.srv); got != duoapi.CodeTooManyRequests {
		t.Fatalf("the first time: %d", got)
	}
	ahead.Add(int64(time.Second))
	if got := q.to(t, s.srv); got != 0 {
		t.Errorf("sent again after the wait: %d", got)
	}
}

// Two hundred people who type sudo at once, on hosts that share an integration, are no flood.
func TestManyLoginsAtOnce(t *testing.T) {
	s, _, _ := limited(t, gate.Rates{store.AuthAPI: 2000})
	alice := s.user("alice")
	codes, err := s.dir.AddBypassCodes(t.Context(), directory.Actor{}, alice, directory.BypassRequest{Count: 1, Uses: 0})
	s.must(err)
	var group sync.WaitGroup
	for range 200 {
		group.Go(func() {
			for _, q := range []sent{
				s.record(s.auth, "GET", "/auth/v2/ping", ""),
				s.record(s.auth, "POST", "/auth/v2/preauth", "username=alice&text_prompt=1"),
				s.record(s.auth, "POST", "/auth/v2/auth", "username=alice&factor=prompt&prompt="+codes[0]),
			} {
				if got := q.to(t, s.srv); got != 0 {
					t.Errorf("%s: %d", q.target, got)
				}
			}
		})
	}
	group.Wait()
}

// Whoever signs rightly from a wrong place may have stolen the key: that is logged, and not by the thousand.
func TestStolenKeyIsLogged(t *testing.T) {
	s, log, _ := limited(t, nil)
	made := s.integration(store.AuthAPI, directory.IntegrationChange{Name: ptr("vpn"), Networks: &[]string{"192.0.2.0/24"}})
	for range 200 {
		if err := s.call(s.as(made), "GET", "/auth/v2/check", nil, nil); code(err) != duoapi.CodeNetwork {
			t.Fatal(err)
		}
	}
	lines := strings.Count(log.String(), "may be stolen")
	if lines == 0 || lines > 60 || !strings.Contains(log.String(), made.Key) {
		t.Errorf("%d lines of a stolen key:\n%.500s", lines, log)
	}
	// A wrong signature from there says nothing of the networks.
	wrong := made
	wrong.Secret = "x"
	if err := s.call(s.as(wrong), "GET", "/auth/v2/check", nil, nil); code(err) != duoapi.CodeInvalidSignature && code(err) != duoapi.CodeTooManyRequests {
		t.Errorf("a wrong signature: %v", err)
	}
}

// PUT and PATCH are methods like others: under a signature, and refused by name where there is no such route.
func TestOtherMethods(t *testing.T) {
	s := newSite(t)
	for _, method := range []string{"PUT", "PATCH"} {
		r := s.record(s.admin, method, "/admin/v1/settings", "x=1")
		if got := r.to(t, s.srv); got != duoapi.CodeMethodNotAllowed {
			t.Errorf("%s: %d", method, got)
		}
		r.target = "/admin/v1/nothing"
		if got := r.to(t, s.srv); got != duoapi.CodeNotFound {
			t.Errorf("%s of nothing: %d", method, got)
		}
	}
}
