// SPDX-License-Identifier: Apache-2.0

package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strconv"

	gomail "github.com/wneessen/go-mail"

	"github.com/sallyport-mfa/sallyport/verifier/config"
)

// smtp hands mails to a server (RFC 5321), for each on a connection of its own.
type smtp struct{ client *gomail.Client }

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
	security := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		text, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read mail.ca_file: %w", err)
		}
		security.RootCAs = x509.NewCertPool()
		if !security.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read mail.ca_file: %s holds no certificate", c.CAFile)
		}
	}
	options := []gomail.Option{
		gomail.WithPort(port), gomail.WithTimeout(c.Timeout.Duration), gomail.WithHELO(helo), gomail.WithTLSConfig(security),
	}
	switch c.TLS {
	case config.MailImplicit:
		options = append(options, gomail.WithSSL())
	case config.MailNoTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	}
	if c.User != "" {
		password, err := c.Password()
		if err != nil {
			return nil, fmt.Errorf("read mail.password_file: %w", err)
		}
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(c.User), gomail.WithPassword(password))
	}
	client, err := gomail.NewClient(host, options...)
	if err != nil {
		return nil, err
	}
	return smtp{client}, nil
}

// send implements transport. mail.timeout bounds each exchange.
func (s smtp) send(ctx context.Context, m *gomail.Msg) error {
	return s.client.DialAndSendWithContext(ctx, m)
}
