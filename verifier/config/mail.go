// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// Values of Mail.TLS.
const (
	MailStartTLS = "starttls" // TLS begins in the connection, and must (RFC 3207)
	MailImplicit = "implicit" // TLS from the first byte (RFC 8314)
	MailNoTLS    = "none"     // only to a loopback address
)

// Mail is how mails to people leave. Without Server and OutboxDir none does.
type Mail struct {
	// From is the sender: ADDRESS or NAME <ADDRESS>.
	From string `toml:"from"`
	// Server takes the mails: HOST:PORT.
	Server string `toml:"server"`
	TLS    string `toml:"tls"` // starttls, implicit or none
	// User and PasswordFile log in to Server; empty: without.
	User         string   `toml:"user"`
	PasswordFile string   `toml:"password_file"`
	CAFile       string   `toml:"ca_file"` // roots for Server; empty: the system's
	Timeout      Duration `toml:"timeout"` // of one exchange with Server
	// OutboxDir is a directory that gets a file for each mail, in place of Server:
	// for development and tests.
	OutboxDir string `toml:"outbox_dir"`
}

// On says whether mails are sent at all.
func (m Mail) On() bool { return m.Server != "" || m.OutboxDir != "" }

// Password reads the password for Server; none: blank. The file must be closed to
// group and others.
func (m Mail) Password() (string, error) {
	if m.PasswordFile == "" {
		return "", nil
	}
	return secretIn(m.PasswordFile)
}

// Sender is From, parsed.
func (m Mail) Sender() (*mail.Address, error) {
	if strings.ContainsFunc(m.From, unicode.IsControl) {
		return nil, errors.New("control characters in an address")
	}
	a, err := mail.ParseAddress(m.From)
	if err != nil {
		return nil, errors.New("not ADDRESS or NAME <ADDRESS>")
	}
	return a, nil
}

const (
	defaultMailTimeout = 20 * time.Second
	minMailTimeout     = time.Second
	maxMailTimeout     = time.Minute
)

// finish completes the settings and checks them; errors begin with the key.
func (m *Mail) finish(dir string) (errs []error) {
	for _, f := range []*string{&m.PasswordFile, &m.CAFile, &m.OutboxDir} {
		if *f != "" && !filepath.IsAbs(*f) {
			*f = filepath.Join(dir, *f)
		}
	}
	if m.TLS == "" {
		m.TLS = MailStartTLS
	}
	if m.Timeout.Duration == 0 {
		m.Timeout.Duration = defaultMailTimeout
	}
	if !m.On() {
		if m.From != "" || m.User != "" || m.PasswordFile != "" || m.CAFile != "" {
			errs = append(errs, errors.New("mail: neither server nor outbox_dir is set"))
		}
		return errs
	}
	if _, err := m.Sender(); err != nil {
		errs = append(errs, fmt.Errorf("mail.from: %w", err))
	}
	if m.OutboxDir != "" {
		if m.Server != "" {
			errs = append(errs, errors.New("mail.outbox_dir: set it or mail.server, not both"))
		}
		if info, err := os.Stat(m.OutboxDir); err != nil {
			errs = append(errs, fmt.Errorf("mail.outbox_dir: %w", err))
		} else if !info.IsDir() {
			errs = append(errs, fmt.Errorf("mail.outbox_dir: %s is no directory", m.OutboxDir))
		}
		return errs
	}
	return append(errs, m.checkServer()...)
}

func (m *Mail) checkServer() (errs []error) {
	host, port, err := net.SplitHostPort(m.Server)
	if n, bad := strconv.ParseUint(port, 10, 16); err != nil || host == "" || bad != nil || n == 0 {
		errs = append(errs, fmt.Errorf("mail.server: %q is not HOST:PORT", m.Server))
	}
	if !slices.Contains([]string{MailStartTLS, MailImplicit, MailNoTLS}, m.TLS) {
		errs = append(errs, fmt.Errorf("mail.tls: %q is none of starttls, implicit, none", m.TLS))
	}
	if m.TLS == MailNoTLS && !loopback(host) {
		errs = append(errs, errors.New("mail.tls: links that enrol people go through it, so none is only for a loopback address"))
	}
	if (m.User == "") != (m.PasswordFile == "") {
		errs = append(errs, errors.New("mail.user and mail.password_file go together: set both or neither"))
	} else if _, err := m.Password(); err != nil {
		errs = append(errs, fmt.Errorf("mail.password_file: %w", err))
	}
	if m.CAFile != "" {
		if _, err := os.Stat(m.CAFile); err != nil {
			errs = append(errs, fmt.Errorf("mail.ca_file: %w", err))
		}
	}
	if m.Timeout.Duration < minMailTimeout || m.Timeout.Duration > maxMailTimeout {
		errs = append(errs, fmt.Errorf("mail.timeout: %s is not between %s and %s", m.Timeout, minMailTimeout, maxMailTimeout))
	}
	return errs
}
