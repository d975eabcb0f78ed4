// SPDX-License-Identifier: Apache-2.0

// Package webpush tells authenticators that are not connected that a login
// request waits, by way of the push services that their browsers named: RFC 8030
// (the request), RFC 8291 and 8188 (its encryption), RFC 8292 (who sends it). It
// owns subscriptions and the key that they are bound to. What it sends is the
// same for everyone; what is asked, and what is answered, never passes here.
//
// docs/explanation/web-push.md has the states of a subscription and what each
// failure comes to.
package webpush

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/sync/singleflight"

	"github.com/sallyport-mfa/sallyport/verifier/config"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const (
	// attemptTime bounds one request to a push service, budget all of a message.
	attemptTime = 4 * time.Second
	budget      = 9 * time.Second
	maxAttempts = 4
	firstPause  = 250 * time.Millisecond
	// maxPause is the longest that a push service can make us silent for one phone.
	maxPause = 5 * time.Minute
	// testEvery is how often one phone may ask for a test message.
	testEvery = 10 * time.Second
	// defaultTTL is how long a message lives that no request's end bounds; maxTTL bounds every one.
	defaultTTL = time.Minute
	maxTTL     = 10 * time.Minute
	// maxAnswer is how much of an answer is read, in bytes.
	maxAnswer = 1 << 10
	// maxPhones bounds what is remembered of phones between messages.
	maxPhones = 10_000
)

// Config is what a Service needs; Observe may be nil.
type Config struct {
	Store    store.Store
	Keys     *seal.Keys
	Settings config.WebPush
	Base     *url.URL // of the verifier: the subject, where none is set
	Now      func() time.Time
	Random   io.Reader
	Log      *slog.Logger
	// Observe is told of each message.
	Observe func(outcome push.Outcome, took time.Duration)
}

// Service sends. It is safe for concurrent use. Close ends what is on its way.
type Service struct {
	store   store.Store
	keys    *seal.Keys
	bounds  bounds
	subject string
	client  *http.Client
	now     func() time.Time
	random  io.Reader
	log     *slog.Logger
	observe func(push.Outcome, time.Duration)
	// Of one message: the pause before its second attempt, and the longest that an
	// attempt, and all of them, take.
	first, attemptTime, budget time.Duration

	keyMu sync.Mutex
	key   *vapid

	flights singleflight.Group
	base    context.Context //nolint:containedctx // the life of the service: messages outlive the call that began them
	stop    context.CancelFunc
	mu      sync.Mutex
	closed  bool
	flying  sync.WaitGroup
	silent  *lru.Cache[string, time.Time] // subscriptions that are not to be asked until then
	tested  *lru.Cache[string, time.Time] // phones, and when they asked for a test
}

var _ push.Notifier = (*Service)(nil)

// New makes a Service. It neither reads the store nor connects.
func New(c Config) (*Service, error) {
	transport, err := newTransport(c)
	if err != nil {
		return nil, fmt.Errorf("web_push: %w", err)
	}
	s := &Service{
		store: c.Store, keys: c.Keys, now: c.Now, random: c.Random, log: c.Log, observe: c.Observe,
		first: firstPause, attemptTime: attemptTime, budget: budget,
		bounds:  boundsOf(c.Settings),
		subject: c.Settings.Subject,
		client: &http.Client{
			Transport: transport,
			// A redirect would lead where nobody has looked.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if s.subject == "" {
		s.subject = c.Base.String()
	}
	if s.observe == nil {
		s.observe = func(push.Outcome, time.Duration) {}
	}
	if s.silent, err = lru.New[string, time.Time](maxPhones); err != nil {
		return nil, err
	}
	if s.tested, err = lru.New[string, time.Time](maxPhones); err != nil {
		return nil, err
	}
	s.base, s.stop = context.WithCancel(context.Background())
	return s, nil
}

func boundsOf(c config.WebPush) bounds {
	return bounds{hosts: c.AllowHosts, ports: c.AllowPorts, networks: c.Networks()}
}

func newTransport(c Config) (*http.Transport, error) {
	proxy, err := c.Settings.Proxy()
	if err != nil {
		return nil, fmt.Errorf("proxy_url: %w", err)
	}
	t := &http.Transport{
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:      true, // some push services speak nothing else
		TLSHandshakeTimeout:    attemptTime,
		MaxResponseHeaderBytes: 16 << 10,
		MaxConnsPerHost:        64,
		MaxIdleConns:           64,
		IdleConnTimeout:        90 * time.Second,
		DisableCompression:     true,
	}
	dialer := &net.Dialer{Timeout: attemptTime}
	if proxy != nil {
		t.Proxy = http.ProxyURL(proxy) // the administrator named it, so its address is not checked
	} else {
		dialer.Control = boundsOf(c.Settings).control
	}
	t.DialContext = dialer.DialContext
	if c.Settings.CAFile != "" {
		pem, err := os.ReadFile(c.Settings.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		t.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate", c.Settings.CAFile)
		}
	}
	return t, nil
}

// Close breaks off what is on its way and waits for its end. Later messages fail.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.flying.Wait()
	s.client.CloseIdleConnections()
}

// result is what became of a message.
type result struct {
	outcome push.Outcome
	err     error
}

// Notify implements push.Notifier. A message that is on its way to the phone
// already is as good as another. When ctx ends first, Failed is returned, and the
// message goes on for what is left of its own time.
func (s *Service) Notify(ctx context.Context, phoneID string) (push.Outcome, error) {
	return s.send(ctx, phoneID, login)
}

func (s *Service) send(ctx context.Context, phoneID string, k kind) (push.Outcome, error) {
	flight := s.flights.DoChan(string(k)+" "+phoneID, func() (any, error) {
		if !s.begin() {
			return result{push.Failed, errors.New("the verifier stops")}, nil
		}
		defer s.flying.Done()
		ctx, cancel := context.WithTimeoutCause(s.base, s.budget, fmt.Errorf("no answer within %s in all", s.budget))
		defer cancel()
		return s.fly(ctx, phoneID, k), nil
	})
	select {
	case r := <-flight:
		done := r.Val.(result) //nolint:forcetypeassert // what is returned above
		return done.outcome, done.err
	case <-ctx.Done():
		return push.Failed, fmt.Errorf("notify %s: the push service has not answered yet: %w", phoneID, context.Cause(ctx))
	}
}

// fly delivers, and turns a bug into a failure: nobody above would.
func (s *Service) fly(ctx context.Context, phoneID string, k kind) (r result) {
	began := s.now()
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("panic while notifying an authenticator", "phone", phoneID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			r = result{push.Failed, errors.New("the verifier failed to notify the authenticator; its log tells more")}
		}
		s.observe(r.outcome, s.now().Sub(began))
	}()
	outcome, err := s.deliver(ctx, phoneID, k)
	return result{outcome, err}
}

// begin counts a message that is on its way, unless the service is closed.
func (s *Service) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.flying.Add(1)
	return true
}
