// SPDX-License-Identifier: Apache-2.0

package gcm

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/sallyport-mfa/sallyport/test/pushservice"
)

// Options say where Serve listens: ADDRESS:PORT each.
type Options struct {
	Push    string // TLS; what senders reach as the Senders, port 443
	Browser string // TLS: check-in and registration, and the push service's Control
	Stream  string // TLS: messages to browsers
	// Names are further names that the certificate is for, beside the Senders.
	Names []string
	// Log is told what comes; nil: nothing is.
	Log func(format string, args ...any)
}

// Running is a push service for Chromium that serves.
type Running struct {
	Push *pushservice.Service
	// Root is the certificate in PEM, which vouches for itself: what senders trust.
	Root []byte
	// PushAddress, BrowserAddress and StreamAddress are ADDRESS:PORT.
	PushAddress, BrowserAddress, StreamAddress string

	cert    tls.Certificate
	servers []*http.Server
	stream  net.Listener
}

// Serve serves until Close.
func Serve(o Options) (*Running, error) {
	cert, root, err := pushservice.Certificate(append(Senders(), o.Names...)...)
	if err != nil {
		return nil, err
	}
	r := &Running{Push: pushservice.New(time.Now, Origins()...), Root: root, cert: cert}
	server := New(r.Push, o.Log)
	browsers := http.NewServeMux()
	browsers.Handle("/control/", r.Push.Control())
	browsers.Handle("/", server)
	config := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2", "http/1.1"}}
	push, err := net.Listen("tcp", o.Push)
	if err != nil {
		return nil, err
	}
	r.PushAddress = push.Addr().String()
	r.serve(tls.NewListener(push, config), r.Push)
	browser, err := net.Listen("tcp", o.Browser)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.BrowserAddress = browser.Addr().String()
	r.serve(tls.NewListener(browser, config), browsers)
	r.stream, err = tls.Listen("tcp", o.Stream, &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	r.StreamAddress = r.stream.Addr().String()
	go func() { _ = server.ServeStream(r.stream) }() // ends with its listener
	return r, nil
}

func (r *Running) serve(l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	r.servers = append(r.servers, s)
	go func() { _ = s.Serve(l) }() // ends with Close
}

// SPKI names the certificate for Chromium; see [pushservice.SPKI].
func (r *Running) SPKI() string { return pushservice.SPKI(r.cert) }

// Close ends it, and every connection.
func (r *Running) Close() error {
	r.Push.Close()
	var errs []error
	for _, s := range r.servers {
		errs = append(errs, s.Close())
	}
	if r.stream != nil {
		errs = append(errs, r.stream.Close())
	}
	return errors.Join(errs...)
}

// Switches lead Chromium to the servers at browser and stream, ADDRESS:PORT as
// Chromium reaches them, straight or through its proxy, and make it take the certificate that
// spki names. It needs a profile of its own (a user data directory, no private
// window), the permission for notifications, and disable-background-networking off.
func Switches(browser, stream, spki string) map[string]string {
	return map[string]string{
		"gcm-checkin-url":                     fmt.Sprintf("https://%s/checkin", browser),
		"gcm-registration-url":                fmt.Sprintf("https://%s/register3", browser),
		"gcm-mcs-endpoint":                    "https://" + stream,
		"ignore-certificate-errors-spki-list": spki,
	}
}
