// SPDX-License-Identifier: Apache-2.0

package ldap

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	goldap "github.com/go-ldap/ldap/v3"

	"github.com/sallyport-mfa/sallyport/authd/config"
)

const (
	// badFor is how long a server that did not answer is passed over: a known
	// outage costs a login nothing, and one question in that time finds out
	// whether it is over.
	badFor = 5 * time.Second
	// refusedFor is the same for a server that refuses bind_dn: directories lock
	// accounts after a few wrong passwords.
	refusedFor = time.Minute
	// maxIdle is how many connections to a server are kept for the next question.
	maxIdle = 4
	// idleFor is how long: firewalls forget connections that nobody uses.
	idleFor = time.Minute
)

// server is one address of the directory, with its idle connections.
type server struct {
	config.LDAPServer
	client   *Client
	tls      *tls.Config
	startTLS bool

	mu       sync.Mutex
	idle     []*conn // the one used last at the end
	badUntil time.Time
	health   Health
}

// Health is how a server was when it was last asked.
type Health struct {
	URL   string
	Asked time.Time // the last question; zero: none yet
	Since time.Time // in this state
	Err   error     // nil: it answered
}

// Health is how the servers were when they were last asked, in their order. It
// asks nobody.
func (c *Client) Health() []Health {
	var out []Health
	for _, s := range c.servers {
		s.mu.Lock()
		h := s.health
		s.mu.Unlock()
		h.URL = s.URL
		out = append(out, h)
	}
	return out
}

// Away says that no server has answered a question. It wraps what each one failed
// with.
type Away struct{ errs []error }

func (a *Away) Error() string {
	return "the directory does not answer: " + errors.Join(a.errs...).Error()
}

// Unwrap gives the failures, one per server.
func (a *Away) Unwrap() []error { return a.errs }

// search asks the first server that answers. The error is *Away where none does;
// every other is an answer. Referrals are not followed: they would lead to
// servers that nobody has named.
func (c *Client) search(ctx context.Context, req *goldap.SearchRequest) (*goldap.SearchResult, error) {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for a connection to the directory: %w", context.Cause(ctx))
	}
	away := &Away{}
	for i, s := range c.servers {
		if err := s.passOver(c.opt.Now()); err != nil {
			away.errs = append(away.errs, err)
			continue
		}
		result, err := s.ask(ctx, len(c.servers)-i, req)
		if ctx.Err() != nil && c.ctx.Err() != nil {
			return nil, fmt.Errorf("ask the directory: %w", context.Cause(ctx))
		}
		s.report(c.opt.Now(), err)
		if err == nil || !isOutage(err) {
			return result, err
		}
		away.errs = append(away.errs, fmt.Errorf("%s: %w", s.URL, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, away
}

// ask puts one question to this server. Of the time that is left, those behind
// it, of which there are sharers-1, get as much each.
func (s *server) ask(ctx context.Context, sharers int, req *goldap.SearchRequest) (*goldap.SearchResult, error) {
	if end, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, time.Until(end)/time.Duration(sharers), errTimeout)
		defer cancel()
	}
	// A connection that was kept may have died meanwhile; a fresh one tells.
	if conn := s.takeIdle(); conn != nil {
		result, err := s.use(ctx, conn, req)
		if err == nil || !isBroken(err) {
			return result, err
		}
		s.closeIdle() // the others are no better
		if ctx.Err() != nil {
			return result, err
		}
	}
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	return s.use(ctx, conn, req)
}

// use asks on a connection, and keeps it if it is still good.
func (s *server) use(ctx context.Context, conn *conn, req *goldap.SearchRequest) (*goldap.SearchResult, error) {
	result, err := conn.search(ctx, req)
	// After a broken-off answer its rest would come as that of the next question.
	if err != nil && isBroken(err) || isSizeLimit(err) || ctx.Err() != nil {
		conn.close()
		return result, err
	}
	s.keep(conn)
	return result, err
}

// passOver returns the last error of a server that is not to be asked now. Of
// those who come when its time is over only the first one may ask.
func (s *server) passOver(now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.health.Err == nil {
		return nil
	}
	if now.Before(s.badUntil) {
		return fmt.Errorf("%s (not asked again yet): %w", s.URL, s.health.Err)
	}
	s.badUntil = now.Add(badFor)
	return nil
}

// report notes how a question ended.
func (s *server) report(now time.Time, err error) {
	switch {
	case err == nil || isDown(err):
	case isOutage(err):
		return // too much for it, which says nothing of the next question
	default:
		err = nil // it answered
	}
	s.mu.Lock()
	changed := s.health.Asked.IsZero() || (s.health.Err == nil) != (err == nil)
	down := changed && err != nil
	back := changed && err == nil && !s.health.Asked.IsZero()
	if changed {
		s.health.Since = now
	}
	s.health.Asked, s.health.Err = now, err
	if err != nil {
		s.badUntil = now.Add(badFor)
		if isRefusal(err) {
			s.badUntil = now.Add(refusedFor)
		}
	}
	s.mu.Unlock()
	log := s.client.opt.Log
	switch {
	case down:
		log.Warn("a server of the directory does not answer", slog.String("event", "ldap_down"), slog.String("url", s.URL), slog.Any("error", err))
	case back:
		log.Info("a server of the directory answers again", slog.String("event", "ldap_back"), slog.String("url", s.URL))
	}
}

// isBroken says that the connection is of no more use.
func isBroken(err error) bool {
	var answer *goldap.Error
	return !errors.As(err, &answer) || answer.ResultCode >= goldap.ErrorNetwork
}

// isRefusal says that the server does not take bind_dn or its password.
func isRefusal(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// isOutage says that another server, or this one later, may answer better.
func isOutage(err error) bool {
	if isSizeLimit(err) {
		return false
	}
	return isBroken(err) || isRefusal(err) || goldap.IsErrorAnyOf(err, goldap.LDAPResultBusy, goldap.LDAPResultUnavailable,
		goldap.LDAPResultTimeLimitExceeded, goldap.LDAPResultAdminLimitExceeded, goldap.LDAPResultOther, goldap.LDAPResultOperationsError)
}

// isDown says that the server does not answer anybody. One question that takes too
// long is no sign of that: else a person in very many groups could take the
// directory away from all others. A server that hangs shows at the next
// connection.
func isDown(err error) bool {
	var late *slow
	return isOutage(err) && !errors.As(err, &late) && !goldap.IsErrorAnyOf(err, goldap.LDAPResultTimeLimitExceeded,
		goldap.LDAPResultAdminLimitExceeded, goldap.LDAPResultOther, goldap.LDAPResultOperationsError)
}

func (s *server) takeIdle() *conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.idle) > 0 {
		c := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if !c.ldap.IsClosing() && time.Since(c.used) < idleFor {
			return c
		}
		c.close()
	}
	return nil
}

func (s *server) keep(c *conn) {
	c.used = time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) >= maxIdle || s.client.ctx.Err() != nil {
		c.close()
		return
	}
	s.idle = append(s.idle, c)
}

func (s *server) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.idle {
		c.close()
	}
	s.idle = nil
}

// conn is a connection that is bound. One question at a time uses it.
type conn struct {
	raw  net.Conn
	ldap *goldap.Conn
	used time.Time
}

// close hangs up. The library's reader finds that out and ends.
func (c *conn) close() {
	_ = c.raw.Close()
}

// refusal is a bind that the server has refused.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// dial connects, encrypts and binds.
func (s *server) dial(ctx context.Context) (_ *conn, err error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, s.Network, s.Address)
	if err != nil {
		return nil, because(ctx, "connect", err)
	}
	// Every step below ends when the connection does.
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer func() {
		if !stop() && err == nil {
			err = because(ctx, "connect", net.ErrClosed)
		}
		if err != nil {
			_ = raw.Close()
		}
	}()
	wire := raw
	if s.TLS {
		secure := tls.Client(raw, s.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, because(ctx, "TLS", err)
		}
		wire = secure
	}
	l := goldap.NewConn(wire, s.TLS)
	l.SetTimeout(s.client.opt.Timeout)
	l.Start()
	defer func() {
		if err != nil {
			_ = raw.Close()
			_ = l.Close() // a failed StartTLS leaves nobody who would
		}
	}()
	if s.startTLS {
		if err := l.StartTLS(s.tls); err != nil {
			return nil, because(ctx, "StartTLS", err)
		}
	}
	if dn := s.client.set.BindDN; dn != "" {
		err := l.Bind(dn, s.client.set.Password())
		switch {
		case goldap.IsErrorWithCode(err, goldap.LDAPResultInvalidCredentials):
			return nil, &refusal{fmt.Errorf("it refuses bind_dn %q: wrong name, or wrong password in bind_password_file: %w", dn, err)}
		case err != nil && !isOutage(err):
			return nil, &refusal{fmt.Errorf("it refuses bind_dn %q: %w", dn, err)}
		case err != nil:
			return nil, because(ctx, "bind", err)
		}
	}
	return &conn{raw: raw, ldap: l}, nil
}

func (c *conn) search(ctx context.Context, req *goldap.SearchRequest) (*goldap.SearchResult, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.raw.Close() })
	defer stop()
	result, err := c.ldap.Search(req)
	if err != nil && ctx.Err() != nil {
		return nil, &slow{because(ctx, "search", err)}
	}
	return result, err
}

// slow is a search that had no answer in its time.
type slow struct{ err error }

func (s *slow) Error() string { return s.err.Error() }
func (s *slow) Unwrap() error { return s.err }

// because names the deadline that ended a step, if one did.
func because(ctx context.Context, step string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w (%w)", step, context.Cause(ctx), err)
	}
	return fmt.Errorf("%s: %w", step, err)
}
