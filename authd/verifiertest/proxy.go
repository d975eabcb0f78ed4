// SPDX-License-Identifier: Apache-2.0

package verifiertest

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// The credentials that a Proxy takes.
const (
	ProxyUser     = "authd"
	ProxyPassword = "a proxy's pass:word"
)

// Proxy is an HTTP proxy that knows CONNECT. Its exported fields may be changed
// while it runs, under Lock.
type Proxy struct {
	sync.Mutex
	Credentials bool                                              // ask for them
	Fault       func(w http.ResponseWriter, r *http.Request) bool // true: it has answered, or not

	URL    *url.URL
	CAFile string // of a proxy over TLS

	http    *httptest.Server
	targets []string
	tunnels map[net.Conn]bool
}

// NewProxy starts a proxy on loopback that ends with the test; overTLS says that
// it is spoken to over TLS.
func NewProxy(t testing.TB, overTLS bool) *Proxy {
	t.Helper()
	p := &Proxy{tunnels: map[net.Conn]bool{}}
	p.http = httptest.NewUnstartedServer(http.HandlerFunc(p.serve))
	p.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	if overTLS {
		p.http.StartTLS()
		p.CAFile = filepath.Join(t.TempDir(), "proxy-ca.pem")
		text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.http.Certificate().Raw})
		if err := os.WriteFile(p.CAFile, text, 0o600); err != nil {
			t.Fatal(err)
		}
	} else {
		p.http.Start()
	}
	t.Cleanup(p.Close)
	u, err := url.Parse(p.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.URL = u
	return p
}

// Close ends the proxy and every tunnel through it.
func (p *Proxy) Close() {
	p.Cut()
	p.http.CloseClientConnections()
	p.http.Close()
}

// Cut ends the tunnels that there are.
func (p *Proxy) Cut() {
	p.Lock()
	defer p.Unlock()
	for c := range p.tunnels {
		_ = c.Close()
	}
}

// Targets are the addresses that tunnels were asked for so far.
func (p *Proxy) Targets() []string {
	p.Lock()
	defer p.Unlock()
	return append([]string(nil), p.targets...)
}

func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	p.Lock()
	p.targets = append(p.targets, r.RequestURI)
	fault, credentials := p.Fault, p.Credentials
	p.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
	user, password, _ := r.BasicAuth()
	switch {
	case r.Method != http.MethodConnect:
		http.Error(w, "CONNECT only", http.StatusMethodNotAllowed)
		return
	case credentials && (user != ProxyUser || password != ProxyPassword):
		w.Header().Set("Proxy-Authenticate", `Basic realm="test"`)
		http.Error(w, "who are you?", http.StatusProxyAuthRequired)
		return
	}
	var dialer net.Dialer
	target, err := dialer.DialContext(r.Context(), "tcp", r.RequestURI)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	client, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		_ = target.Close()
		return
	}
	p.Lock()
	p.tunnels[client], p.tunnels[target] = true, true
	p.Unlock()
	_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	for from, to := range map[net.Conn]net.Conn{client: target, target: client} {
		both.Go(func() {
			_, _ = io.Copy(to, from)
			_ = to.Close()
			_ = from.Close()
		})
	}
	both.Wait()
	p.Lock()
	delete(p.tunnels, client)
	delete(p.tunnels, target)
	p.Unlock()
}
