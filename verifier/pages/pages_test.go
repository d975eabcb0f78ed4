// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"
	"time"
)

const host = "verifier.example:8443"

func newPages() *Pages {
	return New(Config{
		Base:     &url.URL{Scheme: "https", Host: host},
		Partners: []string{"https://other.example:8443"},
		Now:      time.Now,
		Log:      slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
}

// newMux has the pages of this package and some that misbehave.
func newMux(p *Pages) *http.ServeMux {
	mux := http.NewServeMux()
	p.Register(mux)
	p.Handle(mux, "POST /enroll/done", func(w http.ResponseWriter, r *http.Request) error {
		if err := r.ParseForm(); err != nil {
			return err
		}
		return p.Render(w, http.StatusOK, "pages/home", nil)
	})
	p.Handle(mux, "GET /app/{$}", func(w http.ResponseWriter, _ *http.Request) error {
		return p.Render(w, http.StatusOK, "pages/home", nil)
	})
	p.Handle(mux, "GET /enroll/fault", func(http.ResponseWriter, *http.Request) error { return errors.New("secret detail") })
	p.Handle(mux, "GET /enroll/panic", func(http.ResponseWriter, *http.Request) error { panic("secret detail") })
	p.Handle(mux, "GET /enroll/unknown", func(w http.ResponseWriter, _ *http.Request) error {
		return p.Render(w, http.StatusOK, "pages/nothing", nil)
	})
	mux.Handle("GET /enroll/none", p.NotFound())
	mux.Handle("GET /enroll/method", p.NotAllowed())
	return mux
}

type change func(*http.Request)

func header(name, value string) change { return func(r *http.Request) { r.Header.Set(name, value) } }

func ask(mux http.Handler, method, path, body string, changes ...change) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://"+host+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, c := range changes {
		c(r)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

var wantHeaders = map[string]string{
	"X-Content-Type-Options":       "nosniff",
	"X-Frame-Options":              "DENY",
	"Referrer-Policy":              "no-referrer",
	"Cross-Origin-Opener-Policy":   "same-origin",
	"Cross-Origin-Resource-Policy": "same-origin",
	"Strict-Transport-Security":    "max-age=31536000",
	"Cache-Control":                "no-store",
	"Content-Type":                 "text/html; charset=utf-8",
}

func TestHeadersOfEveryAnswer(t *testing.T) {
	mux := newMux(newPages())
	for _, c := range []struct {
		method, path string
		status       int
		changes      []change
	}{
		{"GET", "/", 200, nil},
		{"HEAD", "/", 200, nil},
		{"GET", "/app/lost", 200, nil},
		{"GET", "/app/", 200, nil},
		{"POST", "/enroll/done", 200, nil},
		{"GET", "/enroll/none", 404, nil},
		{"GET", "/enroll/method", 405, nil},
		{"GET", "/enroll/fault", 500, nil},
		{"GET", "/enroll/panic", 500, nil},
		{"GET", "/enroll/unknown", 500, nil},
		{"GET", "/static/none/pages/css/base.css", 404, nil},
		{"POST", "/enroll/done", 403, []change{header("Sec-Fetch-Site", "cross-site")}},
		{"GET", "/", 421, []change{func(r *http.Request) { r.Host = "evil.example" }}},
	} {
		w := ask(mux, c.method, c.path, "", c.changes...)
		name := c.method + " " + c.path
		if w.Code != c.status {
			t.Errorf("%s: status %d, want %d", name, w.Code, c.status)
		}
		for key, want := range wantHeaders {
			if got := w.Header().Get(key); got != want {
				t.Errorf("%s: %s is %q, want %q", name, key, got, want)
			}
		}
		if got := w.Header().Get("Permissions-Policy"); got != permissions+camera(c.path) {
			t.Errorf("%s: Permissions-Policy %q", name, got)
		}
		policy := w.Header().Get("Content-Security-Policy")
		for _, want := range []string{
			"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'", "frame-ancestors 'none'",
			"base-uri 'none'", "require-trusted-types-for 'script'",
		} {
			if !strings.Contains("; "+policy+";", "; "+want+";") {
				t.Errorf("%s: the policy %q lacks %q", name, policy, want)
			}
		}
		if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", name, policy)
		}
		if strings.Contains(w.Body.String(), "secret detail") {
			t.Errorf("%s: the page tells what went wrong inside", name)
		}
	}
}

// Partners may be called, and a worker registered, from the app alone.
func TestOnlyTheAppMayCallPartners(t *testing.T) {
	mux := newMux(newPages())
	for path, want := range map[string][2]string{
		"/":            {"connect-src 'self';", "trusted-types 'none'"},
		"/enroll/none": {"connect-src 'self';", "trusted-types 'none'"},
		"/app/":        {"connect-src 'self' https://other.example:8443;", "trusted-types " + WorkerPolicy},
	} {
		policy := ask(mux, "GET", path, "").Header().Get("Content-Security-Policy")
		if got := strings.Contains(ask(mux, "GET", path, "").Header().Get("Permissions-Policy"), "camera=(self)"); got != strings.HasPrefix(path, "/app/") {
			t.Errorf("%s: the camera is allowed: %v", path, got)
		}
		for _, part := range want {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: policy %q lacks %q", path, policy, part)
			}
		}
	}
}

func TestOtherHostsAreRefused(t *testing.T) {
	p := newPages()
	mux := newMux(p)
	for _, name := range []string{
		"evil.example", "evil.example:8443", "verifier.example", "verifier.example:443", "verifier.example:8444",
		"verifier.example.:8443", "verifier.example:8443.evil.example", "evil.example@verifier.example:8443", "127.0.0.1:8443", "",
	} {
		for _, path := range []string{"/", "/app/", "/enroll/none", p.URL("pages/css/base.css")} {
			w := ask(mux, "GET", path, "", func(r *http.Request) { r.Host = name })
			if w.Code != http.StatusMisdirectedRequest || strings.Contains(w.Body.String(), "href") {
				t.Errorf("%s as %q: %d %s", path, name, w.Code, w.Body)
			}
			if name != "" && strings.Contains(w.Body.String(), name) {
				t.Errorf("%s as %q: the page repeats the name", path, name)
			}
		}
	}
	// Names of hosts have no case, and the port may be written where it is the default.
	if w := ask(mux, "GET", "/", "", func(r *http.Request) { r.Host = "Verifier.Example:8443" }); w.Code != 200 {
		t.Errorf("in upper case: %d", w.Code)
	}
	plain := New(Config{Base: &url.URL{Scheme: "https", Host: "verifier.example"}, Now: time.Now, Log: p.config.Log})
	for name, want := range map[string]int{"verifier.example": 200, "verifier.example:443": 200, "verifier.example:8443": 421} {
		if w := ask(newMux(plain), "GET", "/", "", func(r *http.Request) { r.Host = name }); w.Code != want {
			t.Errorf("default port, as %q: %d, want %d", name, w.Code, want)
		}
	}
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	mux := newMux(newPages())
	for _, c := range []struct {
		name    string
		changes []change
		want    int
	}{
		{"own page", []change{header("Sec-Fetch-Site", "same-origin"), header("Origin", "https://"+host)}, 200},
		{"own page, older browser", []change{header("Origin", "https://"+host)}, 200},
		{"other site", []change{header("Sec-Fetch-Site", "cross-site"), header("Origin", "https://evil.example")}, 403},
		{"other site, older browser", []change{header("Origin", "https://evil.example")}, 403},
		{"another port of the host", []change{header("Sec-Fetch-Site", "same-site"), header("Origin", "https://verifier.example:9443")}, 403},
		{"another name of the domain", []change{header("Sec-Fetch-Site", "same-site"), header("Origin", "https://www.verifier.example")}, 403},
		{"a frame without an origin", []change{header("Origin", "null")}, 403},
		{"a partner", []change{header("Sec-Fetch-Site", "cross-site"), header("Origin", "https://other.example:8443")}, 403},
	} {
		if w := ask(mux, "POST", "/enroll/done", "a=b", c.changes...); w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
}

func TestLargeBodiesAreRefused(t *testing.T) {
	mux := newMux(newPages())
	if w := ask(mux, "POST", "/enroll/done", "a="+strings.Repeat("x", MaxBody-2)); w.Code != 200 {
		t.Errorf("the largest body: %d", w.Code)
	}
	if w := ask(mux, "POST", "/enroll/done", "a="+strings.Repeat("x", MaxBody)); w.Code != 413 {
		t.Errorf("a larger body: %d", w.Code)
	}
}

// A redirect leads to a fixed place, whatever stands in the request.
func TestRedirects(t *testing.T) {
	mux := newMux(newPages())
	for path, want := range map[string]string{
		"/app": "/app/", "/enroll": "/enroll/", "/app?next=https://evil.example": "/app/", "/enroll?url=//evil.example": "/enroll/",
	} {
		if w := ask(mux, "GET", path, ""); w.Code != 308 || w.Header().Get("Location") != want || w.Header().Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d to %q", path, w.Code, w.Header().Get("Location"))
		}
	}
}

func TestPagesAreWhole(t *testing.T) {
	mux := newMux(newPages())
	title := regexp.MustCompile(`<title>[^<]+ · Sallyport</title>`)
	for _, path := range []string{"/", "/app/lost", "/enroll/none", "/enroll/method", "/enroll/fault"} {
		body := ask(mux, "GET", path, "").Body.String()
		for what, ok := range map[string]bool{
			"a title": title.MatchString(body), "a language": strings.Contains(body, `<html lang="en">`),
			"one h1": strings.Count(body, "<h1") == 1, "a main that can be skipped to": strings.Contains(body, `id="main" tabindex="-1"`),
			"an end": strings.HasSuffix(strings.TrimSpace(body), "</html>"), "a way to skip": strings.Contains(body, `href="#main"`),
		} {
			if !ok {
				t.Errorf("%s has not %s", path, what)
			}
		}
		for _, src := range regexp.MustCompile(`(?:href|src)="(/static/[^"#]*)`).FindAllStringSubmatch(body, -1) {
			if w := ask(mux, "GET", src[1], ""); w.Code != 200 {
				t.Errorf("%s names %s, which is %d", path, src[1], w.Code)
			}
		}
		noInline(t, path, body)
	}
}

var (
	inlineScript = regexp.MustCompile(`(?i)<script\b(?:[^>]*)>`)
	hasSource    = regexp.MustCompile(`(?i)\bsrc=`)
	inlineStyle  = regexp.MustCompile(`(?i)<style\b|\sstyle\s*=|\son[a-z]+\s*=\s*["']|javascript:`)
	otherOrigin  = regexp.MustCompile(`(?i)(?:href|src|action|srcset|poster)\s*=\s*["']?(?:https?:)?//`)
)

// noInline fails for whatever the Content-Security-Policy would not run or load.
func noInline(t *testing.T, name, html string) {
	t.Helper()
	for _, tag := range inlineScript.FindAllString(html, -1) {
		if !hasSource.MatchString(tag) {
			t.Errorf("%s: inline script %s", name, tag)
		}
	}
	for _, re := range []*regexp.Regexp{inlineStyle, otherOrigin} {
		if found := re.FindString(html); found != "" {
			t.Errorf("%s: %q", name, found)
		}
	}
}

func TestHelpIsShownAsText(t *testing.T) {
	p := newPages()
	mux := newMux(p)
	p.config.Help = helpIs("Call <b>4711</b>", nil)
	if body := ask(mux, "GET", "/app/lost", "").Body.String(); !strings.Contains(body, "Call &lt;b&gt;4711&lt;/b&gt;") {
		t.Errorf("the organisation's words are not there as text: %s", body)
	}
	p.config.Help = helpIs("", nil)
	if body := ask(mux, "GET", "/app/lost", "").Body.String(); strings.Contains(body, p.texts["lost.ask.help"]) {
		t.Error("words are announced that there are none of")
	}
	p.config.Help = helpIs("", errors.New("the store is away"))
	if w := ask(mux, "GET", "/app/lost", ""); w.Code != 500 {
		t.Errorf("without the store: %d", w.Code)
	}
}

func TestBundles(t *testing.T) {
	page := `{{define "title"}}Begin{{end}}{{define "main"}}<h1>{{.Name}}</h1>{{template "hint" .}}{{end}}{{define "head"}}<script type="module" src="{{static "test/js/begin.js"}}"></script>{{end}}`
	files := fstest.MapFS{
		"html/begin.html":      {Data: []byte(page)},
		"html/parts/hint.html": {Data: []byte(`{{define "hint"}}<p>hint</p>{{end}}`)},
		"js/begin.js":          {Data: []byte("export {};")},
		"js/begin.test.js":     {Data: []byte("export {};")},
	}
	p := newPages()
	p.Add("test", files)
	w := httptest.NewRecorder()
	if err := p.Render(w, 200, "test/begin", map[string]string{"Name": "<i>"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<h1>&lt;i&gt;</h1><p>hint</p>", `src="` + p.URL("test/js/begin.js") + `"`} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %s in %s", want, w.Body)
		}
	}
	if got := p.Files("test/"); len(got) != 1 || got[0] != p.URL("test/js/begin.js") {
		t.Errorf("files of the bundle: %v", got)
	}
	if err := p.Render(httptest.NewRecorder(), 200, "test/begin", map[string]string{}); err == nil {
		t.Error("a page without what it shows was rendered")
	}
	for name, bad := range map[string]fstest.MapFS{
		"no title":     {"html/a.html": {Data: []byte(`{{define "main"}}{{end}}`)}},
		"unknown type": {"js/a.exe": {Data: []byte("x")}},
		"late":         {},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: taken", name)
				}
			}()
			fresh := newPages()
			if name == "late" {
				fresh.URL("pages/css/base.css")
			}
			fresh.Add("bad", bad)
		}()
	}
}

func TestOwns(t *testing.T) {
	for path, want := range map[string]bool{
		"/": true, "/app": true, "/app/": true, "/app/x": true, "/enroll/x": true, "/static/x/y": true, "/apple": false,
		"/auth/v2/enroll": false, "/sallyport/v1/x": false, "/admin/v1/users": false, "/enrollment": false,
	} {
		if Owns(path) != want {
			t.Errorf("Owns(%q) is %v", path, !want)
		}
	}
}

func TestStrangersCannotFloodTheLog(t *testing.T) {
	var lines strings.Builder
	p := newPages()
	now := time.Unix(1_800_000_000, 0)
	p.config.Now = func() time.Time { return now }
	p.config.Log = slog.New(slog.NewTextHandler(&lines, nil))
	mux := newMux(p)
	for range 3 * strangersPerMinute {
		ask(mux, "GET", "/", "", func(r *http.Request) { r.Host = "evil.example\nforged=line" })
	}
	if got := strings.Count(lines.String(), "\n"); got != strangersPerMinute {
		t.Errorf("%d lines in a minute", got)
	}
	now = now.Add(time.Minute)
	ask(mux, "POST", "/enroll/done", "", header("Origin", "https://evil.example"))
	if got := strings.Count(lines.String(), "\n"); got != strangersPerMinute+1 {
		t.Errorf("%d lines after the next minute's first", got)
	}
	// A client that hangs up makes a handler fail; that is no fault of the verifier.
	func() {
		defer func() {
			if v := recover(); v != http.ErrAbortHandler { //nolint:errorlint // a sentinel that is thrown, not wrapped
				t.Errorf("a client that is gone was answered (panic %v)", v)
			}
		}()
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(gone, "GET", "https://"+host+"/enroll/fault", nil))
	}()
	if got := strings.Count(lines.String(), "\n"); got != strangersPerMinute+1 {
		t.Errorf("%d lines after a client was gone", got)
	}
}
