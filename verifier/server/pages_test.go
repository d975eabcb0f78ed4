// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// People who ask for what is not there read a page, clients of an API JSON.
func TestPagesBesideAPIs(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		method, path string
		status       int
		kind         string
	}{
		{"GET", "/", 200, "text/html"},
		{"GET", "/app/lost", 200, "text/html"},
		{"GET", "/app/none", 404, "text/html"},
		{"GET", "/enroll/none", 404, "text/html"},
		{"GET", "/static/none", 404, "text/html"},
		{"GET", "/app/../auth/v2/ping", 404, "text/html"},
		{"POST", "/", 405, "text/html"},
		{"DELETE", "/app/lost", 405, "text/html"},
		{"GET", "/none", 404, "application/json"},
		{"GET", "/auth/v2/none", 404, "application/json"},
		{"POST", "/auth/v2/ping", 405, "application/json"},
		{"GET", "/auth/v2/ping", 200, "application/json"},
		{"GET", "/healthz", 200, "application/json"},
	} {
		r := httptest.NewRequest(c.method, "https://verifier.example:8443/", nil)
		r.URL.Path = c.path
		w := httptest.NewRecorder()
		s.srv.ServeHTTP(w, r)
		if w.Code != c.status || !strings.HasPrefix(w.Header().Get("Content-Type"), c.kind) {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Header().Get("Content-Type"))
		}
		if page := c.kind == "text/html"; page != (w.Header().Get("Content-Security-Policy") != "") {
			t.Errorf("%s %s: Content-Security-Policy %q", c.method, c.path, w.Header().Get("Content-Security-Policy"))
		}
		if allow := w.Header().Get("Allow"); (c.status == 405) != (allow != "") {
			t.Errorf("%s %s: Allow %q", c.method, c.path, allow)
		}
	}
}
