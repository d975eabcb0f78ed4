// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

// proxyFlags is the proxy that a host joins through, and that authd then uses.
type proxyFlags struct {
	url, username, passwordFile, caFile string
}

func (p *proxyFlags) define(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.url, "proxy", "", "HTTP proxy on the way to the verifier, http://HOST:PORT or https://HOST:PORT; goes into authd.toml")
	f.StringVar(&p.username, "proxy-user", "", "user name at the proxy")
	f.StringVar(&p.passwordFile, "proxy-password-file", "", "file with the password at the proxy; authd must be able to read it")
	f.StringVar(&p.caFile, "proxy-ca-file", "", "PEM file of the CA of a proxy at https:// (default: the system's)")
}

// authdProxy is [verifier.proxy] of authd.toml.
type authdProxy struct {
	URL          string `toml:"url"`
	Username     string `toml:"username,omitempty"`
	PasswordFile string `toml:"password_file,omitempty"`
	CAFile       string `toml:"ca_file,omitempty"`
}

// table is what goes into authd.toml, nil without --proxy. Paths become absolute:
// authd is started elsewhere.
func (p *proxyFlags) table() (*authdProxy, error) {
	if p.url == "" {
		if *p != (proxyFlags{}) {
			return nil, cli.Usagef("--proxy-user, --proxy-password-file and --proxy-ca-file need --proxy")
		}
		return nil, nil
	}
	t := &authdProxy{URL: p.url, Username: p.username, PasswordFile: p.passwordFile, CAFile: p.caFile}
	for _, path := range []*string{&t.PasswordFile, &t.CAFile} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", *path, err)
		}
		*path = abs
	}
	return t, nil
}

// through makes a client go by the proxy of the table, and by no other.
func (t *authdProxy) through(client *http.Client, timeout time.Duration) error {
	way, err := (&config.Proxy{URL: t.URL, Username: t.Username, PasswordFile: t.PasswordFile, CAFile: t.CAFile}).Open()
	if err != nil {
		return err
	}
	transport := client.Transport.(*http.Transport)
	dialer := &net.Dialer{Timeout: timeout}
	transport.Proxy, transport.DialContext = nil, way.Dial(dialer.DialContext, timeout)
	return nil
}
