// SPDX-License-Identifier: Apache-2.0

package stress

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/datadir"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// How long the tests go on; make soak sets more.
var (
	rounds = flag.Int("rounds", defaultRounds, "rounds of the replay test")
	kills  = flag.Int("kills", 5, "how often the verifier is killed")
	busy   = flag.Duration("busy", 4*time.Second, "how long administrators, scripts and logins are at work at once")
)

// clock is a clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// site is a verifier on a real store in this process, reached without a network.
type site struct {
	testing.TB
	data  *datadir.Data
	store store.Store // as the verifier has it
	srv   *server.Server
	base  *url.URL
	now   func() time.Time
	auth  *duoapi.Client
}

// newSite makes a verifier; wrap, if there is one, stands between it and its store.
func newSite(t testing.TB, now func() time.Time, wrap func(store.Store) store.Store) *site {
	t.Helper()
	s := &site{TB: t, base: &url.URL{Scheme: "https", Host: "verifier.example:8443"}, now: now}
	dir := filepath.Join(t.TempDir(), "data")
	s.must(datadir.Init(context.Background(), datadir.InitOptions{Dir: dir, URL: s.base.String()}, now))
	var err error
	s.data, err = datadir.Open(context.Background(), dir, "", now)
	s.must(err)
	t.Cleanup(func() { s.must(s.data.Close()) })
	s.store = s.data.Store
	if wrap != nil {
		s.store = wrap(s.data.Store)
	}
	s.data.Directory.Store = s.store
	hub := &push.Local{}
	log := slog.New(slog.DiscardHandler)
	service, err := login.New(login.Config{
		Store: s.store, Keys: s.data.Keys, Hub: hub, Audience: s.base.String(), Now: now, Random: rand.Reader, Log: log,
	})
	s.must(err)
	s.srv = server.New(server.Config{
		Base: s.base, Store: s.store, Keys: s.data.Keys, Login: service, Hub: hub, Directory: s.data.Directory,
		Certs: s.data.Certs, CAPEM: s.data.CAPEM, Now: now, Log: log,
	})
	// None of these tests is about the lock-out.
	_, err = s.data.Directory.SetSettings(context.Background(), directory.Actor{Name: "test"}, func(set *store.Settings) error {
		set.LockoutThreshold, set.PushBudget, set.PushDelay = 9999, 1000, 0
		return nil
	})
	s.must(err)
	s.auth = s.client(s.integration(store.AuthAPI, "sshd", directory.IntegrationChange{AllowPlainPush: ptr(true)}))
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

func (s *site) integration(kind store.IntegrationType, name string, c directory.IntegrationChange) directory.MadeIntegration {
	s.Helper()
	c.Name = &name
	made, err := s.data.Directory.CreateIntegration(context.Background(), directory.Actor{Name: "test"}, kind, c)
	s.must(err)
	return made
}

func (s *site) client(made directory.MadeIntegration) *duoapi.Client {
	return &duoapi.Client{
		BaseURL: s.base, IntegrationKey: made.Key, Secret: []byte(made.Secret), Now: s.now, Nonce: duoapi.RandomNonce,
		HTTP: &http.Client{Transport: direct{s.srv}},
	}
}

// direct is a transport without a network: signatures and handlers are the real ones.
type direct struct{ to http.Handler }

// RoundTrip implements http.RoundTripper.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	body := []byte{}
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	in := httptest.NewRequestWithContext(r.Context(), r.Method, r.URL.String(), bytes.NewReader(body))
	in.Header = r.Header
	out := httptest.NewRecorder()
	d.to.ServeHTTP(out, in)
	return out.Result(), nil
}

// code is the code of an answer: 0 for success, -1 if there was none.
func code(err error) int {
	var e *duoapi.Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Code
	}
	return -1
}
