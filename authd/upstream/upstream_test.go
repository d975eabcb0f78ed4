// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

func client(t *testing.T, s *verifiertest.Server, change func(*upstream.Options)) *upstream.Client {
	t.Helper()
	opt := upstream.Options{
		Endpoints: []*url.URL{s.URL}, IntegrationKey: verifiertest.IntegrationKey, Secret: []byte(verifiertest.Secret),
		CAFile: s.CAFile, ConnectTimeout: 10 * time.Second, RequestTimeout: 20 * time.Second, ProbeInterval: 20 * time.Millisecond,
		Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&opt)
	}
	c, err := upstream.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func preauth(c *upstream.Client) error {
	_, err := c.Preauth(context.Background(), url.Values{"username": {"alice"}})
	return err
}

func outage(t *testing.T, err error) *upstream.Outage {
	t.Helper()
	var o *upstream.Outage
	if !errors.As(err, &o) {
		t.Fatalf("got %v, want an outage", err)
	}
	return o
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &url.URL{Scheme: "https", Host: l.Addr().String()}
}

func TestOneConnectionIsReused(t *testing.T) {
	s := verifiertest.New(t)
	var remotes atomic.Pointer[string]
	s.Lock()
	s.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.ProtoMajor != 2 {
			t.Errorf("spoke %s", r.Proto)
		}
		if old := remotes.Swap(&r.RemoteAddr); old != nil && *old != r.RemoteAddr {
			t.Errorf("a second connection: %s after %s", r.RemoteAddr, *old)
		}
		return false
	}
	s.Unlock()
	c := client(t, s, nil)
	for range 5 {
		if err := preauth(c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAnswersAreNoOutage(t *testing.T) {
	for _, code := range []int{duoapi.CodeInvalidParameter, duoapi.CodeInvalidSignature, duoapi.CodeForbidden, duoapi.CodeTooManyRequests} {
		s := verifiertest.New(t)
		s.Fault = verifiertest.Refuse(code)
		err := preauth(client(t, s, nil))
		var answer *duoapi.Error
		var o *upstream.Outage
		if !errors.As(err, &answer) || answer.Code != code || errors.As(err, &o) {
			t.Errorf("%d: got %v", code, err)
		}
	}
}

func TestOutages(t *testing.T) {
	for name, tc := range map[string]struct {
		fault   func(http.ResponseWriter, *http.Request) bool
		change  func(*upstream.Options)
		setting string
	}{
		"500":     {fault: verifiertest.Refuse(duoapi.CodeServerError)},
		"garbage": {fault: verifiertest.Garbage},
		"cut off": {fault: func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) }},
		"hangs":   {fault: verifiertest.Hang, change: func(o *upstream.Options) { o.RequestTimeout = 100 * time.Millisecond }, setting: "request_timeout"},
		"wrong CA": {change: func(o *upstream.Options) {
			o.CAFile = "" // the system's roots do not know the test's certificate
		}},
		"refused": {change: func(o *upstream.Options) { o.Endpoints = []*url.URL{closedPort(t)} }},
		"no name": {change: func(o *upstream.Options) {
			o.Endpoints = []*url.URL{{Scheme: "https", Host: "verifier.invalid:8443"}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := verifiertest.New(t)
			s.Fault = tc.fault
			o := outage(t, preauth(client(t, s, tc.change)))
			if !o.Known && o.Setting != tc.setting {
				t.Errorf("setting %q, want %q: %v", o.Setting, tc.setting, o)
			}
		})
	}
}

func TestKnownOutageIsNotTriedAgainUntilTheProbeAnswers(t *testing.T) {
	s := verifiertest.New(t)
	var tries atomic.Int32
	hang := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/auth/v2/ping" {
			tries.Add(1)
		}
		return verifiertest.Hang(w, r)
	}
	s.Fault = hang
	back := make(chan struct{}, 1)
	c := client(t, s, func(o *upstream.Options) {
		o.RequestTimeout = 2 * time.Second
		o.Back = func() { back <- struct{}{} }
	})
	for !outage(t, preauth(c)).Known {
	}
	before := tries.Load()
	for range 100 {
		if !outage(t, preauth(c)).Known {
			t.Fatal("a known outage was tried")
		}
	}
	if tries.Load() != before {
		t.Errorf("%d requests reached the verifier", tries.Load()-before)
	}
	s.Lock()
	s.Fault = nil
	s.Unlock()
	<-back
	if err := preauth(c); err != nil {
		t.Errorf("after the outage: %v", err)
	}
}

func TestNextAddressIsAsked(t *testing.T) {
	s := verifiertest.New(t)
	s.Codes = []string{"123456"}
	c := client(t, s, func(o *upstream.Options) { o.Endpoints = []*url.URL{closedPort(t), s.URL} })
	if err := preauth(c); err != nil {
		t.Errorf("preauth: %v", err)
	}
	a, err := c.Auth(context.Background(), url.Values{"username": {"alice"}, "factor": {"passcode"}, "passcode": {"123456"}})
	if err != nil || a.Result != duoapi.ResultAllow {
		t.Errorf("auth: %+v, %v", a, err)
	}
}

// A passcode that may have reached a verifier is never sent to another: it
// would be refused there as used.
func TestAuthIsSentOnce(t *testing.T) {
	first, second := verifiertest.New(t), verifiertest.New(t)
	first.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/auth/v2/auth" {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	c := client(t, first, func(o *upstream.Options) { o.Endpoints = []*url.URL{first.URL, second.URL} })
	outage(t, func() error {
		_, err := c.Auth(context.Background(), url.Values{"factor": {"passcode"}, "passcode": {"1"}})
		return err
	}())
	if n := len(second.Calls("/auth/v2/auth")); n != 0 {
		t.Errorf("sent %d times to the second address", n)
	}
}

func TestCallerThatGoesAwayIsNoOutage(t *testing.T) {
	s := verifiertest.New(t)
	s.Fault = verifiertest.Hang
	c := client(t, s, nil)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(context.Background())
	time.AfterFunc(20*time.Millisecond, func() { cancel(gone) })
	_, err := c.AuthStatus(ctx, "tx1")
	var o *upstream.Outage
	if !errors.Is(err, gone) || errors.As(err, &o) {
		t.Errorf("got %v", err)
	}
}

func TestCancelOfServersWithoutIt(t *testing.T) {
	s := verifiertest.New(t)
	s.Fault = verifiertest.Refuse(duoapi.CodeNotFound)
	if err := client(t, s, nil).Cancel(context.Background(), "tx1"); err != nil {
		t.Errorf("404: %v", err)
	}
}

func TestNewRefusesABadCAFile(t *testing.T) {
	if _, err := upstream.New(upstream.Options{CAFile: "/nonexistent/ca.pem"}); err == nil {
		t.Error("a missing CA file was accepted")
	}
}

// A host whose clock is wrong asks the verifier for the time, once.
func TestWrongClock(t *testing.T) {
	for _, off := range []time.Duration{-24 * time.Hour, 10 * time.Minute} {
		s := verifiertest.New(t)
		var wrong atomic.Bool
		c := client(t, s, func(o *upstream.Options) {
			o.Now = func() time.Time {
				if wrong.Load() {
					return time.Now().Add(off)
				}
				return time.Now()
			}
		})
		if err := preauth(c); err != nil {
			t.Fatal(err)
		}
		wrong.Store(true)
		if err := preauth(c); err != nil {
			t.Errorf("clock off by %s: %v", off, err)
		}
		wrong.Store(false)
		if err := preauth(c); err != nil {
			t.Errorf("clock set right again: %v", err)
		}
	}
}

func TestHangingAddressDoesNotUseUpTheTimeOfTheNext(t *testing.T) {
	first, second := verifiertest.New(t), verifiertest.New(t)
	first.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		return r.URL.Path == "/auth/v2/preauth" && verifiertest.Hang(w, r)
	}
	c := client(t, first, func(o *upstream.Options) {
		o.Endpoints, o.RequestTimeout = []*url.URL{first.URL, second.URL}, 3*time.Second
	})
	if err := preauth(c); err != nil {
		t.Error(err)
	}
}

// One login that waits in vain is enough for the probe to look, and for the next
// login not to wait.
func TestTimeOutRaisesSuspicion(t *testing.T) {
	s := verifiertest.New(t)
	probed := make(chan struct{}, 16)
	s.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/auth/v2/ping" {
			probed <- struct{}{}
		}
		return false
	}
	down := make(downLine, 1)
	c := client(t, s, func(o *upstream.Options) {
		o.ConnectTimeout, o.RequestTimeout, o.ProbeInterval = 2*time.Second, 2*time.Second, time.Hour
		o.Log = slog.New(slog.NewTextHandler(down, nil))
	})
	<-probed // the probe at the start is not the one to look
	if err := preauth(c); err != nil {
		t.Fatal(err)
	}
	s.Lock()
	s.Fault = verifiertest.Hang
	s.Unlock()
	// The caller's own deadline is the same, as a login's is, and may be first.
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := c.Preauth(ctx, nil)
	outage(t, err)
	select {
	case <-down:
	case <-time.After(time.Minute):
		t.Fatal("nobody looked")
	}
	if !outage(t, preauth(c)).Known {
		t.Error("the next login waited too")
	}
}

// downLine is told of the log line that says that the verifier is down.
type downLine chan struct{}

func (d downLine) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "event=verifier_down") {
		d <- struct{}{}
	}
	return len(p), nil
}
