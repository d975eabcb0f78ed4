// SPDX-License-Identifier: Apache-2.0

// Package server joins the API packages to one HTTPS server: routes, TLS, limits,
// start and stop. It holds no rule of who may do what.
package server

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/verifier/adminapi"
	"github.com/sallyport-mfa/sallyport/verifier/agent"
	"github.com/sallyport-mfa/sallyport/verifier/app"
	"github.com/sallyport-mfa/sallyport/verifier/authapi"
	"github.com/sallyport-mfa/sallyport/verifier/certs"
	"github.com/sallyport-mfa/sallyport/verifier/deviceapi"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/enroll"
	"github.com/sallyport-mfa/sallyport/verifier/enrollment"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/mail"
	"github.com/sallyport-mfa/sallyport/verifier/offline"
	"github.com/sallyport-mfa/sallyport/verifier/pages"
	"github.com/sallyport-mfa/sallyport/verifier/passport"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/report"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/telephony"
	"github.com/sallyport-mfa/sallyport/verifier/trust"
	"github.com/sallyport-mfa/sallyport/verifier/verification"
	"github.com/sallyport-mfa/sallyport/verifier/webpush"
)

// Limits of connections. A handler that waits for people moves its own deadlines.
const (
	headerTimeout = 10 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 60 * time.Second
	idleTimeout   = 2 * time.Minute
	// maxHeader is room for the identifiers of 1,000 devices in a query, each of 36
	// characters in quotes: that is how Duo's clients send a DELETE.
	maxHeader = 96 << 10
	// maxStreams is how many requests wait on one HTTP/2 connection: authd has one for all its logins.
	maxStreams = 1000
	// stopTimeout is how long requests under way have to end when the server stops.
	stopTimeout = 8 * time.Second
)

// Config is what a Server needs; Telephony, Logo and CAPEM may be empty.
type Config struct {
	Base      *url.URL
	Store     store.Store
	Keys      *seal.Keys
	Login     login.API
	Hub       push.Hub
	Directory *directory.Directory
	Telephony *telephony.Provider
	WebPush   *webpush.Service // nil: off
	Mail      *mail.Service    // nil: off
	Certs     *certs.Source
	CAPEM     string
	Logo      []byte
	Rates     gate.Rates // nil: no integration is held back
	Partners  []string   // origins of other verifiers whose app and this one's know each other
	// Checks says what the verifier needs to be fit to serve, and whether it holds; nil: nothing.
	Checks func() map[string]bool
	// Observe is told of each answer to a route; nil: nobody is.
	Observe func(route string, status int, took time.Duration)
	Now     func() time.Time
	Log     *slog.Logger
}

// Server serves the verifier's APIs and pages.
type Server struct {
	config   Config
	mux      *http.ServeMux
	gate     *gate.Gate
	routes   []string
	trust    *trust.Service
	enroll   *enrollment.Service
	pages    *pages.Pages
	stopping chan struct{} // closed by Stop
	stop     func()
}

// Handle implements gate.Routes.
func (s *Server) Handle(pattern string, h http.Handler) {
	s.mux.Handle(pattern, h)
	s.routes = append(s.routes, pattern)
}

// Routes are the patterns of all APIs, such as "GET /auth/v2/check".
func (s *Server) Routes() []string { return slices.Sorted(slices.Values(s.routes)) }

// New makes a Server.
func New(c Config) *Server {
	g := gate.New(gate.Config{Store: c.Store, Keys: c.Keys, Audience: c.Base.String(), Now: c.Now, Log: c.Log, EncodingOf: authapi.EncodingOf, Rates: c.Rates, Partners: c.Partners})
	s := &Server{config: c, mux: http.NewServeMux(), gate: g, stopping: make(chan struct{}), trust: trust.New(trust.Config{
		Store: c.Store, Base: c.Base, Now: c.Now, After: time.After, Random: rand.Reader, Log: c.Log,
	})}
	s.stop = sync.OnceFunc(func() { close(s.stopping) })
	s.enroll = &enrollment.Service{Store: c.Store, Directory: c.Directory, Log: c.Log}
	if c.Mail != nil { // a nil *Service in the interface would not be nil
		s.enroll.Mail = c.Mail
	}
	(&authapi.API{Gate: g, Login: c.Login, Directory: c.Directory, Logo: c.Logo, Now: c.Now}).Register(s)
	(&adminapi.API{Gate: g, Directory: c.Directory, Enrollment: s.enroll, Login: c.Login, Store: c.Store, Base: c.Base, Telephony: c.Telephony != nil, Now: c.Now, Log: c.Log}).Register(s)
	(&deviceapi.API{Gate: g, Trust: s.trust}).Register(s)
	(&agent.API{
		Gate: g, Login: c.Login, Passport: &passport.Service{Store: c.Store, Policy: c.Login, Now: c.Now, Random: rand.Reader, Log: c.Log},
		Directory: c.Directory, Base: c.Base, CAPEM: c.CAPEM, Store: c.Store,
		Hub: c.Hub, Telephony: c.Telephony, WebPush: c.WebPush, Now: c.Now, Log: c.Log,
		Offline: &offline.Service{Store: c.Store, Keys: c.Keys, Now: c.Now},
		Reports: &report.Service{Store: c.Store, Now: c.Now, Log: c.Log},
		Verification: &verification.Service{
			Store: c.Store, Party: verification.PartyOf(c.Base.String()), Now: c.Now, Random: rand.Reader, Notices: c.Directory.Notices,
		},
		Stopping: s.stopping,
	}).Register(s)
	s.pages = pages.New(pages.Config{Base: c.Base, Partners: c.Partners, Help: s.help, Now: c.Now, Log: c.Log})
	s.pages.Register(s.mux)
	app.New(app.Config{Pages: s.pages, Partners: c.Partners, Version: version.String()}).Register(s.mux)
	(&enroll.Pages{Enrollment: s.enroll, Frame: s.pages, Refused: g.Refused, Now: c.Now}).Register(s.mux)
	s.mux.HandleFunc("GET /healthz", s.health)
	s.mux.HandleFunc("GET /readyz", s.ready)
	return s
}

// Trust is the service that looks after device caches; its Run is for the caller.
func (s *Server) Trust() *trust.Service { return s.trust }

// Enrollment is the service that people enrol with; its Run is for the caller.
func (s *Server) Enrollment() *enrollment.Service { return s.enroll }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.recover(w, r)
	if s.gate.CrossOrigin(w, r) {
		return
	}
	_, pattern := s.mux.Handler(r)
	switch {
	case pattern == "" || !clean(r.URL.Path):
		s.refuse(w, r, pattern)
	case s.config.Observe != nil:
		s.observed(pattern, w, r)
	default:
		s.mux.ServeHTTP(w, r)
	}
}

// refuse answers where no route is: for another method, or for another path.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, pattern string) {
	if allowed := s.otherMethods(r); pattern == "" && allowed != "" {
		w.Header().Set("Allow", allowed)
		s.refusals(r).NotAllowed().ServeHTTP(w, r)
		return
	}
	s.refusals(r).NotFound().ServeHTTP(w, r)
}

type refuser interface {
	NotFound() http.Handler
	NotAllowed() http.Handler
}

// refusals answer for paths that no pattern takes: people read a page, clients JSON.
func (s *Server) refusals(r *http.Request) refuser {
	if pages.Owns(r.URL.Path) {
		return s.pages
	}
	return s.gate
}

// help is what the organisation tells people who need help.
func (s *Server) help(ctx context.Context) (string, error) {
	var help string
	err := s.config.Store.View(ctx, func(r store.Reader) error {
		settings, err := r.Settings()
		help = settings.HelpdeskMessage
		return err
	})
	return help, err
}

// clean says that the mux takes the path as it is. For any other it would
// redirect, and a signature does not survive that.
func clean(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.Contains(path, "//") &&
		!strings.Contains(path+"/", "/./") && !strings.Contains(path+"/", "/../")
}

// otherMethods are the methods with which the path is there.
func (s *Server) otherMethods(r *http.Request) string {
	var allow []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		other := *r
		other.Method = method
		if _, pattern := s.mux.Handler(&other); pattern != "" && method != r.Method {
			allow = append(allow, method)
		}
	}
	return strings.Join(allow, ", ")
}

// recover answers for a panic outside the handlers: a broken connection would
// count as an outage with clients, and some let people in on one.
func (s *Server) recover(w http.ResponseWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p == http.ErrAbortHandler { //nolint:errorlint // a sentinel that is thrown, not wrapped
		panic(p)
	}
	s.config.Log.Error("panic while answering a request; the client was refused",
		"method", r.Method, "path", r.URL.EscapedPath(), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	s.gate.WriteRefusal(w, r, duoapi.NewError(duoapi.CodeCannotDecide, ""))
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone is no error of ours
}

// health is for monitors: 200 while the store answers, else 503. It is the one
// path with a 5xx, and no client of the APIs calls it.
func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	if err := s.Healthy(ctx); err != nil {
		s.config.Log.Error("health check failed", "error", err)
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"stat": "FAIL", "message": "the store does not answer"})
		return
	}
	writeJSON(w, http.StatusOK, map[string]string{"stat": "OK"})
}

// ready is for what sends requests here or elsewhere: 200 while every check
// passes, else 503. Strangers learn which fails, but not why.
func (s *Server) ready(w http.ResponseWriter, _ *http.Request) {
	status, stat, checks := http.StatusOK, "OK", map[string]bool{}
	if s.config.Checks != nil {
		checks = s.config.Checks()
	}
	for _, ok := range checks {
		if !ok {
			status, stat = http.StatusServiceUnavailable, "FAIL"
		}
	}
	writeJSON(w, status, map[string]any{"stat": stat, "checks": checks})
}

// Healthy says whether the store answers.
func (s *Server) Healthy(ctx context.Context) error {
	return s.config.Store.View(ctx, func(r store.Reader) error {
		_, err := r.Settings()
		return err
	})
}

// Stop tells those whom answers go to for long that the server stops, so that they
// end. Serve does so by itself; a second call does nothing.
func (s *Server) Stop() { s.stop() }

// Serve answers on l until ctx ends, then lets requests under way end, at most
// for a few seconds. It returns nil after an orderly stop.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	base, cut := context.WithCancel(context.Background())
	defer cut()
	srv := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		TLSConfig:         &tls.Config{GetCertificate: s.config.Certs.GetCertificate, MinVersion: tls.VersionTLS12},
		// Handshakes that strangers break off are no news.
		ErrorLog: slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.ServeTLS(l, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	s.Stop()
	stop, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := srv.Shutdown(stop); err != nil {
		s.config.Log.Info("cut off requests that still waited for people", "after", stopTimeout)
		cut()
		if err := srv.Close(); err != nil {
			return fmt.Errorf("stop: %w", err)
		}
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}
