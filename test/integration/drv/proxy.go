// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// runProxy stands between a host and the verifier and spoils what passes, as the
// word in a file says at that moment:
//
//	pass       nothing is spoiled
//	401 … 503  this status, with an error body of the verifier's shape; 429 says to
//	           come back in an hour
//	garbage    200 and a body that is no JSON
//	truncated  200 and half a body
//	slow       200 and a body that comes a byte at a time and never ends
//	hang       the request is read and never answered
//	expired    the certificate is one that has run out
//	wrongca    the certificate is by another CA of the same name
//	abort      the connection ends in place of an answer
//	close      new connections are closed at once
//	notls      new connections are answered in plain text
func runProxy(args []string, _ io.Reader, _ io.Writer) error {
	var listen, name, target, targetCA, targetName, ca, modeFile string
	if err := parse("proxy", args, func(f *flag.FlagSet) {
		f.StringVar(&listen, "listen", ":8443", "`address` to serve on")
		f.StringVar(&name, "name", "", "host `name` that the certificate is for")
		f.StringVar(&target, "target", "", "the verifier's `URL`")
		f.StringVar(&targetCA, "target-ca", "", "`file` with the verifier's CA")
		f.StringVar(&targetName, "target-name", "", "the verifier's `name` in its certificate")
		f.StringVar(&ca, "ca", "", "`file` that takes the proxy's own CA")
		f.StringVar(&modeFile, "mode", "", "`file` with the word that says what to spoil")
	}); err != nil {
		return err
	}
	certs, err := makeCertificates(name, ca)
	if err != nil {
		return err
	}
	client, err := trusting(targetCA, targetName)
	if err != nil {
		return err
	}
	upstream, err := url.Parse(target)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	mode := func() string {
		text, err := os.ReadFile(modeFile)
		if err != nil {
			log.Printf("mode: %v", err)
			return "pass"
		}
		return strings.TrimSpace(string(text))
	}
	server := &http.Server{
		Handler: &spoiler{mode: mode, next: &httputil.ReverseProxy{
			Transport: client.Transport,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(upstream)
				r.Out.Host = r.In.Host // the signature covers it
			},
		}},
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return certs.shown(mode()), nil
		}},
		ReadHeaderTimeout: 10 * time.Second,
	}
	return server.ServeTLS(spoiledListener{listener, mode}, "", "")
}

type spoiler struct {
	mode func() string
	next http.Handler
}

func (s *spoiler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mode := s.mode()
	if status, err := strconv.Atoi(mode); err == nil {
		w.Header().Set("Content-Type", "application/json")
		if status == http.StatusTooManyRequests {
			w.Header().Set("Retry-After", "3600")
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"stat":"FAIL","code":%d,"message":"spoiled by the test"}`, status*100+1)
		return
	}
	switch mode {
	case "garbage":
		fmt.Fprint(w, "\x00\xff<html>It works!</html>")
	case "truncated":
		fmt.Fprint(w, `{"stat":"OK","response":{"result":"al`)
	case "slow":
		drip(w, r)
	case "hang":
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	case "abort", "close", "notls":
		panic(http.ErrAbortHandler)
	default:
		s.next.ServeHTTP(w, r)
	}
}

// drip sends a body a byte at a time, for as long as somebody listens.
func drip(w http.ResponseWriter, r *http.Request) {
	for range 600 {
		fmt.Fprint(w, " ")
		if http.NewResponseController(w).Flush() != nil || r.Context().Err() != nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

type spoiledListener struct {
	net.Listener
	mode func() string
}

func (l spoiledListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		switch l.mode() {
		case "close":
		case "notls":
			_, _ = io.WriteString(conn, "220 mail.example ESMTP\r\n")
		default:
			return conn, nil
		}
		_ = conn.Close()
	}
}

// certificates are what the proxy shows: its own, one that has run out, and one
// by a CA that nobody trusts.
type certificates struct{ own, expired, wrongCA tls.Certificate }

func (c *certificates) shown(mode string) *tls.Certificate {
	switch mode {
	case "expired":
		return &c.expired
	case "wrongca":
		return &c.wrongCA
	}
	return &c.own
}

// makeCertificates makes the certificates. The proxy's own is its own CA, and is
// written to path; one that an earlier run has left there is used again.
func makeCertificates(name, path string) (*certificates, error) {
	var c certificates
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{name},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(24 * time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	var err error
	if c.own, err = tls.LoadX509KeyPair(path, path+".key"); err != nil {
		if c.own, err = sign(template, nil); err != nil {
			return nil, err
		}
		if err := keep(c.own, path); err != nil {
			return nil, err
		}
	}
	if c.wrongCA, err = sign(template, nil); err != nil {
		return nil, err
	}
	template.IsCA, template.SerialNumber = false, big.NewInt(2)
	template.Subject.CommonName += " (expired)"
	template.NotBefore, template.NotAfter = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
	c.expired, err = sign(template, &c.own)
	return &c, err
}

// sign makes a certificate by issuer, or one that is its own CA.
func sign(template *x509.Certificate, issuer *tls.Certificate) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make key: %w", err)
	}
	parent, by := template, any(key)
	if issuer != nil {
		if parent, err = x509.ParseCertificate(issuer.Certificate[0]); err != nil {
			return tls.Certificate{}, fmt.Errorf("read issuer: %w", err)
		}
		by = issuer.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// keep writes a certificate to path and its key beside it.
func keep(c tls.Certificate, path string) error {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	for _, f := range []struct {
		path, kind string
		der        []byte
		mode       os.FileMode
	}{{path, "CERTIFICATE", c.Certificate[0], 0o644}, {path + ".key", "PRIVATE KEY", key, 0o600}} {
		if err := os.WriteFile(f.path, pem.EncodeToMemory(&pem.Block{Type: f.kind, Bytes: f.der}), f.mode); err != nil {
			return fmt.Errorf("write certificate: %w", err)
		}
	}
	return nil
}
