// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/sallyport-mfa/sallyport/authd/proxy"
	"github.com/sallyport-mfa/sallyport/internal/ownfile"
)

// Proxy is the HTTP proxy on the way to the verifiers.
type Proxy struct {
	URL          string   `toml:"url"`
	Username     string   `toml:"username"`
	PasswordFile string   `toml:"password_file"`
	CAFile       string   `toml:"ca_file"` // of a proxy over TLS; empty: the system's roots
	NoProxy      []string `toml:"no_proxy"`

	way *proxy.Proxy
}

// Way is the way through the proxy, nil without one. The password is in it only
// if Load read it.
func (v *Verifier) Way() *proxy.Proxy {
	if v.Proxy == nil {
		return nil
	}
	return v.Proxy.way
}

// Open checks the table, reads the files that it names, and returns the way.
func (p *Proxy) Open() (*proxy.Proxy, error) {
	if err := errors.Join(p.check()...); err != nil {
		return nil, err
	}
	if err := p.load(); err != nil {
		return nil, err
	}
	return p.way, nil
}

func (p *Proxy) check() []error {
	if p == nil {
		return nil
	}
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("verifier.proxy: "+format, args...)) }
	u, err := proxy.ParseURL(p.URL)
	if err != nil {
		bad("url: %w", err)
	}
	direct, err := proxy.ParseNoProxy(p.NoProxy)
	if err != nil {
		bad("no_proxy: %w", err)
	}
	switch {
	case (p.Username == "") != (p.PasswordFile == ""):
		bad("username and password_file belong together")
	case strings.Contains(p.Username, ":") || strings.ContainsFunc(p.Username, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		bad("username: a colon or a control character cannot be sent")
	case len(p.Username) > 256:
		bad("username has over 256 bytes")
	case p.CAFile != "" && u != nil && u.Scheme != "https":
		bad("ca_file: a proxy at http:// shows no certificate")
	}
	p.way = &proxy.Proxy{URL: u, Username: p.Username, Direct: direct}
	return errs
}

// load reads the files that the table names.
func (p *Proxy) load() error {
	if p == nil {
		return nil
	}
	if p.PasswordFile != "" {
		text, err := secretFile("verifier.proxy.password_file", p.PasswordFile)
		if err != nil {
			return err
		}
		text = bytes.TrimRight(text, "\r\n")
		if len(text) == 0 || bytes.ContainsFunc(text, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			return fmt.Errorf("verifier.proxy.password_file: %s holds no password of one line", p.PasswordFile)
		}
		p.way.Password = string(text)
	}
	if p.CAFile == "" {
		return nil
	}
	if err := ownfile.Check(p.CAFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("verifier.proxy.ca_file: %w", err)
	}
	pem, err := os.ReadFile(p.CAFile)
	if err != nil {
		return fmt.Errorf("verifier.proxy.ca_file: %w", err)
	}
	p.way.Roots = x509.NewCertPool()
	if !p.way.Roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("verifier.proxy.ca_file: %s holds no certificate", p.CAFile)
	}
	return nil
}

// warnings names what is allowed but weak.
func (p *Proxy) warnings() []string {
	if p == nil || p.Username == "" || !strings.HasPrefix(p.URL, "http:") {
		return nil
	}
	return []string{"verifier.proxy: the password goes to a proxy at http:// for everybody on that network to read"}
}
