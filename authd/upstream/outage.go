// SPDX-License-Identifier: Apache-2.0

package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/sallyport-mfa/sallyport/authd/proxy"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// Cause is a word for what an outage looks like from here, for logs and status.
// docs/explanation/login.md describes each one.
type Cause string

// The causes.
const (
	CauseTimeout     Cause = "timeout"      // a deadline ran out; Outage.Setting names it
	CauseRefused     Cause = "refused"      // nothing listens there, or the network says no
	CauseDNS         Cause = "dns"          // the name could not be looked up
	CauseTLS         Cause = "tls"          // no TLS, or a certificate that does not hold
	CauseProxy       Cause = "proxy"        // the proxy cannot be reached or makes no connection
	CauseServerError Cause = "server_error" // 5xx
	CauseMalformed   Cause = "malformed"    // an answer, but none of this API
	CauseLost        Cause = "lost"         // the connection ended before the answer was there
	CauseHost        Cause = "host"         // this host lacks the means to ask: descriptors, memory, ports
)

// Causes lists every Cause.
func Causes() []Cause {
	return []Cause{CauseTimeout, CauseRefused, CauseDNS, CauseTLS, CauseProxy, CauseServerError, CauseMalformed, CauseLost, CauseHost}
}

// Outage says that no verifier answered, or that what answered was no answer.
// A refusal (401, 403, 429 and every other 4xx) is an answer: a *duoapi.Error.
type Outage struct {
	Cause   Cause
	Setting string // the setting whose time ran out, or verifier.proxy; empty: no setting has a part in it
	Known   bool   // the verifier was known to be down and was not tried
	Err     error
}

func (o *Outage) Error() string {
	text := o.Err.Error()
	if o.Setting != "" && o.Setting != proxySetting {
		text = o.Setting + " ran out: " + text
	}
	if o.Known {
		text = "the verifier is known to be down: " + text
	}
	return text
}

func (o *Outage) Unwrap() error { return o.Err }

// Answered says that something of the verifier's did answer, if not well: the
// breaker, which knows only of connections, stays shut.
func (o *Outage) Answered() bool {
	return o.Cause == CauseServerError || o.Cause == CauseMalformed
}

// proxySetting is the setting that a way through a proxy that is shut points at.
const proxySetting = "verifier.proxy"

// newOutage looks at the error of a call under ctx.
func newOutage(ctx context.Context, err error) *Outage {
	o := &Outage{Cause: causeOf(err), Setting: timeoutOf(ctx, err), Err: err}
	switch {
	case o.Cause == CauseHost:
		o.Setting = ""
	case o.Cause == CauseProxy && o.Setting == "":
		o.Setting = proxySetting
	case o.Cause != CauseProxy && o.Setting != "":
		o.Cause = CauseTimeout
	}
	return o
}

func causeOf(err error) Cause {
	var (
		answer  *duoapi.Error
		shut    *proxy.Error
		dns     *net.DNSError
		cert    *tls.CertificateVerificationError
		host    x509.HostnameError
		header  tls.RecordHeaderError
		alert   tls.AlertError
		timeout interface{ Timeout() bool }
	)
	switch {
	case errors.As(err, &answer):
		return CauseServerError
	case lacksMeans(err):
		return CauseHost
	case errors.As(err, &shut):
		return CauseProxy
	case errors.As(err, &dns):
		return CauseDNS
	case errors.As(err, &cert), errors.As(err, &host), errors.As(err, &header), errors.As(err, &alert):
		return CauseTLS
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH),
		errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES): // the last two are a firewall's, or SELinux's
		return CauseRefused
	case errors.Is(err, duoapi.ErrMalformed):
		return CauseMalformed
	case errors.As(err, &timeout) && timeout.Timeout():
		return CauseTimeout
	}
	return CauseLost
}

// lacksMeans tells a lack of resources here from an outage there: whoever can use
// up a host's descriptors or ports must not get in by it.
func lacksMeans(err error) bool {
	for _, lack := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOBUFS, syscall.EADDRNOTAVAIL, syscall.EAGAIN} {
		// The resolver keeps the text alone.
		if errors.Is(err, lack) || strings.Contains(err.Error(), lack.Error()) {
			return true
		}
	}
	return false
}

// timeoutOf names the setting whose time ran out, if that is what happened.
func timeoutOf(ctx context.Context, err error) string {
	var d deadline
	if ctx.Err() != nil && errors.As(context.Cause(ctx), &d) {
		return string(d)
	}
	var op *net.OpError
	var timeout interface{ Timeout() bool }
	if errors.As(err, &op) && op.Op == "dial" && op.Timeout() {
		return "connect_timeout"
	}
	if ctx.Err() == nil && (errors.As(err, &timeout) && timeout.Timeout() || strings.Contains(err.Error(), "client connection lost")) {
		return "connect_timeout" // the TLS handshake, or a ping on the connection (net/http has no value for that)
	}
	return ""
}

// neverSent says that no byte of the request can have reached the verifier.
func neverSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	var shut *proxy.Error
	return errors.As(err, &shut) || errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

// deadline is the cause of a context that this package ends.
type deadline string

func (d deadline) Error() string { return string(d) + " ran out" }

// noAddress is the outage of a client without addresses.
func noAddress() *Outage {
	return &Outage{Cause: CauseRefused, Known: true, Err: fmt.Errorf("no address")}
}
