// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// webhookSecret is a secret of the Standard Webhooks specification, version 1:
// "whsec_" and the key in base64.
type webhookSecret string

// sign returns the webhook-signature header of a message.
func (s webhookSecret) sign(id, timestamp string, body []byte) (string, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(string(s), "whsec_"))
	if err != nil {
		return "", fmt.Errorf("webhook secret: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// runProvider is the telephone company: it takes signed requests for calls and
// messages and writes each into a file, a line each. It never acts by itself;
// the test calls back.
func runProvider(args []string, _ io.Reader, _ io.Writer) error {
	var secret, listen, path, name, ca string
	if err := parse("provider", args, func(f *flag.FlagSet) {
		f.StringVar(&secret, "secret", "", "webhook `secret`")
		f.StringVar(&listen, "listen", ":8443", "`address` to serve on")
		f.StringVar(&name, "name", "", "host `name` that the certificate is for")
		f.StringVar(&ca, "ca", "", "`file` that takes the provider's own CA")
		f.StringVar(&path, "log", "", "`file` that takes the requests, a JSON object per line")
	}); err != nil {
		return err
	}
	log, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	certs, err := makeCertificates(name, ca)
	if err != nil {
		return err
	}
	server := &http.Server{
		Addr:              listen,
		Handler:           &provider{secret: webhookSecret(secret), log: log},
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certs.own}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
	}
	return server.ListenAndServeTLS("", "")
}

type provider struct {
	secret webhookSecret
	mu     sync.Mutex
	log    io.Writer
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	if err != nil || !p.genuine(r.Header, body) || !json.Valid(body) {
		http.Error(w, "not a genuine request", http.StatusUnauthorized)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var line bytes.Buffer
	if json.Compact(&line, body) != nil {
		return
	}
	line.WriteByte('\n')
	if _, err := p.log.Write(line.Bytes()); err != nil {
		http.Error(w, "cannot keep the request", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

func (p *provider) genuine(h http.Header, body []byte) bool {
	id, timestamp := h.Get("webhook-id"), h.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || id == "" || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	want, err := p.secret.sign(id, timestamp, body)
	if err != nil {
		return false
	}
	for _, got := range strings.Fields(h.Get("webhook-signature")) {
		if hmac.Equal([]byte(got), []byte(want)) {
			return true
		}
	}
	return false
}

// runCallback tells the verifier what came of a call: it signs standard input
// and posts it, and prints the status and the body of the answer.
func runCallback(args []string, in io.Reader, out io.Writer) error {
	var secret, url, ca string
	var age time.Duration
	if err := parse("callback", args, func(f *flag.FlagSet) {
		f.StringVar(&secret, "secret", "", "webhook `secret`")
		f.StringVar(&url, "url", "", "the verifier's callback `URL`")
		f.StringVar(&ca, "ca", "", "`file` with the verifier's CA")
		f.DurationVar(&age, "age", 0, "how long ago the message claims to have been signed")
	}); err != nil {
		return err
	}
	body, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	client, err := trusting(ca, "")
	if err != nil {
		return err
	}
	request, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	id, timestamp := "msg_"+rand.Text(), strconv.FormatInt(time.Now().Add(-age).Unix(), 10)
	signature, err := webhookSecret(secret).sign(id, timestamp, body)
	if err != nil {
		return err
	}
	request.Header.Set("content-type", "application/json")
	request.Header.Set("webhook-id", id)
	request.Header.Set("webhook-timestamp", timestamp)
	request.Header.Set("webhook-signature", signature)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return printJSON(out, map[string]any{"status": response.StatusCode, "body": string(text)})
}

func trusting(caFile, name string) (*http.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("read CA: no certificate in " + caFile)
	}
	return &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}},
	}, nil
}
