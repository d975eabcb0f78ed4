// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/adminapi"
)

// What is left out says so, to signed clients and to strangers, with and without a body.
func TestLeftOut(t *testing.T) {
	s := newSite(t)
	wildcard := regexp.MustCompile(`\{[a-z_.]+\}`)
	for _, l := range adminapi.LeftOut() {
		for _, pattern := range l.Patterns {
			method, path, ok := strings.Cut(pattern, " ")
			methods := []string{method}
			if !ok {
				path, methods = pattern, []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete}
			}
			path = wildcard.ReplaceAllString(path, "x")
			for _, m := range methods {
				err := s.call(s.admin, m, path, params{"a": "b"}, nil)
				checkLeftOut(t, m+" "+path, l.Why, err)
				checkLeftOut(t, m+" "+path+" by a stranger", l.Why, s.open(m, path, "a=b", nil, nil))
			}
		}
	}
}

func checkLeftOut(t *testing.T, what, why string, err error) {
	t.Helper()
	if code(err) != duoapi.CodeNotFound || !strings.Contains(err.Error(), "left out: "+why) {
		t.Errorf("%s: %v", what, err)
	}
}
