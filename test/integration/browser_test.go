// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration_test

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/test/integration/browser"
)

// webName is the verifier's name at the site of the browser tests, and webURL its
// address: what a browser takes for an organisation's own.
const (
	webName = "verifier.example"
	webURL  = "https://" + webName + ":8443"
)

// web is the site that the browser tests share, made when the first of them runs.
var web = struct {
	sync.Mutex
	site *site
}{}

// webTown returns the site of the browser tests.
func webTown(t *testing.T) *site {
	t.Helper()
	web.Lock()
	defer web.Unlock()
	if web.site == nil {
		s, err := newSiteOf(context.Background(), plan{url: webURL, aliases: []string{webName}, config: mailConfig})
		must(t, err)
		// A page is looked at for longer than a login may take.
		if err := s.bePatient(context.Background()); err != nil {
			_ = s.close()
			t.Fatal(err)
		}
		web.site = s
	}
	return web.site
}

// bePatient gives all that bounds how long a login waits for its person more time than
// a test may take.
func (s *site) bePatient(ctx context.Context) error {
	if err := s.adminErr(ctx, nil, "settings", "set", "push_timeout=600"); err != nil {
		return err
	}
	_, err := s.host.Shell(ctx, `
cat >>/etc/sallyport/authd.toml <<'END'

[timeouts]
approval_timeout = "600s"
login_timeout = "1200s"
END
sallyport-authd check --config /etc/sallyport/authd.toml
sed -i 's/pam_sallyport\.so.*/pam_sallyport.so timeout=1260/' /etc/pam.d/sshd /etc/pam.d/sudo /etc/pam.d/su
`)
	if err != nil {
		return err
	}
	if err := s.host.Signal(ctx, "authd", "TERM"); err != nil {
		return err
	}
	return s.startAuthd(ctx)
}

// closeWeb removes the site of the browser tests, if there is one.
func closeWeb() error {
	web.Lock()
	defer web.Unlock()
	if web.site == nil {
		return nil
	}
	return web.site.close()
}

// dialVerifier returns what opens a connection to the site's verifier from this
// machine: straight where its network can be reached from here, else through the
// verifier's own machine.
func (s *site) dialVerifier(t *testing.T) browser.Dial {
	t.Helper()
	address, err := s.verifier.IP(t.Context())
	must(t, err)
	return func() (net.Conn, error) {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(address, "8443"), 20*time.Second)
		if err != nil {
			return s.verifier.Dial("127.0.0.1", "8443")
		}
		return conn, nil
	}
}

// network is a network for browsers on which the site's verifier is known by name.
func (s *site) network(t *testing.T) *browser.Network {
	t.Helper()
	network, err := browser.NewNetwork(map[string]browser.Dial{webName + ":8443": s.dialVerifier(t)})
	must(t, err)
	t.Cleanup(func() { _ = network.Close() })
	return network
}

// ca is the PEM text of the authority that vouches for the verifier.
func (s *site) ca(t *testing.T) string {
	t.Helper()
	ca, err := s.verifier.Read(t.Context(), verifierData+"/ca.pem")
	must(t, err)
	return ca
}

// browser starts a browser of somebody at the site.
func (s *site) browser(t *testing.T) *browser.Browser {
	t.Helper()
	return browser.Start(t, browser.Options{CA: s.ca(t), Network: s.network(t)})
}

// A browser that trusts the verifier's authority opens its pages; one that does not
// trust it shows none of them.
func TestBrowserTrust(t *testing.T) {
	t.Parallel()
	s := webTown(t)
	tab := s.browser(t).Tab()
	tab.Go(webURL + "/healthz")
	tab.See("ok")

	stranger := browser.Start(t, browser.Options{CA: town.ca(t), Network: s.network(t)})
	err := stranger.Tab().TryGo(webURL + "/healthz")
	if err == nil || !strings.Contains(err.Error(), "ERR_CERT_AUTHORITY_INVALID") {
		t.Errorf("a browser without the authority opened the page: %v", err)
	}
	stranger.Errors()
}
