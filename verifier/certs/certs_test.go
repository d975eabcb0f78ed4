// SPDX-License-Identifier: Apache-2.0

package certs_test

import (
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/verifier/certs"
)

func own(t *testing.T, dir, host string, now func() time.Time) (*certs.CA, *certs.Source) {
	t.Helper()
	ca, err := certs.NewCA(host, now())
	if err != nil {
		t.Fatal(err)
	}
	s, err := certs.Own(ca, host, filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), now)
	if err != nil {
		t.Fatal(err)
	}
	return ca, s
}

// dial makes one TLS connection to a server that shows s.
func dial(t *testing.T, s *certs.Source, client *tls.Config) error {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: s.GetCertificate, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return tls.Client(c, client).Handshake()
}

func TestPinnedConnection(t *testing.T) {
	for _, host := range []string{"verifier.example", "127.0.0.1", "::1"} {
		ca, s := own(t, t.TempDir(), host, time.Now)
		token := invite.New(invite.Join, invite.PinOf(ca.Cert))
		if err := dial(t, s, token.TLSConfig(host)); err != nil {
			t.Errorf("%s: %v", host, err)
		}
		if err := dial(t, s, token.TLSConfig("other.example")); err == nil {
			t.Errorf("%s: a connection to another name passes", host)
		}
		other, err := certs.NewCA(host, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		stranger := invite.New(invite.Join, invite.PinOf(other.Cert))
		if err := dial(t, s, stranger.TLSConfig(host)); err == nil || !strings.Contains(err.Error(), "pins") {
			t.Errorf("%s: the pin of another CA gives %v", host, err)
		}
		unpinned := invite.New(invite.Join, nil)
		if err := dial(t, s, unpinned.TLSConfig(host)); err == nil {
			t.Errorf("%s: without a pin the private CA passes", host)
		}
	}
}

func TestPinnedCACannotBeBorrowed(t *testing.T) {
	// A stranger's leaf with the true CA's certificate sent behind it.
	dir := t.TempDir()
	ca, _ := own(t, dir, "verifier.example", time.Now)
	_, evil := own(t, t.TempDir(), "verifier.example", time.Now)
	pair, err := evil.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged := *pair
	forged.Certificate = [][]byte{pair.Certificate[0], ca.Cert.Raw}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{forged}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_ = c.(*tls.Conn).Handshake()
			_ = c.Close()
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	token := invite.New(invite.Join, invite.PinOf(ca.Cert))
	if err := tls.Client(c, token.TLSConfig("verifier.example")).Handshake(); err == nil {
		t.Error("a leaf that the pinned CA did not sign passes")
	}
}

func TestRenewal(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	clock := func() time.Time { return now }
	_, s := own(t, dir, "v.example", clock)
	first := s.Expires()

	if did, err := s.Renew(); did || err != nil {
		t.Errorf("a fresh certificate is renewed: %v, %v", did, err)
	}
	now = now.Add(61 * 24 * time.Hour)
	if did, err := s.Renew(); !did || err != nil {
		t.Fatalf("a certificate with 29 days left is not renewed: %v", err)
	}
	if !s.Expires().After(first) {
		t.Errorf("expires %s, before it was %s", s.Expires(), first)
	}
	now = now.Add(200 * 24 * time.Hour)
	if did, err := s.Renew(); !did || err != nil {
		t.Errorf("a certificate that ran out is not renewed: %v, %v", did, err)
	}
}

func TestRenewalAfterTheNameChanged(t *testing.T) {
	dir := t.TempDir()
	ca, _ := own(t, dir, "old.example", time.Now)
	s, err := certs.Own(ca, "new.example", filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Covers("new.example"); err != nil {
		t.Error(err)
	}
}

func TestGivenFiles(t *testing.T) {
	dir := t.TempDir()
	_, o := own(t, dir, "v.example", time.Now)
	certFile, keyFile := filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key")
	s, err := certs.Given(certFile, keyFile, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(certFile, []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(); err == nil {
		t.Error("garbage is taken for a certificate")
	}
	if !s.Expires().Equal(o.Expires()) {
		t.Error("the certificate in use is lost after a failed reload")
	}
	if did, err := s.Renew(); did || err != nil {
		t.Errorf("given files are rewritten: %v, %v", did, err)
	}
}

func TestSaveRefusesToOverwrite(t *testing.T) {
	dir := t.TempDir()
	ca, _ := own(t, dir, "v.example", time.Now)
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	if err := ca.Save(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	if err := ca.Save(certFile, keyFile); err == nil {
		t.Error("a CA is overwritten")
	}
	info, err := os.Stat(keyFile)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key file: %v, %v", info.Mode(), err)
	}
	got, err := certs.LoadCA(certFile, keyFile)
	if err != nil || !got.Cert.Equal(ca.Cert) {
		t.Errorf("loaded CA differs: %v", err)
	}
}
