// SPDX-License-Identifier: Apache-2.0

package mail

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/config"
)

// smtpServer is as much of a mail server as the tests need.
type smtpServer struct {
	address  string
	ca       string // file
	security *tls.Config
	implicit bool
	noTLS    bool // it offers no STARTTLS
	silent   bool // it takes connections and says nothing

	mu    sync.Mutex
	mails []string
	users []string
	plain int // commands that came without TLS, but EHLO, STARTTLS, NOOP and QUIT
}

func (s *smtpServer) start(t *testing.T) {
	t.Helper()
	web := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate of 127.0.0.1
	t.Cleanup(web.Close)
	s.security = &tls.Config{Certificates: web.TLS.Certificates, MinVersion: tls.VersionTLS12}
	s.ca = filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	if err := os.WriteFile(s.ca, text, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = l.Addr().String()
	var all sync.WaitGroup
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		close(done)
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				if s.silent {
					<-done
					return
				}
				if s.implicit {
					c = tls.Server(c, s.security)
				}
				s.talk(c, s.implicit)
			})
		}
	})
}

func (s *smtpServer) talk(c net.Conn, secure bool) {
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(c)
	say := func(format string, args ...any) { fmt.Fprintf(c, format+"\r\n", args...) }
	say("220 test")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		verb = strings.ToUpper(verb)
		if !secure && !strings.Contains("EHLO STARTTLS NOOP QUIT", verb) {
			s.mu.Lock()
			s.plain++
			s.mu.Unlock()
		}
		switch verb {
		case "EHLO":
			if !secure && !s.noTLS {
				say("250-test\r\n250 STARTTLS")
			} else {
				say("250-test\r\n250 AUTH PLAIN")
			}
		case "STARTTLS":
			say("220 go")
			c = tls.Server(c, s.security)
			in, secure = bufio.NewReader(c), true
		case "AUTH":
			_, initial, _ := strings.Cut(rest, " ")
			text, _ := base64.StdEncoding.DecodeString(initial)
			s.mu.Lock()
			s.users = append(s.users, string(text))
			s.mu.Unlock()
			say("235 yes")
		case "DATA":
			say("354 go")
			var mail strings.Builder
			for {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				if line == ".\r\n" {
					break
				}
				mail.WriteString(line)
			}
			s.mu.Lock()
			s.mails = append(s.mails, mail.String())
			s.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *smtpServer) try(t *testing.T, change func(*config.Mail)) error {
	t.Helper()
	c := config.Mail{
		From: "sallyport@example.org", Server: s.address, TLS: config.MailStartTLS, CAFile: s.ca,
		Timeout: config.Duration{Duration: 20 * time.Second},
	}
	if change != nil {
		change(&c)
	}
	m, err := New(c, nil, nil, &url.URL{Scheme: "https", Host: "verifier.example"}, time.Now, rand.Reader, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return m.Test(context.Background(), "alice@example.org")
}

func TestSMTP(t *testing.T) {
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		server *smtpServer
		change func(*config.Mail)
		want   string // of the error; blank: taken
		plain  bool   // a mail may go without TLS
	}{
		"STARTTLS":                {server: &smtpServer{}},
		"TLS from the first byte": {server: &smtpServer{implicit: true}, change: func(c *config.Mail) { c.TLS = config.MailImplicit }},
		"with a password":         {server: &smtpServer{}, change: func(c *config.Mail) { c.User, c.PasswordFile = "relay", password }},
		"a password, implicit": {server: &smtpServer{implicit: true}, change: func(c *config.Mail) {
			c.TLS, c.User, c.PasswordFile = config.MailImplicit, "relay", password
		}},
		"none, to a loopback address": {server: &smtpServer{noTLS: true}, change: func(c *config.Mail) { c.TLS = config.MailNoTLS }, plain: true},
		"a server without STARTTLS":   {server: &smtpServer{noTLS: true}, want: "STARTTLS"},
		"a certificate of others":     {server: &smtpServer{}, change: func(c *config.Mail) { c.CAFile = "" }, want: "certificate"},
		"a server that says nothing": {server: &smtpServer{silent: true}, want: "timeout", change: func(c *config.Mail) {
			c.Timeout.Duration = time.Second
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := c.server
			s.start(t)
			err := s.try(t, c.change)
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.plain > 0 && !c.plain {
				t.Errorf("%d commands without TLS", s.plain)
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) || len(s.mails) != 0 {
					t.Errorf("error %v, %d mails; want one with %q", err, len(s.mails), c.want)
				}
				return
			}
			if err != nil || len(s.mails) != 1 || !strings.Contains(s.mails[0], "Subject: Mail from Sallyport works") {
				t.Errorf("%v, mails %q", err, s.mails)
			}
			if strings.Contains(name, "password") && (len(s.users) != 1 || s.users[0] != "\x00relay\x00secret") {
				t.Errorf("logged in as %q", s.users)
			}
		})
	}
}
