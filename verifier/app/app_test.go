// SPDX-License-Identifier: Apache-2.0

package app

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"rsc.io/qr/coding"

	"github.com/sallyport-mfa/sallyport/verifier/pages"
)

// site is the app behind its own mux.
func site(t *testing.T, partners ...string) http.Handler {
	t.Helper()
	base, err := url.Parse("https://verifier.example:8443")
	if err != nil {
		t.Fatal(err)
	}
	p := pages.New(pages.Config{Base: base, Partners: partners, Log: slog.New(slog.DiscardHandler), Now: time.Now})
	mux := http.NewServeMux()
	p.Register(mux)
	New(Config{Pages: p, Partners: partners, Version: "1.2.3"}).Register(mux)
	return mux
}

func get(t *testing.T, h http.Handler, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "https://verifier.example:8443"+path, nil)
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, h http.Handler, path string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://verifier.example:8443"+path, nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%s: status %d", path, w.Code)
	}
	return w.Body.String()
}

func TestShell(t *testing.T) {
	h := site(t, "https://other.example", "https://third.example:8443")
	text := body(t, h, "/app/")
	for _, want := range []string{
		`rel="manifest"`, `data-partners="https://other.example https://third.example:8443"`, `data-version="1.2.3"`, `type="module"`, `<noscript>`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	if regexp.MustCompile(`(?i)<script[^>]*>[^<]|\son[a-z]+=|style=`).MatchString(text) {
		t.Error("the page has something inline that its policy forbids")
	}
	policy := get(t, h, "/app/").Header.Get("Content-Security-Policy")
	if !strings.Contains(policy, "connect-src 'self' https://other.example https://third.example:8443;") {
		t.Errorf("policy %s", policy)
	}
}

var reference = regexp.MustCompile(`(?m)(?:from|import) '([^']+)'|(?:src|href)="(/static/[^"#]+)"`)

// What the app loads must be there, and be kept for when the network is not.
func TestEverythingThatIsLoadedIsKept(t *testing.T) {
	h := site(t)
	kept := shellOf(t, h).Files
	if kept[0] != Path || !slices.Contains(kept, manifestPath) {
		t.Fatalf("kept: %v", kept)
	}
	for _, path := range kept {
		text := body(t, h, path)
		if path != Path && !strings.HasSuffix(path, ".js") {
			continue
		}
		base, err := url.Parse("https://verifier.example:8443" + path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range reference.FindAllStringSubmatch(text, -1) {
			u, err := base.Parse(m[1] + m[2])
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(kept, u.Path) {
				t.Errorf("%s loads %s, which the service worker does not keep", path, u.Path)
			}
		}
		if strings.HasSuffix(path, ".test.js") {
			t.Errorf("%s is served", path)
		}
	}
}

// shellOf reads the service worker's script.
func shellOf(t *testing.T, h http.Handler) (w worked) {
	t.Helper()
	text := body(t, h, workerPath)
	script, call, ok := strings.Cut(text, ";\nwork(")
	if !ok || !strings.HasPrefix(script, `import { work } from "/static/`) {
		t.Fatalf("the worker is %s", text)
	}
	if err := json.Unmarshal([]byte(strings.TrimSuffix(call, ");\n")), &w); err != nil {
		t.Fatal(err)
	}
	return w
}

func TestServiceWorker(t *testing.T) {
	h := site(t)
	w := shellOf(t, h)
	if len(w.Version) != 16 || w.Notification.Title == "" || w.Notification.Body == "" {
		t.Errorf("%+v", w)
	}
	if again := shellOf(t, site(t)); again.Version != w.Version {
		t.Error("the same app has two versions")
	}
	if other := shellOf(t, site(t, "https://other.example")); other.Version == w.Version {
		t.Error("a page that differs has the same version: browsers would go on with the old policy")
	}
	head := get(t, h, workerPath).Header
	if head.Get("Cache-Control") != "no-cache" || !strings.HasPrefix(head.Get("Content-Type"), "text/javascript") || head.Get("Service-Worker-Allowed") != Path {
		t.Errorf("headers %v", head)
	}
}

func TestManifest(t *testing.T) {
	h := site(t)
	var m manifest
	if err := json.Unmarshal([]byte(body(t, h, manifestPath)), &m); err != nil {
		t.Fatal(err)
	}
	if m.ID != Path || m.Scope != Path || m.StartURL != Path || m.Display != "standalone" || m.Name == "" {
		t.Errorf("%+v", m)
	}
	purposes := map[string]bool{}
	for _, i := range m.Icons {
		purposes[i.Purpose] = true
		if got := get(t, h, i.Source); got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != i.Type {
			t.Errorf("%s: %d %s", i.Source, got.StatusCode, got.Header.Get("Content-Type"))
		}
	}
	if !purposes["maskable"] || !purposes[""] || len(m.Shortcuts) == 0 {
		t.Errorf("%+v", m)
	}
	if kind := get(t, h, manifestPath).Header.Get("Content-Type"); kind != "application/manifest+json" {
		t.Errorf("type %s", kind)
	}
}

// The page of a link works without JavaScript too, and holds nothing of the link.
func TestActivationPage(t *testing.T) {
	text := body(t, site(t), "/sallyport/activate")
	for _, want := range []string{"sallyport authenticator activate", "app/js/link-page.js", "<noscript>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %s", want)
		}
	}
}

func TestHostIsChecked(t *testing.T) {
	w := httptest.NewRecorder()
	site(t).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "https://evil.example/app/", nil))
	if w.Code != http.StatusMisdirectedRequest {
		t.Errorf("status %d", w.Code)
	}
}

// The vectors of js/qrcode.test.js are what another implementation makes.
func TestVectorsOfQRCodes(t *testing.T) {
	text, err := os.ReadFile("testdata/qr.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Text string
		Mask int
		Rows []string
	}
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		version := coding.Version((len(v.Rows) - 17) / 4)
		plan, err := coding.NewPlan(version, coding.M, coding.Mask(v.Mask))
		if err != nil {
			t.Fatal(err)
		}
		code, err := plan.Encode(coding.String(v.Text))
		if err != nil {
			t.Fatal(err)
		}
		for y, row := range v.Rows {
			for x, module := range row {
				if code.Black(x, y) != (module == '1') {
					t.Fatalf("version %d: module %d, %d differs", version, x, y)
				}
			}
		}
	}
	if len(vectors) < 5 {
		t.Errorf("only %d vectors", len(vectors))
	}
}
