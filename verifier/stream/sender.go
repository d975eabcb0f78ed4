// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/config"
)

// newSender makes what speaks to the receiver that c names.
func newSender(name string, c config.Stream, hostname string, now func() time.Time) (sender, error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	secured := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		secured.RootCAs = x509.NewCertPool()
		if !secured.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate", c.CAFile)
		}
	}
	switch u.Scheme {
	case "udp", "tcp":
		return &syslog{network: u.Scheme, address: u.Host, hostname: hostname, timeout: c.Timeout.Duration, settle: settle}, nil
	case "tls":
		return &syslog{network: "tcp", address: u.Host, tls: secured, hostname: hostname, timeout: c.Timeout.Duration, settle: settle}, nil
	}
	secret, err := c.Secret()
	if err != nil {
		return nil, fmt.Errorf("secret_file: %w", err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // it is one
	transport.TLSClientConfig = secured
	client := &http.Client{
		Timeout: c.Timeout.Duration, Transport: transport,
		// A redirect would carry names and addresses to where nobody has set.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return newWebhook(name, c.URL, secret, client, now)
}
