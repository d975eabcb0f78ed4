// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"net/http"
	"strings"
)

// appPrefix is where the authenticator app lives: only its pages may call partners
// and register a service worker.
const appPrefix = "/app/"

// WorkerPolicy is the one Trusted Types policy of the app: it makes the address of
// its service worker (pages/js/trusted.js).
const WorkerPolicy = "sallyport-worker"

// permissions switches off what no page needs. WebAuthn and writing to the
// clipboard are for the pages themselves; the camera, which reads QR codes, is for
// the app alone.
const permissions = "accelerometer=(), autoplay=(), browsing-topics=(), clipboard-read=(), clipboard-write=(self), " +
	"display-capture=(), geolocation=(), gyroscope=(), hid=(), magnetometer=(), microphone=(), midi=(), payment=(), " +
	"publickey-credentials-create=(self), publickey-credentials-get=(self), serial=(), usb=(), xr-spatial-tracking=()"

// headers sets what every answer under path bears. docs/explanation/pages.md says
// why each is there.
func (p *Pages) headers(h http.Header, path string) {
	h.Set("Content-Security-Policy", p.contentPolicy(path))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", permissions+camera(path))
	h.Set("Strict-Transport-Security", "max-age=31536000")
	h.Set("Cache-Control", "no-store")
}

func camera(path string) string {
	if strings.HasPrefix(path, appPrefix) {
		return ", camera=(self)"
	}
	return ", camera=()"
}

func (p *Pages) contentPolicy(path string) string {
	connect, types := "'self'", "'none'"
	if strings.HasPrefix(path, appPrefix) {
		connect = strings.Join(append([]string{connect}, p.config.Partners...), " ")
		types = WorkerPolicy
	}
	return strings.Join([]string{
		"default-src 'none'",
		"script-src 'self'",
		"style-src 'self'",
		"img-src 'self' blob: data:",
		"connect-src " + connect,
		"manifest-src 'self'",
		"worker-src 'self'",
		"form-action 'self'",
		"frame-ancestors 'none'",
		"base-uri 'none'",
		"require-trusted-types-for 'script'",
		"trusted-types " + types,
	}, "; ")
}
