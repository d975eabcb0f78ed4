// SPDX-License-Identifier: Apache-2.0

// Package upstream is authd's client of the verifiers: one reused HTTP/2
// connection, a deadline on every wait, and a health state per address, so that
// a known outage costs a login no time. It never decides what an outage means
// for a login.
package upstream

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/proxy"
	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// Options is what New needs.
type Options struct {
	Endpoints      []*url.URL
	IntegrationKey string
	Secret         []byte
	CAFile         string // empty: the system's roots
	UserAgent      string
	HostKey        *ecdsa.PrivateKey // nil: Host gives ErrNoHostKey

	Selection Selection      // empty: InOrder
	Proxy     *proxy.Proxy   // nil: none
	Dial      proxy.DialFunc // nil: the network of this host

	ConnectTimeout time.Duration
	RequestTimeout time.Duration
	ProbeInterval  time.Duration // at most this long between the probes of an address that is down
	HealthInterval time.Duration // between the probes of one that is up; 0: none without suspicion

	Now func() time.Time
	Log *slog.Logger
	// Jitter shortens a wait between probes at random, so that many hosts do not
	// probe at once; nil: to between a half and the whole.
	Jitter func(time.Duration) time.Duration

	// What follows may be nil, must not block, and is called from any goroutine.

	// Contact is called at each good answer; signed says that it was one to a call
	// that the integration's key had signed, and not to a probe.
	Contact func(signed bool)
	// Refused is called when a verifier refuses this host's key.
	Refused func()
	// Back is called when an address answers a probe after an outage, and when the
	// first probe of all is answered, for the outage may have begun before.
	Back func()
}

// Client asks the verifiers. It is safe for concurrent use.
type Client struct {
	opt       Options
	hostID    string // empty: no host key
	http      *http.Client
	endpoints []*endpoint
	preferred atomic.Pointer[endpoint] // for ByHealth: the one that answered last
	stop      context.CancelFunc
	done      sync.WaitGroup
}

// New makes a client and starts to look after the health of its addresses.
// Close ends that.
func New(opt Options) (*Client, error) {
	if opt.Jitter == nil {
		opt.Jitter = jitter
	}
	pool, err := roots(opt.CAFile)
	if err != nil {
		return nil, err
	}
	hostID := ""
	if opt.HostKey != nil {
		if hostID, err = keyproof.ID(agentapi.HostPrefix, &opt.HostKey.PublicKey); err != nil {
			return nil, fmt.Errorf("name the host by its key: %w", err)
		}
	}
	c := &Client{opt: opt, hostID: hostID, http: &http.Client{
		Transport:     newTransport(opt, pool),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	ctx, cancel := context.WithCancel(context.Background())
	c.stop = cancel
	for _, u := range opt.Endpoints {
		e := newEndpoint(u, c)
		c.endpoints = append(c.endpoints, e)
		c.done.Go(func() { e.watch(ctx) })
	}
	return c, nil
}

// Close stops the health checks and drops idle connections. Calls that are
// under way go on.
func (c *Client) Close() {
	c.stop()
	c.done.Wait()
	c.http.CloseIdleConnections()
}

func roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil // crypto/tls takes the system's
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read verifier.ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read verifier.ca_file: %s holds no certificate", file)
	}
	return pool, nil
}

// newTransport takes no proxy from the environment: whoever may set a variable
// of the daemon's would else stand between it and the verifier. A configured one
// is a part of dialing, so that connect_timeout bounds it and its failures are
// told from the verifier's.
func newTransport(opt Options, pool *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: opt.ConnectTimeout, KeepAlive: 15 * time.Second}
	dial := proxy.DialFunc(dialer.DialContext)
	if opt.Dial != nil {
		dial = opt.Dial
	}
	if opt.Proxy != nil {
		dial = opt.Proxy.Dial(dial, opt.ConnectTimeout)
	}
	return &http.Transport{
		DialContext:         dial,
		TLSClientConfig:     &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: opt.ConnectTimeout,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        8,
		IdleConnTimeout:     5 * time.Minute,
		// A long poll can be silent for a minute: pings tell a quiet verifier
		// from one that is gone.
		HTTP2: &http.HTTP2Config{SendPingTimeout: 5 * time.Second, PingTimeout: opt.ConnectTimeout},
	}
}

// Preauth asks which factors a person has.
func (c *Client) Preauth(ctx context.Context, params url.Values) (duoapi.Preauth, error) {
	var out duoapi.Preauth
	err := c.try(ctx, api(http.MethodPost, "/auth/v2/preauth", params, &out), limits{again: true, timeout: c.opt.RequestTimeout})
	return out, err
}

// Auth starts a factor or checks a passcode. It is sent at most once: a passcode
// sent twice is a passcode used twice.
func (c *Client) Auth(ctx context.Context, params url.Values) (duoapi.Auth, error) {
	var out duoapi.Auth
	err := c.try(ctx, api(http.MethodPost, "/auth/v2/auth", params, &out), limits{timeout: c.opt.RequestTimeout})
	return out, err
}

// AuthStatus waits until the state of a transaction changes, which may take as
// long as ctx lives: request_timeout does not bound it.
func (c *Client) AuthStatus(ctx context.Context, txid string) (duoapi.Auth, error) {
	var out duoapi.Auth
	err := c.try(ctx, api(http.MethodGet, "/auth/v2/auth_status", url.Values{"txid": {txid}}, &out), limits{again: true})
	return out, err
}

// Cancel withdraws a transaction. A server without that call answers 404, which
// is no error: the transaction then dies of old age.
func (c *Client) Cancel(ctx context.Context, txid string) error {
	path := "/sallyport/v1/transactions/" + url.PathEscape(txid) + "/cancel"
	err := c.try(ctx, api(http.MethodPost, path, nil, nil), limits{timeout: c.opt.RequestTimeout})
	var refused *duoapi.Error
	if errors.As(err, &refused) && refused.Status() == http.StatusNotFound {
		return nil
	}
	return err
}

// ErrNoHostKey says that authd has no key of this host (verifier.host_key_file).
var ErrNoHostKey = errors.New("this host has no key of its own")

// Host runs call with a client that signs with the host's key, at one address
// after the other as the Auth API's calls do; each is given request_timeout.
// Where asking twice does no harm, again says so. Errors are those of the other
// calls, or ErrNoHostKey.
func (c *Client) Host(ctx context.Context, again bool, call func(context.Context, *agentapi.Client) error) error {
	if c.hostID == "" {
		return ErrNoHostKey
	}
	return c.try(ctx, func(ctx context.Context, e *endpoint) error { return call(ctx, e.host) },
		limits{again: again, timeout: c.opt.RequestTimeout})
}

// HostID is the id that derives from the host's key, empty without one.
func (c *Client) HostID() string { return c.hostID }

// request is a call at one address.
type request func(context.Context, *endpoint) error

// limits is how a call may be made.
type limits struct {
	again   bool          // asking twice does no harm
	timeout time.Duration // at each address; 0: none but the caller's
}

// api is a call of the Auth API's kind.
func api(method, path string, params url.Values, out any) request {
	return func(ctx context.Context, e *endpoint) error {
		_, err := e.api.Call(ctx, method, path, params, out)
		return err
	}
}

// try asks the addresses that are not known to be down, by the selection, until
// one answers. What may not be asked twice goes to the next address only if it
// cannot have been sent.
func (c *Client) try(ctx context.Context, call request, l limits) error {
	outage := noAddress()
	for _, e := range c.candidates() {
		if cause := e.down(); cause != nil {
			if outage.Known {
				known := *cause
				known.Known, outage = true, &known
			}
			continue
		}
		err := c.ask(ctx, e, call, l)
		var failed *Outage
		if !errors.As(err, &failed) {
			c.preferred.Store(e)
			return err
		}
		outage = failed
		if ctx.Err() != nil || !l.again && !neverSent(err) {
			break
		}
	}
	return outage
}

// ask asks one address. A connection that the verifier has meanwhile closed
// shows only when it is used: where that does no harm, a second try follows. So
// it does, with the clock set right, when the verifier refuses the date.
func (c *Client) ask(ctx context.Context, e *endpoint, call request, l limits) error {
	if l.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, l.timeout, deadline("request_timeout"))
		defer cancel()
	}
	err := call(ctx, e)
	var answer *duoapi.Error
	switch {
	case ctx.Err() != nil:
	case l.again && errors.Is(err, duoapi.ErrTransport) && !neverSent(err):
		err = call(ctx, e)
	case errors.As(err, &answer) && answer.Code == duoapi.CodeBadDate && e.setClock(ctx):
		err = call(ctx, e)
	}
	if err == nil {
		e.answered(true)
		return nil
	}
	if errors.As(err, &answer) && answer.Status() < http.StatusInternalServerError {
		if refusesKey(answer.Code) && c.opt.Refused != nil {
			c.opt.Refused()
		}
		return answer
	}
	if errors.Is(ctx.Err(), context.Canceled) {
		return context.Cause(ctx) // the caller went away: nothing is known of the verifier
	}
	if errors.Is(err, duoapi.ErrTransport) && (ctx.Err() == nil || l.timeout > 0) {
		e.suspect(err) // the end of a long poll says nothing of the verifier
	}
	return newOutage(ctx, err)
}

// refusesKey says that an answer refuses this host, whoever logs in: its key is
// revoked or unknown, or it may not ask from where it is. Other codes of 403
// refuse one request.
func refusesKey(code int) bool {
	switch code {
	case duoapi.CodeMissingDate, duoapi.CodeBadDate:
		return false
	case http.StatusForbidden * 100, duoapi.CodeForbidden, duoapi.CodeNetwork:
		return true
	}
	return code/100 == http.StatusUnauthorized
}
