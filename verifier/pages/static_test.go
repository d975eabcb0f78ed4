// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
)

func helpIs(text string, err error) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return text, err }
}

func TestStatic(t *testing.T) {
	p := newPages()
	mux := newMux(p)
	for name, kind := range map[string]string{
		"pages/css/tokens.css": "text/css; charset=utf-8", "pages/js/i18n.js": "text/javascript; charset=utf-8",
		"pages/icons/favicon.svg": "image/svg+xml", "pages/icons/icon-192.png": "image/png",
	} {
		w := ask(mux, "GET", p.URL(name), "")
		if w.Code != 200 || w.Body.Len() == 0 || w.Header().Get("Content-Type") != kind {
			t.Errorf("%s: %d, %q, %d bytes", name, w.Code, w.Header().Get("Content-Type"), w.Body.Len())
		}
		if got := w.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
			t.Errorf("%s: Cache-Control %q", name, got)
		}
		for _, key := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Cross-Origin-Resource-Policy"} {
			if w.Header().Get(key) == "" {
				t.Errorf("%s: no %s", name, key)
			}
		}
	}
}

// Only names that were given to Add are served, whatever a path says.
func TestStaticServesNothingElse(t *testing.T) {
	p := newPages()
	hash := p.sum()
	for _, path := range []string{
		"../pages.go", "pages/../../go.mod", "pages/js/../css/base.css", "/etc/passwd", "pages/js/i18n.test.js", "pages/html/home.html",
		"pages/css", "pages/css/", "", "pages/css/base.css\x00", "..%2f..%2fetc%2fpasswd", "PAGES/css/base.css",
	} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", "https://"+host, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetPathValue("path", hash+"/"+path)
		w := ask(p.Handler(func(w http.ResponseWriter, _ *http.Request) error { return p.Static(w, r) }), "GET", "/static/x", "")
		if w.Code != 404 || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%q: %d, Cache-Control %q", path, w.Code, w.Header().Get("Cache-Control"))
		}
	}
	for _, path := range []string{
		"/static/" + hash + "/../../../etc/passwd", "/static/" + hash + "/%2e%2e/%2e%2e/etc/passwd", "/static/" + hash + "/..%2fpages.go",
		"/static/0000000000000000/pages/css/base.css", "/static/" + strings.ToUpper(hash) + "0/pages/css/base.css",
	} {
		if w := ask(newMux(p), "GET", path, ""); w.Code == 200 {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}

// A changed file changes every address, since another file may import it.
func TestHashFollowsContent(t *testing.T) {
	address := func(text string) string {
		p := newPages()
		p.Add("test", fstest.MapFS{"js/a.js": {Data: []byte(text)}})
		return p.URL("pages/css/base.css")
	}
	first, again := address("export {};"), address("export {};")
	if first != again {
		t.Error("the same files have two addresses")
	}
	if first == address("export { };") {
		t.Error("another file left the address as it was")
	}
}

// styles are the style sheets of all bundles but the tokens, by path from verifier/.
func styles(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../*/css/*.css")
	if err != nil || len(names) < 3 {
		t.Fatalf("style sheets: %v, %v", names, err)
	}
	all := map[string]string{}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(name) != "tokens.css" {
			all[name] = string(text)
		}
	}
	return all
}
