// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/proxy"
	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
)

// through is the way through p with the right credentials.
func through(t *testing.T, p *verifiertest.Proxy) *proxy.Proxy {
	t.Helper()
	out := &proxy.Proxy{URL: p.URL, Username: verifiertest.ProxyUser, Password: verifiertest.ProxyPassword}
	if p.CAFile != "" {
		out.Roots = x509.NewCertPool()
		if text, err := os.ReadFile(p.CAFile); err != nil || !out.Roots.AppendCertsFromPEM(text) {
			t.Fatal(err)
		}
	}
	return out
}

// HTTP/2 to the verifier goes through the tunnel, on one connection, whether
// the proxy is spoken to in plain text or over TLS under a CA of its own.
func TestProxy(t *testing.T) {
	for name, overTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			s, p := verifiertest.New(t), verifiertest.NewProxy(t, overTLS)
			p.Credentials = true
			var other atomic.Int32
			s.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.ProtoMajor != 2 {
					other.Add(1)
				}
				return false
			}
			c := client(t, s, func(o *upstream.Options) { o.Proxy = through(t, p) })
			for range 3 {
				if err := preauth(c); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(p.Targets()); n == 0 || n > 2 { // the probe may have dialed at the same time
				t.Errorf("%d tunnels", n)
			}
			if other.Load() != 0 {
				t.Errorf("%d requests were not HTTP/2", other.Load())
			}
		})
	}
}

// What fails on the way is an outage that names the proxy, and never an answer
// of the verifier's, whatever status the proxy says it with.
func TestProxyFailuresAreOutages(t *testing.T) {
	status := func(code int) func(*verifiertest.Proxy, *upstream.Options) {
		return func(p *verifiertest.Proxy, _ *upstream.Options) {
			p.Fault = func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(code)
				return true
			}
		}
	}
	for name, tc := range map[string]struct {
		change  func(*verifiertest.Proxy, *upstream.Options)
		cause   upstream.Cause
		setting string
	}{
		"wrong password": {func(p *verifiertest.Proxy, o *upstream.Options) { p.Credentials, o.Proxy.Password = true, "wrong" }, upstream.CauseProxy, "verifier.proxy"},
		"401":            {status(http.StatusUnauthorized), upstream.CauseProxy, "verifier.proxy"},
		"403":            {status(http.StatusForbidden), upstream.CauseProxy, "verifier.proxy"},
		"429":            {status(http.StatusTooManyRequests), upstream.CauseProxy, "verifier.proxy"},
		"502":            {status(http.StatusBadGateway), upstream.CauseProxy, "verifier.proxy"},
		"down":           {func(p *verifiertest.Proxy, _ *upstream.Options) { p.Close() }, upstream.CauseProxy, "verifier.proxy"},
		"hangs": {func(p *verifiertest.Proxy, o *upstream.Options) {
			p.Fault, o.ConnectTimeout = verifiertest.Hang, 100*time.Millisecond
		}, upstream.CauseProxy, "connect_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := verifiertest.New(t), verifiertest.NewProxy(t, false)
			c := client(t, s, func(o *upstream.Options) {
				o.Proxy = through(t, p)
				tc.change(p, o)
			})
			o := outage(t, preauth(c))
			if o.Cause != tc.cause || o.Setting != tc.setting {
				t.Errorf("cause %q, setting %q: %v", o.Cause, o.Setting, o)
			}
		})
	}
}

// A proxy that dies takes its tunnels along; the next call finds out by itself.
func TestProxyDiesAndComesBack(t *testing.T) {
	s, p := verifiertest.New(t), verifiertest.NewProxy(t, false)
	c := client(t, s, func(o *upstream.Options) { o.Proxy = through(t, p) })
	if err := preauth(c); err != nil {
		t.Fatal(err)
	}
	await(t, c, "probed", probed) // a probe that is cut shuts the door
	p.Cut()
	if err := preauth(c); err != nil {
		t.Errorf("the proxy cut the tunnel once: %v", err)
	}
	s.Lock()
	s.Fault = func(http.ResponseWriter, *http.Request) bool {
		p.Close()
		return false
	}
	s.Unlock()
	_, err := c.Auth(context.Background(), url.Values{"factor": {"passcode"}, "passcode": {"1"}})
	outage(t, err)
}

func TestNoProxyGoesDirectly(t *testing.T) {
	s, p := verifiertest.New(t), verifiertest.NewProxy(t, false)
	c := client(t, s, func(o *upstream.Options) {
		o.Proxy = through(t, p)
		direct, err := proxy.ParseNoProxy([]string{"127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		o.Proxy.Direct = direct
	})
	if err := preauth(c); err != nil || len(p.Targets()) != 0 {
		t.Errorf("%v, tunnels %q", err, p.Targets())
	}
}

// The environment has no say, and neither has whoever sets it.
func TestEnvironmentHasNoSay(t *testing.T) {
	p := verifiertest.NewProxy(t, false)
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, p.URL.String())
	}
	if err := preauth(client(t, verifiertest.New(t), nil)); err != nil || len(p.Targets()) != 0 {
		t.Errorf("%v, tunnels %q", err, p.Targets())
	}
}

// Where the proxy makes no connection nothing was sent, so that even a passcode
// goes on to the next address.
func TestProxyFailureSendsNothing(t *testing.T) {
	first, second, p := verifiertest.New(t), verifiertest.New(t), verifiertest.NewProxy(t, false)
	second.Codes = []string{"123456"}
	p.Fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.RequestURI != first.URL.Host {
			return false
		}
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	c := client(t, first, func(o *upstream.Options) {
		o.Proxy, o.CAFile = through(t, p), caOf(t, first, second)
		o.Endpoints = []*url.URL{first.URL, second.URL}
	})
	a, err := c.Auth(t.Context(), url.Values{"factor": {"passcode"}, "passcode": {"123456"}})
	if err != nil || a.Result != "allow" {
		t.Errorf("%+v, %v", a, err)
	}
}
