// SPDX-License-Identifier: Apache-2.0

package upstream_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/upstream"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// await waits until health says what is wanted of each address.
func await(t *testing.T, c *upstream.Client, what string, want func([]upstream.AddressHealth) bool) []upstream.AddressHealth {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if h := c.Health(); want(h) {
			return h
		}
	}
	t.Fatalf("%s: %+v", what, c.Health())
	return nil
}

func probed(h []upstream.AddressHealth) bool {
	for _, a := range h {
		if a.Since.IsZero() {
			return false
		}
	}
	return true
}

// caOf is a file with the CAs of all of them.
func caOf(t *testing.T, servers ...*verifiertest.Server) string {
	t.Helper()
	var all []byte
	for _, s := range servers {
		text, err := os.ReadFile(s.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHealth(t *testing.T) {
	s := verifiertest.New(t)
	c := client(t, s, func(o *upstream.Options) { o.Endpoints = []*url.URL{closedPort(t), s.URL} })
	h := await(t, c, "both probed", probed)
	down, up := h[0], h[1]
	if down.Up || down.Cause != upstream.CauseRefused || down.Error == "" || !down.LastContact.IsZero() || down.First {
		t.Errorf("the address at which nobody listens: %+v", down)
	}
	if !up.Up || up.Cause != "" || up.LastContact.IsZero() || up.Latency <= 0 || !up.First || up.Address != s.URL.Host {
		t.Errorf("the address that answers: %+v", up)
	}
}

// By health, the fastest is chosen first, and the one that answers is kept.
func TestSelection(t *testing.T) {
	servers := []*verifiertest.Server{verifiertest.New(t), verifiertest.New(t), verifiertest.New(t)}
	for i, s := range servers {
		delay := []time.Duration{time.Second, 0, 500 * time.Millisecond}[i]
		s.Fault = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/auth/v2/ping" {
				time.Sleep(delay)
			}
			return false
		}
	}
	asked := func() (n [3]int) {
		for i, s := range servers {
			n[i] = len(s.Calls("/auth/v2/preauth"))
		}
		return n
	}
	for _, tc := range []struct {
		selection upstream.Selection
		before    [3]int // after two calls
		after     [3]int // after two more, with the second server away, and two with it back
	}{
		{upstream.InOrder, [3]int{2, 0, 0}, [3]int{6, 0, 0}},
		{upstream.ByHealth, [3]int{0, 2, 0}, [3]int{0, 2, 4}},
	} {
		t.Run(string(tc.selection), func(t *testing.T) {
			base := asked()
			since := func() (n [3]int) {
				for i, k := range asked() {
					n[i] = k - base[i]
				}
				return n
			}
			var away atomic.Bool
			second := servers[1]
			second.Lock()
			second.Fault = func(http.ResponseWriter, *http.Request) bool {
				if away.Load() {
					panic(http.ErrAbortHandler)
				}
				return false
			}
			second.Unlock()
			c := client(t, servers[0], func(o *upstream.Options) {
				o.Selection = tc.selection
				o.Endpoints = nil
				for _, s := range servers {
					o.Endpoints = append(o.Endpoints, s.URL)
				}
				o.CAFile = caOf(t, servers...)
			})
			await(t, c, "all probed", probed)
			twice := func() {
				t.Helper()
				for range 2 {
					if err := preauth(c); err != nil {
						t.Fatal(err)
					}
				}
			}
			twice()
			if got := since(); got != tc.before {
				t.Fatalf("asked %v, want %v", got, tc.before)
			}
			away.Store(true)
			twice()
			away.Store(false)
			await(t, c, "all up", func(h []upstream.AddressHealth) bool { return h[0].Up && h[1].Up && h[2].Up })
			twice()
			if got := since(); got != tc.after {
				t.Errorf("asked %v, want %v", got, tc.after)
			}
		})
	}
}

// A verifier that restarts is found again long before probe_interval is over.
func TestRestartCostsLittle(t *testing.T) {
	s := verifiertest.New(t)
	var away atomic.Bool
	s.Fault = func(http.ResponseWriter, *http.Request) bool {
		if away.Load() {
			panic(http.ErrAbortHandler)
		}
		return false
	}
	c := client(t, s, func(o *upstream.Options) { o.ProbeInterval = time.Hour })
	await(t, c, "probed", probed)
	away.Store(true)
	outage(t, preauth(c))
	await(t, c, "down", func(h []upstream.AddressHealth) bool { return !h[0].Up })
	away.Store(false)
	await(t, c, "up again", func(h []upstream.AddressHealth) bool { return h[0].Up })
}

// An outage is seen, and so is its end, although nobody logs in.
func TestProbesWhileUp(t *testing.T) {
	s := verifiertest.New(t)
	var contacts atomic.Int32
	c := client(t, s, func(o *upstream.Options) {
		o.HealthInterval = 5 * time.Millisecond
		o.Contact = func(signed bool) {
			if !signed {
				contacts.Add(1)
			}
		}
	})
	await(t, c, "several probes", func([]upstream.AddressHealth) bool { return contacts.Load() > 3 })
	s.Close()
	await(t, c, "down", func(h []upstream.AddressHealth) bool { return !h[0].Up })
}

// What the observers are told of: good answers, refusals of this host's key
// and not of a request, and the first probe that is answered.
func TestObservers(t *testing.T) {
	s := verifiertest.New(t)
	var signed, refused, back atomic.Int32
	c := client(t, s, func(o *upstream.Options) {
		o.Contact = func(s bool) {
			if s {
				signed.Add(1)
			}
		}
		o.Refused = func() { refused.Add(1) }
		o.Back = func() { back.Add(1) }
	})
	await(t, c, "probed", func([]upstream.AddressHealth) bool { return back.Load() == 1 })
	if err := preauth(c); err != nil || signed.Load() != 1 {
		t.Errorf("%v after %d good answers", err, signed.Load())
	}
	for code, want := range map[int]int32{
		duoapi.CodeInvalidSignature: 1, duoapi.CodeInvalidProof: 1, duoapi.CodeForbidden: 1, 40300: 1, duoapi.CodeNetwork: 1,
		duoapi.CodeProofElsewhere: 0, duoapi.CodeTxUnknown: 0, duoapi.CodeTooManyRequests: 0, duoapi.CodeInvalidParameter: 0, duoapi.CodeServerError: 0,
	} {
		s.Lock()
		s.Fault = verifiertest.Refuse(code)
		s.Unlock()
		refused.Store(0)
		if err := preauth(c); err == nil || refused.Load() != want {
			t.Errorf("%d: %v, refused %d times", code, err, refused.Load())
		}
	}
	if signed.Load() != 1 {
		t.Errorf("%d good answers", signed.Load())
	}
}
