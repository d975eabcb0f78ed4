// SPDX-License-Identifier: Apache-2.0

package proxy_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/proxy"
	"github.com/sallyport-mfa/sallyport/authd/verifiertest"
)

// echo is a server that sends back what it gets; it returns its address.
func echo(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, p *proxy.Proxy, addr string) error {
	t.Helper()
	var d net.Dialer
	conn, err := p.Dial(d.DialContext, time.Second)(t.Context(), "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "ahoy"); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 4)
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != "ahoy" {
		t.Fatalf("through the tunnel came %q, %v", back, err)
	}
	return nil
}

func roots(t *testing.T, file string) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if text, err := os.ReadFile(file); err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	return pool
}

func mustURL(s string) *url.URL {
	u, err := proxy.ParseURL(s)
	if err != nil {
		panic(err)
	}
	return u
}

func TestTunnel(t *testing.T) {
	for name, overTLS := range map[string]bool{"plain": false, "TLS": true} {
		for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
			t.Run(name+" to "+address, func(t *testing.T) {
				server := verifiertest.NewProxy(t, overTLS)
				server.Credentials = true
				p := &proxy.Proxy{URL: server.URL, Username: verifiertest.ProxyUser, Password: verifiertest.ProxyPassword}
				if overTLS {
					p.Roots = roots(t, server.CAFile)
				}
				target := echo(t, address)
				if err := dial(t, p, target); err != nil {
					t.Fatal(err)
				}
				if got := server.Targets(); len(got) != 1 || got[0] != target {
					t.Errorf("asked for %q", got)
				}
			})
		}
	}
}

func TestFailuresAreTheProxys(t *testing.T) {
	answer := func(text string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				_, _ = io.WriteString(conn, text)
				_ = conn.Close()
			}
			return true
		}
	}
	for name, tc := range map[string]struct {
		fault   func(http.ResponseWriter, *http.Request) bool
		overTLS bool
		change  func(*verifiertest.Proxy, *proxy.Proxy)
		status  int
		text    string
	}{
		"wrong password": {change: func(s *verifiertest.Proxy, p *proxy.Proxy) { s.Credentials, p.Password = true, "wrong" }, status: 407, text: "refused the credentials"},
		"no password":    {change: func(s *verifiertest.Proxy, p *proxy.Proxy) { s.Credentials, p.Username = true, "" }, status: 407},
		"forbidden":      {fault: answer("HTTP/1.1 403 Forbidden\r\n\r\n"), status: 403},
		"bad gateway":    {fault: answer("HTTP/1.0 502 Bad Gateway\r\n\r\n"), status: 502},
		"garbage":        {fault: answer("220 mail.example ESMTP\r\n")},
		"nothing":        {fault: answer("")},
		"endless head":   {fault: answer("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<20))},
		"bytes too soon": {fault: answer("HTTP/1.1 200 OK\r\n\r\nhello"), text: "5 bytes"},
		"hangs":          {fault: verifiertest.Hang},
		"down":           {change: func(s *verifiertest.Proxy, _ *proxy.Proxy) { s.Close() }},
		"unknown CA":     {overTLS: true, text: "certificate"},
		"TLS to a plain proxy": {change: func(_ *verifiertest.Proxy, p *proxy.Proxy) {
			u := *p.URL
			u.Scheme = "https"
			p.URL = &u
		}},
	} {
		t.Run(name, func(t *testing.T) {
			server := verifiertest.NewProxy(t, tc.overTLS)
			server.Fault = tc.fault
			p := &proxy.Proxy{URL: server.URL, Username: verifiertest.ProxyUser, Password: verifiertest.ProxyPassword}
			if tc.change != nil {
				tc.change(server, p)
			}
			err := dial(t, p, echo(t, "127.0.0.1:0"))
			var shut *proxy.Error
			if !errors.As(err, &shut) || shut.Status != tc.status || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v", err)
			}
			if err != nil && strings.Contains(err.Error(), verifiertest.ProxyPassword) {
				t.Errorf("the error holds the password: %v", err)
			}
		})
	}
}

// A time that runs out shows as one, wherever it does.
func TestTimeOut(t *testing.T) {
	server := verifiertest.NewProxy(t, false)
	server.Fault = verifiertest.Hang
	p := &proxy.Proxy{URL: server.URL}
	var d net.Dialer
	_, err := p.Dial(d.DialContext, 50*time.Millisecond)(t.Context(), "tcp", "verifier.example:443")
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := p.Dial(d.DialContext, time.Hour)(ctx, "tcp", "verifier.example:443"); err == nil {
		t.Error("a caller that went away got a connection")
	}
}

func TestNoProxyIsReachedDirectly(t *testing.T) {
	server := verifiertest.NewProxy(t, false)
	direct, err := proxy.ParseNoProxy([]string{"127.0.0.0/8"})
	if err != nil {
		t.Fatal(err)
	}
	if err := dial(t, &proxy.Proxy{URL: server.URL, Direct: direct}, echo(t, "127.0.0.1:0")); err != nil {
		t.Fatal(err)
	}
	if got := server.Targets(); len(got) != 0 {
		t.Errorf("the proxy was asked for %q", got)
	}
}

func TestNoProxy(t *testing.T) {
	n, err := proxy.ParseNoProxy([]string{"Verifier.example.", ".corp.example", "10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "[fd00::1]", "::ffff:198.51.100.1"})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"verifier.example": true, "VERIFIER.example.": true, "a.verifier.example": false, "notverifier.example": false,
		"a.corp.example": true, "a.b.Corp.example": true, "corp.example": false, "acorp.example": false,
		"10.1.2.3": true, "11.1.2.3": false, "::ffff:10.1.2.3": true, "192.0.2.7": true, "192.0.2.8": false,
		"2001:db8::1": true, "[2001:db8::1]": true, "2001:db9::1": false, "fd00::1": true, "fd00::2": false, "198.51.100.1": true,
		"": false, ".": false, "[": false,
	} {
		if got := n.Holds(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
	for _, bad := range []string{"", ".", "*", "*.example", "verifier.example:8443", "10.0.0.0/33", "10.0.0.1/8", "::ffff:10.0.0.0/104", "300.0.0.1", "a b", "a..b", "http://x", "fe80::1%eth0", "ä.example"} {
		if _, err := proxy.ParseNoProxy([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestParseURL(t *testing.T) {
	for in, want := range map[string]string{
		"http://Proxy:3128": "http://proxy:3128", "https://proxy.example": "https://proxy.example:443", "http://proxy/": "http://proxy:80",
		"http://[2001:DB8::1]:3128": "http://[2001:db8::1]:3128",
	} {
		if u, err := proxy.ParseURL(in); err != nil || u.String() != want {
			t.Errorf("%q: %v, %v", in, u, err)
		}
	}
	for _, bad := range []string{"", "proxy:3128", "socks5://proxy:1080", "http://", "http://proxy:0", "http://proxy:99999", "http://proxy/path", "http://proxy:3128?x"} {
		if u, err := proxy.ParseURL(bad); err == nil {
			t.Errorf("%q was read as %v", bad, u)
		}
	}
	for _, secret := range []string{"http://me:hunter2@proxy:3128", "http://me:hunter2@pro xy", "me:hunter2@proxy:3128", "//me:hunter2@proxy", "hunter2@proxy", "http:me:hunter2@proxy:3128"} {
		if _, err := proxy.ParseURL(secret); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", secret, err)
		}
	}
}

func FuzzNoProxy(f *testing.F) {
	for _, seed := range []string{"verifier.example", ".corp.example", "10.0.0.0/8", "2001:db8::/32", "[::1]", "::ffff:10.0.0.1", "a.", "1.2.3.4/32"} {
		f.Add(seed, "verifier.example")
	}
	f.Fuzz(func(t *testing.T, entry, host string) {
		n, err := proxy.ParseNoProxy([]string{entry})
		held := n.Holds(host)
		if err != nil {
			if held {
				t.Fatalf("%q was refused and holds %q", entry, host)
			}
			return
		}
		// What was accepted holds itself, or what begins or lies in it.
		itself := entry
		switch network, err := netip.ParsePrefix(entry); {
		case err == nil:
			itself = network.Addr().String()
		case strings.HasPrefix(entry, "."):
			itself = "x" + entry
		}
		if !n.Holds(itself) {
			t.Fatalf("%q does not hold %q", entry, itself)
		}
	})
}

// Whatever a proxy answers, nothing of it ends up in the tunnel unread.
func FuzzConnectAnswer(f *testing.F) {
	for _, seed := range []string{"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 407 x\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 200\r\n\r\nx", "\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		client, server := net.Pipe()
		defer server.Close()
		go func() {
			_, _ = io.CopyN(io.Discard, server, 16)
			go func() { _, _ = io.Copy(io.Discard, server) }()
			_, _ = server.Write(answer)
			_ = server.Close()
		}()
		p := &proxy.Proxy{URL: mustURL("http://proxy:3128")}
		conn, err := p.Dial(func(context.Context, string, string) (net.Conn, error) { return client, nil }, 5*time.Second)(t.Context(), "tcp", "verifier.example:443")
		if err != nil {
			return
		}
		defer conn.Close()
		if !strings.HasPrefix(string(answer), "HTTP/") {
			t.Fatalf("a tunnel by the answer %q", answer)
		}
	})
}
