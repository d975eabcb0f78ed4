// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/certs"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/server"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqlite"
	"github.com/sallyport-mfa/sallyport/verifier/telephony"
)

// faulty is a store that can be broken.
type faulty struct {
	store.Store
	views   atomic.Bool
	updates atomic.Bool
	panics  atomic.Bool
}

var errDisk = errors.New("disk I/O error")

func (f *faulty) View(ctx context.Context, do func(store.Reader) error) error {
	if f.views.Load() {
		return errDisk
	}
	return f.Store.View(ctx, do)
}

func (f *faulty) Update(ctx context.Context, do func(store.Writer) error) error {
	if f.panics.Load() {
		panic("a bug")
	}
	if f.updates.Load() {
		return errDisk
	}
	return f.Store.Update(ctx, do)
}

// clock is a clock that tests set.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.offset)
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// site is a verifier on a real store.
type site struct {
	t     testing.TB
	store *faulty
	dir   *directory.Directory
	srv   *server.Server
	keys  *seal.Keys
	base  *url.URL
	clock *clock
	hub   *push.Local
	https *httptest.Server // after listen
	admin *duoapi.Client
	auth  *duoapi.Client

	legacyAuth *duoapi.Client                 // of documented_test.go
	objects    map[string]string              // of fuzz_test.go
	management directory.MadeManagementSystem // of managed
}

func newSite(t testing.TB) *site { return newSiteWith(t, nil) }

func newSiteWith(t testing.TB, change func(*server.Config, *login.Config)) *site {
	t.Helper()
	tmp := t.TempDir()
	s := &site{t: t, clock: &clock{}, base: &url.URL{Scheme: "https", Host: "verifier.example:8443"}}
	db, err := sqlite.Open(t.Context(), filepath.Join(tmp, "v.db"))
	s.must(err)
	t.Cleanup(func() { s.must(db.Close()) })
	s.store = &faulty{Store: db}
	s.keys, err = seal.Create(filepath.Join(tmp, "keys"), rand.Reader)
	s.must(err)
	ca, err := certs.NewCA("verifier.example", time.Now())
	s.must(err)
	source, err := certs.Own(ca, "verifier.example", filepath.Join(tmp, "server.pem"), filepath.Join(tmp, "server.key"), time.Now)
	s.must(err)
	s.dir = &directory.Directory{
		Store: s.store, Keys: s.keys, Base: s.base, Pin: invite.PinOf(ca.Cert), CAPEM: string(ca.PEM()),
		Now: s.clock.Now, Random: rand.Reader,
	}
	s.hub = &push.Local{}
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	lc := login.Config{
		Store: s.store, Keys: s.keys, Hub: s.hub, Audience: s.base.String(), Now: s.clock.Now, Random: rand.Reader, Log: log,
	}
	sc := server.Config{
		Base: s.base, Store: s.store, Keys: s.keys, Hub: s.hub, Directory: s.dir, Certs: source, CAPEM: string(ca.PEM()),
		Now: s.clock.Now, Log: log,
	}
	if change != nil {
		change(&sc, &lc)
	}
	service, err := login.New(lc)
	s.must(err)
	sc.Login = service
	s.dir.Pushes = service
	if lc.Telephony != nil {
		s.dir.Texts = service
	}
	s.srv = server.New(sc)
	s.https = httptest.NewUnstartedServer(s.srv)
	s.https.TLS = &tls.Config{GetCertificate: source.GetCertificate, MinVersion: tls.VersionTLS12}
	s.https.EnableHTTP2 = true
	s.https.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	s.https.StartTLS()
	t.Cleanup(s.https.Close)
	made, err := s.dir.NewAdmin(t.Context(), directory.Actor{Name: "test"}, "")
	s.must(err)
	s.admin = s.client(made, ca.Cert)
	s.auth = s.client(s.integration(store.AuthAPI, directory.IntegrationChange{}), ca.Cert)
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func ptr[T any](v T) *T { return &v }

// integration makes an integration; a name is set if there is none.
func (s *site) integration(kind store.IntegrationType, c directory.IntegrationChange) directory.MadeIntegration {
	s.t.Helper()
	if c.Name == nil {
		c.Name = ptr("test " + string(kind))
	}
	made, err := s.dir.CreateIntegration(s.t.Context(), directory.Actor{Name: "test"}, kind, c)
	s.must(err)
	return made
}

// client is a Duo-protocol client of the site with the keys of made.
func (s *site) client(made directory.MadeIntegration, ca *x509.Certificate) *duoapi.Client {
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	address := s.https.Listener.Addr().String()
	return &duoapi.Client{
		BaseURL: s.base, IntegrationKey: made.Key, Secret: []byte(made.Secret), Now: s.clock.Now, Nonce: duoapi.RandomNonce,
		HTTP: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2: true,
			DialContext: func(ctx context.Context, network, _ string) (conn netConn, err error) {
				return dialer.DialContext(ctx, network, address)
			},
		}},
	}
}

// as is a client with other keys on the same connections.
func (s *site) as(made directory.MadeIntegration) *duoapi.Client {
	c := *s.admin
	c.IntegrationKey, c.Secret = made.Key, []byte(made.Secret)
	return &c
}

// code is the code of an answer: 0 for success.
func code(err error) int {
	var e *duoapi.Error
	if errors.As(err, &e) {
		return e.Code
	}
	if err != nil {
		return -1
	}
	return 0
}

func (s *site) call(c *duoapi.Client, method, path string, params map[string]string, out any) error {
	values := url.Values{}
	for k, v := range params {
		values.Set(k, v)
	}
	_, err := c.Call(s.t.Context(), method, path, values, out)
	return err
}

// proved calls with a key proof; change may spoil the request before it goes.
func (s *site) proved(key *ecdsa.PrivateKey, kid, method, path, body string, out any, change func(*http.Request)) error {
	s.t.Helper()
	u := *s.base
	u.Path, u.RawQuery, _ = strings.Cut(path, "?")
	req, err := http.NewRequestWithContext(s.t.Context(), method, u.String(), strings.NewReader(body))
	s.must(err)
	s.must(keyproof.SetHeader(req, []byte(body), key, kid, s.base.String(), s.clock.Now()))
	if change != nil {
		change(req)
	}
	return s.do(req, out)
}

func (s *site) do(req *http.Request, out any) error {
	res, err := s.admin.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, err = duoapi.ReadAnswer(res, out)
	return err
}

func (s *site) user(name string) string {
	s.t.Helper()
	u, err := s.dir.CreateUser(s.t.Context(), directory.Actor{Name: "test"}, directory.UserChange{Username: &name})
	s.must(err)
	return u.ID
}

// authenticator activates one for a user and returns its key and id.
func (s *site) authenticator(userID string) (*ecdsa.PrivateKey, string) {
	s.t.Helper()
	phone, err := s.dir.CreatePhone(s.t.Context(), directory.Actor{Name: "test"}, userID, directory.PhoneChange{})
	s.must(err)
	act, err := s.dir.ActivatePhone(s.t.Context(), directory.Actor{Name: "test"}, phone.ID, time.Hour)
	s.must(err)
	key, err := keyproof.GenerateKey()
	s.must(err)
	s.must(s.activate(key, act.Code, nil))
	return key, phone.ID
}

func (s *site) activate(key *ecdsa.PrivateKey, activation string, out any) error {
	s.t.Helper()
	kid, err := keyproof.ID("AK", &key.PublicKey)
	s.must(err)
	public, err := keyproof.EncodeKey(&key.PublicKey)
	s.must(err)
	return s.proved(key, kid, "POST", "/sallyport/v1/authenticator/activate",
		toJSON(s.t, map[string]string{"code": activation, "public_key": public, "name": "laptop", "platform": "Linux"}), out, nil)
}

// provider is a telephony provider that takes every order and does nothing.
func provider(t testing.TB) (*telephony.Provider, string) {
	t.Helper()
	orders := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(orders.Close)
	return newProvider(t, orders.URL)
}

// open calls without credentials but those in header.
func (s *site) open(method, path, body string, header http.Header, out any) error {
	s.t.Helper()
	u := *s.base
	u.Path, u.RawQuery, _ = strings.Cut(path, "?")
	req, err := http.NewRequestWithContext(s.t.Context(), method, u.String(), strings.NewReader(body))
	s.must(err)
	for name, values := range header {
		req.Header[name] = values
	}
	return s.do(req, out)
}
