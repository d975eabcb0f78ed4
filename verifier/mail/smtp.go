// SPDX-License-Identifier: Apache-2.0

package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	gomail "github.com/wneessen/go-mail"

	"github.com/sallyport-mfa/sallyport/verifier/config"
)

// smtp hands mails to a server (RFC 5321), each on a connection of its own.
type smtp struct {
	host     string
	security *tls.Config
	implicit bool // TLS from the first byte
	options  []gomail.Option
	timeout  time.Duration // of one exchange
}

// newSMTP reads what the settings name; helo is how the verifier names itself.
func newSMTP(c config.Mail, helo string) (transport, error) {
	host, portText, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, fmt.Errorf("mail.server: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, fmt.Errorf("mail.server: %w", err)
	}
	s := smtp{
		host: host, implicit: c.TLS == config.MailImplicit, timeout: c.Timeout.Duration,
		security: &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12},
	}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read mail.ca_file: %w", err)
		}
		s.security.RootCAs = x509.NewCertPool()
		if !s.security.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read mail.ca_file: %s holds no certificate", c.CAFile)
		}
	}
	policy := gomail.NoTLS // of the library: the connection is TLS already, or to the machine itself
	if c.TLS == config.MailStartTLS {
		policy = gomail.TLSMandatory
	}
	s.options = []gomail.Option{
		gomail.WithPort(port), gomail.WithTimeout(c.Timeout.Duration), gomail.WithHELO(helo),
		gomail.WithTLSConfig(s.security), gomail.WithTLSPolicy(policy),
	}
	if c.User != "" {
		password, err := c.Password()
		if err != nil {
			return nil, fmt.Errorf("read mail.password_file: %w", err)
		}
		s.options = append(s.options, gomail.WithUsername(c.User), gomail.WithPassword(password), gomail.WithOpportunisticSMTPAuth(
			gomail.SMTPAuthSCRAMSHA256, gomail.SMTPAuthPlain, gomail.SMTPAuthLogin))
	}
	if _, err := gomail.NewClient(host, s.options...); err != nil {
		return nil, err
	}
	return s, nil
}

// send implements transport. The connection ends with it, or with ctx.
func (s smtp) send(ctx context.Context, m *gomail.Msg) error {
	ctx, end := context.WithCancel(ctx)
	defer end() // the library leaves a connection open after some errors
	dial := func(dialing context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: s.timeout}).DialContext(dialing, network, address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		if !s.implicit {
			return conn, nil
		}
		secured := tls.Client(conn, s.security)
		return secured, secured.HandshakeContext(dialing)
	}
	client, err := gomail.NewClient(s.host, slices.Concat(s.options, []gomail.Option{gomail.WithDialContextFunc(dial)})...)
	if err != nil {
		return err
	}
	if err := client.DialAndSendWithContext(ctx, m); err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return err
	}
	return nil
}
