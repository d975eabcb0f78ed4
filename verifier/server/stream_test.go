// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/server"
)

// ended is how a stream ended.
type ended struct {
	reason string
	err    error
}

// listener is an authenticator that listens.
type listener struct {
	s     *site
	lists chan []agentapi.Transaction
	end   chan ended
	stop  context.CancelFunc
}

// listens opens a stream and waits for its first list.
func (s *site) listens(c *agentapi.Client) (l listener, first []agentapi.Transaction) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	s.t.Cleanup(cancel)
	l = listener{s, make(chan []agentapi.Transaction, 100), make(chan ended, 1), cancel}
	go func() {
		reason, err := c.Stream(ctx, func(list []agentapi.Transaction) error {
			l.lists <- list
			return nil
		})
		l.end <- ended{reason, err}
	}()
	return l, l.next()
}

// patience is a time limit for what takes milliseconds, or a recheck.
const patience = 60 * time.Second

func (l listener) next() []agentapi.Transaction {
	l.s.t.Helper()
	select {
	case list := <-l.lists:
		return list
	case e := <-l.end:
		l.s.t.Fatalf("the stream ended: %+v", e)
	case <-time.After(patience):
		l.s.t.Fatal("nothing comes")
	}
	return nil
}

func (l listener) wantEnd(reason string) {
	l.s.t.Helper()
	select {
	case e := <-l.end:
		if e.reason != reason || e.err != nil {
			l.s.t.Errorf("ended with %+v, want %s", e, reason)
		}
	case <-time.After(patience):
		l.s.t.Errorf("no end, want %s", reason)
	}
}

func TestStream(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			transport, ok := s.admin.HTTP.Transport.(*http.Transport)
			if !ok {
				t.Fatal("not a *http.Transport")
			}
			transport.ForceAttemptHTTP2 = http2
			p := s.push()
			l, first := s.listens(p.agent(s))
			if len(first) != 1 || first[0].TxID != p.txID || first[0].Context != p.context || !first[0].Verified {
				t.Fatalf("%+v", first)
			}
			if n := s.hub.Waiters(push.Phone(p.phone)); n != 1 {
				t.Errorf("%d listen", n)
			}
			s.must(p.answer(s, login.Deny, ""))
			if list := l.next(); len(list) != 0 {
				t.Errorf("after the answer: %+v", list)
			}
			var pre duoapi.Preauth
			s.must(s.call(s.auth, "POST", "/auth/v2/preauth", params{"username": "alice", "client_supports_verified_push": "1"}, &pre))
			s.must(s.call(s.auth, "POST", "/auth/v2/auth", params{
				"username": "alice", "factor": "push", "device": p.phone, "txid": pre.TxID, "async": "1",
			}, nil))
			if list := l.next(); len(list) != 1 || list[0].TxID != pre.TxID {
				t.Errorf("the next login: %+v", list)
			}
		})
	}
}

// TestStreamOfOneAuthenticator: nobody hears of another's logins.
func TestStreamOfOneAuthenticator(t *testing.T) {
	s := newSite(t)
	p := s.push()
	mallory := s.agent(s.user("mallory"))
	_, first := s.listens(mallory)
	if len(first) != 0 {
		t.Errorf("%+v", first)
	}
	stolen := p.agent(s)
	stolen.Key = mallory.Key
	reason, err := stolen.Stream(t.Context(), func([]agentapi.Transaction) error { return errors.New("heard something") })
	if reason != "" || code(err) != duoapi.CodeInvalidProof {
		t.Errorf("%q, %v", reason, err)
	}
}

// TestStreamEnds: whatever takes the key away ends the stream that it has opened.
func TestStreamEnds(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *site, c *agentapi.Client, alice string)
		reason string
	}{
		"removed by itself": {func(s *site, c *agentapi.Client, _ string) {
			_, err := c.RemoveDevice(s.t.Context(), c.KeyID, agentapi.Verification{})
			s.must(err)
		}, agentapi.EndRemoved},
		"activated anew": {func(s *site, c *agentapi.Client, _ string) { s.activateAgain(c.KeyID) }, agentapi.EndRemoved},
		"phone deleted": {func(s *site, c *agentapi.Client, _ string) {
			s.must(s.dir.DeletePhone(s.t.Context(), directory.Actor{Name: "test"}, c.KeyID))
		}, agentapi.EndRemoved},
		"taken from its user": {func(s *site, c *agentapi.Client, alice string) {
			s.must(s.dir.DetachPhone(s.t.Context(), directory.Actor{Name: "test"}, alice, c.KeyID))
		}, agentapi.EndRemoved},
		"another number": {func(s *site, c *agentapi.Client, _ string) {
			_, err := s.dir.UpdatePhone(s.t.Context(), directory.Actor{Name: "test"}, c.KeyID, directory.PhoneChange{Number: ptr("+15550188")})
			s.must(err)
		}, agentapi.EndRenew},
		"the server stops": {func(s *site, _ *agentapi.Client, _ string) { s.srv.Stop() }, agentapi.EndStopping},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			alice := s.user("alice")
			agent := s.agent(alice)
			l, _ := s.listens(agent)
			c.change(s, agent, alice)
			l.wantEnd(c.reason)
		})
	}
}

// TestStreamsAreFew: the newest ones of an authenticator count, and one that ends
// makes room.
func TestStreamsAreFew(t *testing.T) {
	s := newSite(t)
	agent, other := s.agent(s.user("alice")), s.agent(s.user("bob"))
	first, _ := s.listens(agent)
	second, _ := s.listens(agent)
	for range agentapi.MaxStreams - 2 {
		s.listens(agent)
	}
	s.listens(other)
	s.listens(agent)
	first.wantEnd(agentapi.EndReplaced)
	select {
	case e := <-second.end:
		t.Errorf("the second ended too: %+v", e)
	default:
	}
	topic := push.Phone(agent.KeyID)
	second.stop()
	<-second.end
	for deadline := time.Now().Add(patience); s.hub.Waiters(topic) != agentapi.MaxStreams-1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d listen", s.hub.Waiters(topic))
		}
	}
	third, _ := s.listens(agent)
	select {
	case e := <-third.end:
		t.Errorf("no room was made: %+v", e)
	default:
	}
}

// TestStreamRefused: what cannot begin is answered as everywhere.
func TestStreamRefused(t *testing.T) {
	s := newSite(t)
	agent := s.agent(s.user("alice"))
	each := func([]agentapi.Transaction) error { return nil }
	if err := s.open("GET", "/sallyport/v1/authenticator/stream", "", nil, nil); code(err) != duoapi.CodeMissingCredentials {
		t.Errorf("without a proof: %v", err)
	}
	late := *agent
	late.Now = func() time.Time { return s.clock.Now().Add(-time.Hour) }
	if _, err := late.Stream(t.Context(), each); code(err) != duoapi.CodeBadDate {
		t.Errorf("an old proof: %v", err)
	}
	s.store.views.Store(true)
	if _, err := agent.Stream(t.Context(), each); code(err) != duoapi.CodeCannotDecide {
		t.Errorf("no store: %v", err)
	}
}

const partner = "https://other.example:8443"

// TestPartners: browsers show what is under the path of authenticators to the apps
// of partners, and nothing to anyone else.
func TestPartners(t *testing.T) {
	s := newSiteWith(t, func(c *server.Config, _ *login.Config) { c.Partners = []string{partner} })
	agent := s.agent(s.user("alice"))
	ask := func(method, path, origin string, headers map[string]string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, s.base.String()+path, strings.NewReader(""))
		if method == http.MethodGet {
			s.must(keyproof.SetHeader(r, nil, agent.Key, agent.KeyID, s.base.String(), s.clock.Now()))
		}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
		for name, value := range headers {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		s.srv.ServeHTTP(w, r)
		return w
	}
	const self, allow = "/sallyport/v1/authenticator/self", "Access-Control-Allow-Origin"
	preflight := map[string]string{"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
	w := ask("OPTIONS", self, partner, preflight)
	if w.Code != http.StatusNoContent || w.Header().Get(allow) != partner || w.Header().Get("Access-Control-Allow-Methods") != "GET, POST" ||
		w.Header().Get("Access-Control-Allow-Headers") != "Authorization, Content-Type" || w.Header().Get("Vary") != "Origin" {
		t.Errorf("preflight: %d %v", w.Code, w.Header())
	}
	if w := ask("GET", self, partner, nil); w.Code != http.StatusOK || w.Header().Get(allow) != partner {
		t.Errorf("call: %d %v", w.Code, w.Header())
	}
	if w := ask("GET", self, "", nil); w.Code != http.StatusOK || w.Header().Get(allow) != "" || w.Header().Get("Vary") != "Origin" {
		t.Errorf("call of no page: %d %v", w.Code, w.Header())
	}
	for _, c := range []struct{ method, path, origin string }{
		{"OPTIONS", self, "https://evil.example"}, {"OPTIONS", self, "null"}, {"OPTIONS", self, partner + "0"},
		{"OPTIONS", self, strings.ToUpper(partner)}, {"OPTIONS", self, "https://other.example"}, {"GET", self, "https://evil.example"},
		{"OPTIONS", "/auth/v2/auth", partner}, {"OPTIONS", "/admin/v1/users", partner}, {"OPTIONS", "/sallyport/v1/hosts/self", partner},
		{"OPTIONS", "/sallyport/v1/authenticator/../hosts/self", "https://evil.example"},
	} {
		w := ask(c.method, c.path, c.origin, preflight)
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%+v: %s: %s", c, name, w.Header().Get(name))
			}
		}
		if w.Header().Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%+v: cookies are allowed", c)
		}
	}
}
