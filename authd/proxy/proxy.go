// SPDX-License-Identifier: Apache-2.0

// Package proxy owns the way to the verifiers through an HTTP proxy: which hosts
// take it, and the tunnel that CONNECT makes (RFC 9110, section 9.3.6). It never
// looks at the environment, and never sees what goes through the tunnel: TLS to
// the verifier begins behind it.
package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Proxy says how to get out. It is immutable and safe for concurrent use.
type Proxy struct {
	URL      *url.URL       // as ParseURL returns it
	Username string         // empty: no credentials are sent
	Password string         //
	Roots    *x509.CertPool // who may vouch for a proxy over TLS; nil: the system's
	Direct   NoProxy        // what is reached without it
}

// Error says that the way through the proxy is shut: it cannot be reached, it
// refuses, or it cannot reach the verifier. Nothing of a request was sent. It
// says nothing of the verifier, so it is an outage and never an answer.
type Error struct {
	Proxy  string // HOST:PORT
	Status int    // what the proxy answered to CONNECT; 0: it did not get so far
	Err    error
}

func (e *Error) Error() string {
	switch {
	case e.Status == http.StatusProxyAuthRequired:
		return fmt.Sprintf("proxy %s refused the credentials of verifier.proxy (407)", e.Proxy)
	case e.Status != 0:
		return fmt.Sprintf("proxy %s made no connection (%d %s)", e.Proxy, e.Status, http.StatusText(e.Status))
	}
	return fmt.Sprintf("proxy %s: %v", e.Proxy, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Timeout says that the time for the way through the proxy ran out.
func (e *Error) Timeout() bool {
	var timeout net.Error
	return errors.As(e.Err, &timeout) && timeout.Timeout()
}

// ParseURL reads a proxy's address, http://HOST[:PORT] or https://HOST[:PORT];
// without a port it is the scheme's own, 80 or 443. Credentials are refused: a
// configuration is read by more people than a password is for.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not a URL", redact(s))
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	switch {
	case u.User != nil:
		return nil, fmt.Errorf("%q holds credentials: they belong into username and password_file", u.Redacted())
	case u.Scheme != "http" && u.Scheme != "https" || host == "":
		return nil, fmt.Errorf("%q is not of the form http://HOST:PORT or https://HOST:PORT", redact(s))
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("%q has more than http://HOST:PORT", redact(s))
	}
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	if p, err := netip.ParseAddrPort("127.0.0.1:" + port); err != nil || p.Port() == 0 {
		return nil, fmt.Errorf("%q: %q is not a port", redact(s), port)
	}
	return &url.URL{Scheme: u.Scheme, Host: net.JoinHostPort(host, port)}, nil
}

// redact leaves out what may be a password, in whatever is no URL as well.
func redact(s string) string {
	if at := strings.LastIndex(s, "@"); at >= 0 {
		return "…" + s[at:]
	}
	return s
}

// DialFunc opens a connection, as [net.Dialer.DialContext] does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Dial returns a DialFunc that takes the proxy where the host is not one to be
// reached directly. The whole way, from the connection to the proxy to its answer
// to CONNECT, may take timeout. A failure on that way is an *Error.
func (p *Proxy) Dial(dial DialFunc, timeout time.Duration) DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
		if p.Direct.Holds(host) {
			return dial(ctx, network, addr)
		}
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		conn, err := dial(ctx, network, p.URL.Host)
		if err != nil {
			return nil, &Error{Proxy: p.URL.Host, Err: err}
		}
		if conn, err = p.tunnel(ctx, conn, addr); err != nil {
			return nil, err
		}
		return conn, nil
	}
}

// tunnel makes a connection to the proxy one to addr, or closes it.
func (p *Proxy) tunnel(ctx context.Context, conn net.Conn, addr string) (_ net.Conn, err error) {
	raw := conn
	// Reads and writes know no context: its end makes them fail.
	unwatch := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer func() {
		if ended := !unwatch(); ended && err == nil {
			err = &Error{Proxy: p.URL.Host, Err: ctx.Err()}
		}
		if err != nil {
			_ = raw.Close()
		}
	}()
	if p.URL.Scheme == "https" {
		secure := tls.Client(conn, &tls.Config{RootCAs: p.Roots, ServerName: p.URL.Hostname(), MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, &Error{Proxy: p.URL.Host, Err: err}
		}
		conn = secure
	}
	if err := p.request(addr).Write(conn); err != nil {
		return nil, &Error{Proxy: p.URL.Host, Err: fmt.Errorf("send CONNECT: %w", err)}
	}
	status, err := readAnswer(conn)
	if err != nil {
		return nil, &Error{Proxy: p.URL.Host, Err: fmt.Errorf("read the answer to CONNECT: %w", err)}
	}
	if status/100 != 2 {
		return nil, &Error{Proxy: p.URL.Host, Status: status}
	}
	return conn, nil
}

func (p *Proxy) request(addr string) *http.Request {
	r := &http.Request{Method: http.MethodConnect, URL: &url.URL{Opaque: addr}, Host: addr, Header: http.Header{"User-Agent": {""}}}
	if p.Username != "" {
		credentials := base64.StdEncoding.EncodeToString([]byte(p.Username + ":" + p.Password))
		r.Header.Set("Proxy-Authorization", "Basic "+credentials) // RFC 7617
	}
	return r
}

// maxAnswer bounds the head of the answer to CONNECT, in bytes.
const maxAnswer = 64 << 10

// readAnswer reads the head of the answer to CONNECT, and not a byte more: what
// follows a success belongs to the tunnel.
func readAnswer(r io.Reader) (status int, err error) {
	buffered := bufio.NewReader(io.LimitReader(r, maxAnswer))
	res, err := http.ReadResponse(buffered, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // to close it would be to read on, into the tunnel
	if err != nil {
		return 0, err
	}
	// The verifier speaks TLS and so waits for us to begin: whatever came along
	// with the head is not from it.
	if res.StatusCode/100 == 2 && buffered.Buffered() > 0 {
		return 0, fmt.Errorf("%d bytes came before the tunnel was used", buffered.Buffered())
	}
	return res.StatusCode, nil
}
