// SPDX-License-Identifier: Apache-2.0

// Package certs owns the verifier's TLS identity: the private CA, the server
// certificate that it issues and renews, or a given pair of files. It never
// issues a certificate for anything but the verifier itself.
package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
)

// Lifetimes. A leaf is renewed when a third of its life is left.
const (
	caLife   = 20 * 365 * 24 * time.Hour
	leafLife = 90 * 24 * time.Hour
	renewAt  = leafLife / 3
	backdate = time.Hour // for clients whose clock is late
)

// CA is a private certificate authority for one verifier.
type CA struct {
	Cert *x509.Certificate
	key  crypto.Signer
}

// NewCA makes a CA for the verifier at host.
func NewCA(host string, now time.Time) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make CA key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Sallyport CA of " + host},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLife),
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make CA certificate: %w", err)
	}
	return &CA{Cert: cert, key: key}, nil
}

// LoadCA reads a CA from its files.
func LoadCA(certFile, keyFile string) (*CA, error) {
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || pair.Leaf == nil || !pair.Leaf.IsCA {
		return nil, fmt.Errorf("read CA: %s is not the certificate of a CA", certFile)
	}
	return &CA{Cert: pair.Leaf, key: key}, nil
}

// PEM is the certificate of the CA.
func (ca *CA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Cert.Raw})
}

// Save writes the CA's files; they must not exist.
func (ca *CA) Save(certFile, keyFile string) error {
	key, err := keyPEM(ca.key)
	if err != nil {
		return err
	}
	if err := writeNew(keyFile, key, 0o600); err != nil {
		return fmt.Errorf("write CA key: %w", err)
	}
	if err := writeNew(certFile, ca.PEM(), 0o644); err != nil {
		return fmt.Errorf("write CA certificate: %w", err)
	}
	return nil
}

// Issue makes a server certificate for host (a name or an address) and writes it
// with the CA's behind it, and its key, replacing what is there.
func (ca *CA) Issue(host, certFile, keyFile string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make server key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return err
	}
	// The address stands among the DNS names too: python3-duo-client looks at those alone.
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: shortName(host)},
		DNSNames:     []string{host},
		NotBefore:    now.Add(-backdate),
		NotAfter:     earlier(now.Add(leafLife), ca.Cert.NotAfter),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Cert, key.Public(), ca.key)
	if err != nil {
		return fmt.Errorf("make server certificate: %w", err)
	}
	keyText, err := keyPEM(key)
	if err != nil {
		return err
	}
	chain := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), ca.PEM()...)
	// One file holds both, so that no crash leaves a certificate beside another's key.
	if err := replace(keyFile, append(keyText, chain...), 0o600); err != nil {
		return fmt.Errorf("write server key: %w", err)
	}
	if err := replace(certFile, chain, 0o644); err != nil {
		return fmt.Errorf("write server certificate: %w", err)
	}
	return nil
}

func shortName(host string) string {
	if len(host) > 64 { // ub-common-name of RFC 5280
		return "sallyport-verifier"
	}
	return host
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func newSerial() (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("make serial number: %w", err)
	}
	b[0] &= 0x7f // positive
	b[0] |= 0x40 // of full length
	return new(big.Int).SetBytes(b), nil
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func writeNew(path string, b []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	return finish(f, b)
}

// replace writes path as a whole or not at all.
func replace(path string, b []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := f.Chmod(mode); err != nil {
		_ = f.Close()
		return err
	}
	if err := finish(f, b); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func finish(f *os.File, b []byte) error {
	_, err := f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// Source gives the TLS server its certificate and changes it while it runs. It
// is safe for concurrent use.
type Source struct {
	current  atomic.Pointer[tls.Certificate]
	seen     atomic.Pointer[stamp] // of given files, when they were last taken
	certFile string                // the chain, or chain and key together
	keyFile  string
	ca       *CA // nil: given files
	host     string
	now      func() time.Time
}

// Given serves a pair of files that someone else renews; Reload reads them again.
func Given(certFile, keyFile string, now func() time.Time) (*Source, error) {
	s := &Source{certFile: certFile, keyFile: keyFile, now: now}
	return s, s.Reload()
}

// Own serves a certificate of ca for host from files that Renew rewrites.
func Own(ca *CA, host, certFile, keyFile string, now func() time.Time) (*Source, error) {
	s := &Source{certFile: certFile, keyFile: keyFile, ca: ca, host: host, now: now}
	_, err := s.Renew()
	return s, err
}

// Reload reads the files again. After an error the certificate in use stays.
func (s *Source) Reload() error {
	pair, err := s.load()
	if err != nil {
		return err
	}
	s.current.Store(pair)
	return nil
}

// load reads the files.
func (s *Source) load() (*tls.Certificate, error) {
	certFile := s.certFile
	if s.ca != nil {
		certFile = s.keyFile // holds both
	}
	pair, err := tls.LoadX509KeyPair(certFile, s.keyFile)
	if err != nil {
		return nil, fmt.Errorf("read server certificate: %w", err)
	}
	if now := s.now(); now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("read server certificate: %s has run out on %s", s.certFile, pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	return &pair, nil
}

// Renew issues a certificate of the own CA if the one in use is missing, for
// another name, or has less than a third of its life left; it reports whether it
// did. For given files it does nothing.
func (s *Source) Renew() (bool, error) {
	if s.ca == nil {
		return false, nil
	}
	err := s.Reload()
	if err == nil && !s.due(s.current.Load().Leaf) {
		return false, nil
	}
	if err := s.ca.Issue(s.host, s.certFile, s.keyFile, s.now()); err != nil {
		return false, err
	}
	return true, s.Reload()
}

// Refresh is Renew for an own certificate. Given files it reads again if they
// have changed since it last did, and takes them if they are good for host; it
// reports whether another certificate is in use. After an error the one in use
// stays, and the next call tries again.
func (s *Source) Refresh(host string) (bool, error) {
	if s.ca != nil {
		return s.Renew()
	}
	seen, err := stamps(s.certFile, s.keyFile)
	if err != nil {
		return false, fmt.Errorf("look for another server certificate: %w", err)
	}
	if before := s.seen.Load(); before != nil && *before == seen {
		return false, nil
	}
	before := s.current.Load()
	next, err := s.load()
	if err != nil {
		return false, err
	}
	if err := next.Leaf.VerifyHostname(host); err != nil {
		return false, fmt.Errorf("read server certificate: %s: %w", s.certFile, err)
	}
	s.seen.Store(&seen)
	s.current.Store(next)
	return before == nil || !before.Leaf.Equal(next.Leaf), nil
}

// stamp tells whether files have changed.
type stamp [2]struct {
	inode    uint64
	size     int64
	modified time.Time
}

func stamps(files ...string) (out stamp, err error) {
	for i, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			return out, err
		}
		out[i].size, out[i].modified = info.Size(), info.ModTime()
		if sys, ok := info.Sys().(*syscall.Stat_t); ok {
			out[i].inode = sys.Ino
		}
	}
	return out, nil
}

// Valid says whether the certificate in use is good at this time.
func (s *Source) Valid() error {
	leaf, now := s.current.Load().Leaf, s.now()
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("the server certificate is good from %s to %s, and now it is %s",
			leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339), now.Format(time.RFC3339))
	}
	return nil
}

func (s *Source) due(leaf *x509.Certificate) bool {
	return leaf.NotAfter.Sub(s.now()) < renewAt || leaf.VerifyHostname(s.host) != nil || leaf.CheckSignatureFrom(s.ca.Cert) != nil
}

// Expires is when the certificate in use runs out.
func (s *Source) Expires() time.Time { return s.current.Load().Leaf.NotAfter }

// GetCertificate is for tls.Config: the one certificate, whatever name the client asks for or none.
func (s *Source) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.current.Load(), nil
}

// Covers says whether the certificate in use is good for host.
func (s *Source) Covers(host string) error {
	return s.current.Load().Leaf.VerifyHostname(host)
}

// ReadCert reads the first certificate of a PEM file.
func ReadCert(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	block, _ := pem.Decode(bytes.TrimSpace(b))
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("read certificate: %s holds none in PEM", path)
	}
	return x509.ParseCertificate(block.Bytes)
}
