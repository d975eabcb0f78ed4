// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/authd/proxy"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/internal/version"
)

const (
	// warnSkew is how far the clocks may be apart before it is worth a word.
	warnSkew = 30 * time.Second
	// warnExpiry is how long before its end a certificate is worth a word.
	warnExpiry = 14 * 24 * time.Hour
	// callTimeout bounds one call to a verifier.
	callTimeout = 10 * time.Second
)

// HTTP makes a client that trusts what authd would trust, and goes the way that
// authd would go: by the proxy of the configuration, and none of the environment.
func HTTP(c *config.Config) (*http.Client, error) {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.Proxy = nil
	if way := c.Verifier.Way(); way != nil {
		t.DialContext = way.Dial(t.DialContext, c.Timeouts.Connect)
	}
	t.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.Verifier.CAFile != "" {
		text, err := os.ReadFile(c.Verifier.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read ca_file: %w", err)
		}
		if t.TLSClientConfig.RootCAs, err = invite.ParseCA(text); err != nil {
			return nil, fmt.Errorf("read ca_file %s: %w", c.Verifier.CAFile, err)
		}
	}
	return &http.Client{
		Transport: t, Timeout: callTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func (h *Host) examineVerifier(ctx context.Context, c *config.Config) []Finding {
	r := &report{area: "verifier"}
	if c == nil {
		r.warn("verifier", "not looked at: there is no valid configuration", "correct authd.toml first")
		return r.findings
	}
	client, err := h.HTTP(c)
	if err != nil {
		r.fail("verifier", err.Error(), "sallyport host join writes the CA; correct verifier.ca_file")
		return r.findings
	}
	for _, u := range c.Verifier.Endpoints() {
		h.examineEndpoint(ctx, r, c, client, u)
	}
	return r.findings
}

func (h *Host) examineEndpoint(ctx context.Context, r *report, c *config.Config, client *http.Client, u *url.URL) {
	serverTime, cert, err := Ping(ctx, client, u)
	if err != nil {
		fix := "check that the verifier runs and that nothing blocks the way to it"
		var verification *tls.CertificateVerificationError
		if errors.As(err, &verification) {
			fix = "verifier.urls must name the host as its certificate does, and verifier.ca_file the CA that signed it"
		}
		var shut *proxy.Error
		if errors.As(err, &shut) {
			fix = "correct verifier.proxy, or the proxy's own rules; docs/how-to/behind-a-proxy.md"
		}
		r.fail(u.String(), "it does not answer; logins get what fail_mode says: "+err.Error(), fix)
		return
	}
	if left := cert.Sub(h.Now()); left < warnExpiry {
		r.warn(u.String(), fmt.Sprintf("its certificate ends %s", cert.Format("2006-01-02 15:04 MST")), "renew it; after that no login reaches the verifier")
	}
	ahead := h.Now().Sub(serverTime)
	if skew := ahead.Abs().Round(time.Second); skew > warnSkew {
		r.warn(u.String(), fmt.Sprintf("this host's clock is %s from the verifier's: authd reckons with that and logins go on, but its log is off, and from %s on other requests of this host are refused", skew, signature.MaxSkew),
			"set both clocks (chrony, systemd-timesyncd)")
	} else {
		r.ok(u.String(), fmt.Sprintf("reachable, certificate trusted, clocks within %s", warnSkew))
	}
	h.examineKey(ctx, r, c, client, u, ahead)
}

// Ping asks a verifier for its time, and when its certificate ends. It needs no key.
func Ping(ctx context.Context, client *http.Client, u *url.URL) (serverTime, certificateEnd time.Time, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.JoinPath("/auth/v2/ping").String(), nil)
	if err != nil {
		return serverTime, certificateEnd, fmt.Errorf("make request: %w", err)
	}
	res, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return serverTime, certificateEnd, err
	}
	defer res.Body.Close()
	var out struct {
		Time int64 `json:"time"`
	}
	if _, err := duoapi.ReadAnswer(res, &out); err != nil {
		return serverTime, certificateEnd, err
	}
	if res.TLS != nil && len(res.TLS.PeerCertificates) > 0 {
		certificateEnd = res.TLS.PeerCertificates[0].NotAfter
	}
	return time.Unix(out.Time, 0), certificateEnd, nil
}

// examineKey asks whether the verifier takes this host's signature, dated by the
// verifier's clock as authd's are; ahead is how much this host's is fast.
func (h *Host) examineKey(ctx context.Context, r *report, c *config.Config, client *http.Client, u *url.URL, ahead time.Duration) {
	if c.Secret() == nil {
		r.warn(u.String(), "whether the verifier takes this host's key is not known: the secret key cannot be read", "run as root")
		return
	}
	now := h.Now
	if ahead.Abs() > warnSkew {
		now = func() time.Time { return h.Now().Add(-ahead) }
	}
	api := &duoapi.Client{BaseURL: u, IntegrationKey: c.Verifier.IntegrationKey, Secret: c.Secret(), HTTP: client, UserAgent: "sallyport-doctor/" + version.String(), Now: now}
	_, err := api.Call(ctx, http.MethodGet, "/auth/v2/check", nil, nil)
	var refused *duoapi.Error
	switch {
	case err == nil:
		r.ok(u.String(), "it takes this host's key "+c.Verifier.IntegrationKey)
	case errors.As(err, &refused):
		r.fail(u.String(), "it refuses this host's key, so every login is denied in every fail mode: "+refused.Error(), "if the host was revoked, join again: sallyport host join --force")
	default:
		r.fail(u.String(), "it does not answer a signed request: "+err.Error(), "see the verifier's log")
	}
}
