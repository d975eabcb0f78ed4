// SPDX-License-Identifier: Apache-2.0

// Package gate reads requests and finds out who sent them: an integration by its
// HMAC signature, a host or an authenticator by a proof with its key. It hands
// handlers only what was signed, and writes answers in the envelope. It never
// decides about a login, and a request that proves nothing writes nothing.
//
// No request is ever answered with a 5xx, and none with a valid signature with a
// 401: common clients of this protocol let people in on those. What the verifier
// itself fails at is 40090, or the answer that the route names for that case.
package gate

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/internal/signature"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// MaxBody is the most that is read of a request body, in bytes; MaxProofBody the
// same for requests with a key proof. Bodies are held in memory before anyone has
// proved anything, so the limits are what the API needs and no more.
const (
	MaxBody      = 192 << 10
	MaxProofBody = 16 << 10
)

// UndatedPrefix is the path under which a signature without a date is good, for
// integrations that allow it: such a signature can be replayed for ever.
const UndatedPrefix = "/rest/v1/"

// LongPoll is the time that a handler may take where it waits for a person, and
// Quick where it does not. After it the connection's write deadline has passed; the
// handler gives up after three quarters of it. Those of LongPoll are more than the
// longest time that a person has to answer, which is 10 minutes.
const (
	LongPoll = 15 * time.Minute
	Quick    = 30 * time.Second
)

// Gate authenticates requests. Make one with New; it is safe for concurrent use.
type Gate struct {
	store      store.Store
	secrets    *secrets
	audience   string
	now        func() time.Time
	log        *slog.Logger
	encodingOf func(path string) Encoding
	limits     *limits
	replays    *replays
	partners   []string
	refusals   *limiter
	seen       sightings
	oldUses    sightings // of secrets that were rotated away
}

// Config is what a Gate needs; all of it but EncodingOf, Rates and Partners.
type Config struct {
	Store    store.Store
	Keys     *seal.Keys
	Audience string // scheme and authority of this verifier
	Now      func() time.Time
	Log      *slog.Logger
	// EncodingOf is the encoding of the answers under a path; nil, or nil from it: JSON.
	EncodingOf func(path string) Encoding
	// Rates hold integrations back; nil: none is.
	Rates Rates
	// Partners are origins whose web apps may call under PartnerPrefix.
	Partners []string
}

// New makes a Gate.
func New(c Config) *Gate {
	return &Gate{
		store: c.Store, secrets: newSecrets(c.Keys), audience: c.Audience, now: c.Now, log: c.Log,
		encodingOf: c.EncodingOf, partners: c.Partners,
		limits: newLimits(c.Rates, c.Now), replays: &replays{store: c.Store, now: c.Now},
		refusals: newLimiter(refusalsPerMinute, c.Now),
	}
}

// Request is a request whose sender is known.
type Request struct {
	HTTP   *http.Request // for its method, path values and context; parameters are in Params
	Params Params        // signed; empty with a key proof
	Body   []byte
	Addr   netip.Addr // of the peer of the connection

	Integration store.Integration // with Signed
	Proof       keyproof.Proof    // with Proof
	Host        store.Host        // with Host
	Phone       store.Phone       // with Phone

	mark []byte // of a write, by which a replay of it is known
}

// Path is a wildcard of the route.
func (r *Request) Path(name string) string { return r.HTTP.PathValue(name) }

// Answer is what a handler gives back. With Type set, Response is a []byte that
// goes out as it is.
type Answer struct {
	Response any
	Metadata *duoapi.Metadata
	Type     string
}

// Routes takes the routes of an API package: patterns of net/http.
type Routes interface {
	Handle(pattern string, h http.Handler)
}

// Handler answers a request. An error that is a *duoapi.Error is for the client;
// any other is the verifier's own fault, is logged, and the client reads 40090.
type Handler func(ctx context.Context, r *Request) (Answer, error)

// Route is a handler and how it may be reached.
type Route struct {
	Handle Handler
	Types  []store.IntegrationType // of integrations that may call it
	Grant  string                  // grant of an Admin API integration; empty: none
	Wait   bool                    // the handler waits for people
	// OnFault is the answer when the verifier itself fails; nil: 40090.
	OnFault *Answer
}

// Signed serves requests with the HMAC signature of an integration.
func (g *Gate) Signed(route Route) http.Handler {
	return g.bounded(g.serve(route.Wait, MaxBody, func(r *http.Request, body []byte, line *logLine) (Answer, error) {
		req, err := g.admit(route, r, body, line)
		if err != nil {
			return Answer{}, err
		}
		answer, err := g.run(r.Context(), req, route.Handle)
		g.replays.forget(r.Context(), req, err)
		if err != nil && route.OnFault != nil && !isClientError(err) {
			g.logFault(r, err)
			return *route.OnFault, nil
		}
		return answer, err
	}))
}

// admit finds the sender and makes all checks that come before the handler.
func (g *Gate) admit(route Route, r *http.Request, body []byte, line *logLine) (*Request, error) {
	req, cred, err := g.authenticate(r, body, line)
	if err != nil {
		return nil, err
	}
	if err := permit(route, req); err != nil {
		return nil, err
	}
	if err := g.limits.take(req.Integration); err != nil {
		return nil, err
	}
	if guarded(r, req.Integration) {
		if req.mark, err = g.replays.take(r.Context(), req.Integration, cred); err != nil {
			return nil, err
		}
	}
	return req, nil
}

// bounded leaves a large body unread that nobody can have signed: the request is
// then refused as it would be with it.
func (g *Gate) bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if (r.ContentLength < 0 || r.ContentLength > MaxProofBody) && !g.namesIntegration(r) {
			r = r.WithContext(r.Context())
			r.Body = http.NoBody
		}
		h.ServeHTTP(w, r)
	})
}

// namesIntegration says whether the request bears the key of an integration. An
// integration that cannot be looked up may be one.
func (g *Gate) namesIntegration(r *http.Request) bool {
	key, _, ok := r.BasicAuth()
	if !ok {
		return false
	}
	err := g.store.View(r.Context(), func(s store.Reader) error {
		_, err := s.Integration(key)
		return err
	})
	return !errors.Is(err, store.ErrNotFound)
}

func isClientError(err error) bool {
	var e *duoapi.Error
	return errors.As(err, &e)
}

func permit(route Route, r *Request) error {
	if !slices.Contains(route.Types, r.Integration.Type) {
		return duoapi.NewError(duoapi.CodeForbidden, "Wrong integration type for this API.")
	}
	if route.Grant != "" && !slices.Contains(r.Integration.Grants, route.Grant) {
		return duoapi.NewError(duoapi.CodeGrant, "this integration lacks "+route.Grant)
	}
	return nil
}

// Open serves requests from anyone. It must not let them change anything.
func (g *Gate) Open(h Handler) http.Handler {
	return g.serve(false, MaxProofBody, func(r *http.Request, body []byte, line *logLine) (Answer, error) {
		return g.run(r.Context(), &Request{HTTP: r, Body: body, Addr: line.addr}, h)
	})
}

// Webhook serves requests that check authenticates by itself, from headers and
// body: its error is a refusal of the credentials.
func (g *Gate) Webhook(check func(*http.Request, []byte) error, h Handler) http.Handler {
	return g.serve(false, MaxProofBody, func(r *http.Request, body []byte, line *logLine) (Answer, error) {
		if err := check(r, body); err != nil {
			return Answer{}, g.refuse(line, duoapi.CodeInvalidSignature, "", err)
		}
		return g.run(r.Context(), &Request{HTTP: r, Body: body, Addr: line.addr}, h)
	})
}

// run calls the handler and turns a panic into an error: by then the request is
// authentic, and the server must not answer by breaking the connection.
func (g *Gate) run(ctx context.Context, r *Request, h Handler) (a Answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return h(ctx, r)
}

type inner func(r *http.Request, body []byte, line *logLine) (Answer, error)

// serve does what all routes share: limits, reading, answering, logging.
func (g *Gate) serve(wait bool, limit int64, next inner) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := &logLine{start: g.now(), addr: peer(r)}
		deadline := Quick
		if wait {
			deadline = LongPoll
		}
		// Not every ResponseWriter has deadlines; the server's own hold then.
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(deadline))
		// The handler gives up earlier, so that its answer still goes out.
		ctx, cancel := context.WithTimeout(r.Context(), deadline*3/4)
		defer cancel()
		answer, err := g.answer(w, r.WithContext(ctx), limit, line, next)
		if r.Context().Err() != nil {
			// The client is gone, or the server stops: it must not read a denial that
			// nobody decided, but ask again.
			panic(http.ErrAbortHandler)
		}
		g.finish(w, r, line, answer, err)
	})
}

// finish writes and logs the answer. It is apart from serve so that its stack is not
// there in each request that waits.
func (g *Gate) finish(w http.ResponseWriter, r *http.Request, line *logLine, answer Answer, err error) {
	code := g.write(w, r, answer, err)
	g.log.Debug("request", "method", r.Method, "path", r.URL.EscapedPath(), "code", code, "peer", line.addr,
		"integration", line.integration, "scheme", line.scheme, "proto", r.Proto, "took", g.now().Sub(line.start))
}

func (g *Gate) answer(w http.ResponseWriter, r *http.Request, limit int64, line *logLine, next inner) (Answer, error) {
	body, err := readBody(w, r, limit)
	if err != nil {
		return Answer{}, err
	}
	return next(r, body, line)
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, duoapi.NewError(duoapi.CodeTooLarge, fmt.Sprintf("at most %d bytes", limit))
		}
		return nil, duoapi.NewError(duoapi.CodeInvalidParameter, "the body ended early")
	}
	// The read deadline was for the request; left standing it would end a long wait.
	_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	return body, nil
}

// logLine gathers what the log of one request tells.
type logLine struct {
	start       time.Time
	addr        netip.Addr
	integration string
	scheme      string
}

// brief cuts a key that nobody has checked yet: a stranger must not fill the log.
func brief(key string) string {
	const most = 64
	if len(key) <= most {
		return key
	}
	return strings.ToValidUTF8(key[:most], "") + "…"
}

func peer(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// authenticate finds the integration that signed the request.
func (g *Gate) authenticate(r *http.Request, body []byte, line *logLine) (*Request, signature.Credentials, error) {
	signed, cred, err := signature.Parse(r, body)
	switch {
	case errors.Is(err, signature.ErrMissingCredentials):
		return nil, cred, g.refuse(line, duoapi.CodeMissingCredentials, "", err)
	case err != nil:
		return nil, cred, g.refuse(line, duoapi.CodeInvalidParameter, "the request cannot be parsed", err)
	}
	line.integration = brief(cred.IntegrationKey)
	integration, secret, known, err := g.findIntegration(r.Context(), cred.IntegrationKey)
	if err != nil {
		return nil, cred, err
	}
	allowV1 := integration.AllowV1 && integration.Type == store.AuthAPI && strings.HasPrefix(r.URL.Path, UndatedPrefix)
	scheme, err := signature.Verify(signed, cred, secret, signed.Candidates(integration.AllowSHA1, allowV1), g.now())
	if !known {
		return nil, cred, g.refuse(line, duoapi.CodeInvalidKey, "", errors.New("unknown integration key"))
	}
	if errors.Is(err, signature.ErrBadSignature) && len(integration.OldSecret.Sealed) > 0 {
		scheme, err = g.verifyOld(signed, cred, integration, allowV1)
	}
	if err != nil {
		return nil, cred, g.refuseSignature(line, err)
	}
	line.scheme = scheme.String()
	if !g.secrets.allowed(integration, line.addr) {
		g.warnStolen(integration, line.addr)
		return nil, cred, duoapi.NewError(duoapi.CodeNetwork, "")
	}
	g.noteHost(r.Context(), integration.HostID)
	req := &Request{HTTP: r, Body: signed.Body, Addr: line.addr, Integration: integration}
	req.Params, err = params(r, signed)
	return req, cred, err
}

// warnStolen logs that somebody who has the secret called from where nobody should
// who has it; at most so often in a minute from one address.
func (g *Gate) warnStolen(i store.Integration, from netip.Addr) {
	if g.refusals.take(from) {
		g.log.Warn("the signature is right, and the address is outside the integration's networks: its key may be stolen",
			"integration", i.Key, "name", i.Name, "peer", from, "networks", i.Networks)
	}
}

func params(r *http.Request, signed signature.Request) (Params, error) {
	if !signed.JSON {
		return formParams(signed.Params)
	}
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(media), "application/json") {
		return nil, duoapi.NewError(duoapi.CodeContentType, "application/json or application/x-www-form-urlencoded")
	}
	return jsonParams(signed.Body)
}

// findIntegration returns the integration and its secret; for an unknown key a
// decoy, so that the work that follows is the same.
func (g *Gate) findIntegration(ctx context.Context, key string) (i store.Integration, secret []byte, known bool, err error) {
	err = g.store.View(ctx, func(r store.Reader) (err error) {
		i, err = r.Integration(key)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		return store.Integration{AllowSHA1: true}, g.secrets.decoy, false, nil
	case err != nil:
		return i, nil, false, fmt.Errorf("find integration: %w", err)
	}
	secret, err = g.secrets.open(i)
	if err != nil {
		return i, nil, false, fmt.Errorf("open the secret of integration %s: %w", i.Key, err)
	}
	return i, secret, true, nil
}

func (g *Gate) refuseSignature(line *logLine, err error) error {
	switch {
	case errors.Is(err, signature.ErrMissingDate):
		return g.refuse(line, duoapi.CodeMissingDate, "", err)
	case errors.Is(err, signature.ErrBadDate):
		// The signature fitted, so this is a clock that is off, or a replay.
		return g.refuse(line, duoapi.CodeBadDate, "the clocks of client and verifier differ too much", err)
	}
	return g.refuse(line, duoapi.CodeInvalidSignature, "", err)
}

// refuse logs a request that proved nothing and makes the error for it. Past the
// limit of an address the log stays quiet and the answer is 42901; who can sign
// is never held up, since the limit is looked at only after the check has failed.
func (g *Gate) refuse(line *logLine, code int, detail string, why error) error {
	if !g.refusals.take(line.addr) {
		e := duoapi.NewError(duoapi.CodeTooManyRequests, "")
		e.RetryAfter = 60
		return e
	}
	g.log.Warn("refused a request", "code", code, "peer", line.addr, "integration", line.integration, "reason", why)
	return duoapi.NewError(code, detail)
}

// Refuse is the error of a handler that finds credentials in a body (a token, an
// activation code) to be no good.
func (g *Gate) Refuse(r *Request, code int, detail string) error {
	return g.refuse(&logLine{addr: r.Addr}, code, detail, errors.New(duoapi.NewError(code, detail).Error()))
}

// Refused counts a refusal that was not given through the gate, as that of a form,
// and says whether the address is within its limit of those that are answered in full.
func (g *Gate) Refused(addr netip.Addr) bool { return g.refusals.take(addr) }

// ByBodyKey serves requests with a proof by a key that the body itself names.
// find reads the key from the body, and the id that the proof must bear.
func (g *Gate) ByBodyKey(find func(body []byte) (key *ecdsa.PublicKey, kid string, err error), kidCode int, h Handler) http.Handler {
	return g.serve(false, MaxProofBody, func(r *http.Request, body []byte, line *logLine) (Answer, error) {
		proof, err := keyproof.ParseHeader(r)
		if err != nil {
			return Answer{}, g.refuseProof(line, err)
		}
		key, kid, err := find(body)
		if err != nil {
			return Answer{}, err
		}
		verified, err := proof.Verify(key, r, body, g.audience, g.now())
		if err != nil {
			return Answer{}, g.refuseProof(line, err)
		}
		if verified.KeyID != kid {
			return Answer{}, g.refuse(line, kidCode, "", errors.New("kid does not fit the key"))
		}
		return g.run(r.Context(), &Request{HTTP: r, Body: body, Addr: line.addr, Proof: verified}, h)
	})
}

// Host serves requests with a proof by the key of a host that has not been revoked,
// from the networks of its integration.
func (g *Gate) Host(h Handler) http.Handler {
	within := func(ctx context.Context, r *Request) (Answer, error) {
		integration, _, known, err := g.findIntegration(ctx, r.Host.IntegrationKey)
		if err != nil {
			return Answer{}, err
		}
		if !known || !g.secrets.allowed(integration, r.Addr) {
			g.warnStolen(integration, r.Addr)
			return Answer{}, duoapi.NewError(duoapi.CodeNetwork, "")
		}
		return h(ctx, r)
	}
	return g.keyed(false, func(ctx context.Context, kid string, req *Request) (publicKey string, err error) {
		err = g.store.View(ctx, func(r store.Reader) (err error) {
			req.Host, err = r.Host(kid)
			return err
		})
		if err == nil && !req.Host.RevokedAt.IsZero() {
			err = fmt.Errorf("host is revoked: %w", store.ErrNotFound)
		}
		return req.Host.PublicKey, err
	}, within)
}

// Phone serves requests with a proof by the key of an activated authenticator.
func (g *Gate) Phone(wait bool, h Handler) http.Handler {
	return g.keyed(wait, g.findPhone, h)
}

// findKey finds the key of a proof's kid, and notes in the request whose it is.
type findKey func(ctx context.Context, kid string, r *Request) (publicKey string, err error)

func (g *Gate) findPhone(ctx context.Context, kid string, req *Request) (publicKey string, err error) {
	err = g.store.View(ctx, func(r store.Reader) (err error) {
		req.Phone, err = r.Phone(kid)
		return err
	})
	if err == nil && !req.Phone.CanPush() {
		err = fmt.Errorf("phone is not activated: %w", store.ErrNotFound)
	}
	return req.Phone.PublicKey, err
}

func (g *Gate) keyed(wait bool, find findKey, h Handler) http.Handler {
	return g.serve(wait, MaxProofBody, func(r *http.Request, body []byte, line *logLine) (Answer, error) {
		req, err := g.admitKey(r, body, line, find)
		if err != nil {
			return Answer{}, err
		}
		return g.run(r.Context(), req, h)
	})
}

// admitKey checks a proof by the key that find finds.
func (g *Gate) admitKey(r *http.Request, body []byte, line *logLine, find findKey) (*Request, error) {
	proof, err := keyproof.ParseHeader(r)
	if err != nil {
		return nil, g.refuseProof(line, err)
	}
	line.integration = brief(proof.KeyID)
	req := &Request{HTTP: r, Body: body, Addr: line.addr}
	text, err := find(r.Context(), proof.KeyID, req)
	if errors.Is(err, store.ErrNotFound) {
		return nil, g.refuseProof(line, err)
	}
	if err != nil {
		return nil, fmt.Errorf("find the key of a proof: %w", err)
	}
	key, err := keyproof.DecodeKey(text)
	if err != nil {
		return nil, fmt.Errorf("key of %s: %w", proof.KeyID, err)
	}
	if req.Proof, err = proof.Verify(key, r, body, g.audience, g.now()); err != nil {
		return nil, g.refuseProof(line, err)
	}
	return req, nil
}

func (g *Gate) refuseProof(line *logLine, err error) error {
	switch {
	case errors.Is(err, keyproof.ErrMissing):
		return g.refuse(line, duoapi.CodeMissingCredentials, "a key proof is needed here", err)
	case errors.Is(err, keyproof.ErrTime):
		return g.refuse(line, duoapi.CodeBadDate, "the clocks of client and verifier differ too much", err)
	case errors.Is(err, keyproof.ErrMismatch):
		// A code of its own: a host must not think that its key is refused because one
		// of its addresses is not what the verifier calls itself.
		return g.refuse(line, duoapi.CodeProofElsewhere, "the proof is for another request or another address of the verifier", err)
	}
	return g.refuse(line, duoapi.CodeInvalidProof, "", err)
}

// NotFound answers for paths that are not there, NotAllowed for methods.
func (g *Gate) NotFound() http.Handler { return g.unread(duoapi.NewError(duoapi.CodeNotFound, "")) }

// NotAllowed answers for a path that is there but not with this method.
func (g *Gate) NotAllowed() http.Handler {
	return g.unread(duoapi.NewError(duoapi.CodeMethodNotAllowed, ""))
}

// LeftOut answers for a call that this verifier leaves out on purpose, whoever asks;
// why stands in the detail.
func (g *Gate) LeftOut(why string) http.Handler {
	return g.unread(duoapi.NewError(duoapi.CodeNotFound, "left out: "+why))
}

// unread refuses every request, whatever its body: that is not read.
func (g *Gate) unread(e *duoapi.Error) http.Handler {
	h := g.serve(false, 0, func(*http.Request, []byte, *logLine) (Answer, error) { return Answer{}, e })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(r.Context())
		r.Body = http.NoBody
		h.ServeHTTP(w, r)
	})
}

// write sends an answer and returns its code, 0 for success.
func (g *Gate) write(w http.ResponseWriter, r *http.Request, a Answer, err error) int {
	if err != nil {
		return g.writeError(w, r, err)
	}
	if a.Type != "" {
		body, ok := a.Response.([]byte)
		if !ok {
			return g.writeError(w, r, fmt.Errorf("answer of type %s is a %T", a.Type, a.Response))
		}
		w.Header().Set("Content-Type", a.Type)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(body)
		return 0
	}
	body, kind, merr := g.encoding(r)(a, nil)
	if merr != nil {
		return g.writeError(w, r, merr)
	}
	send(w, http.StatusOK, kind, body)
	return 0
}

func (g *Gate) writeError(w http.ResponseWriter, r *http.Request, err error) int {
	var e *duoapi.Error
	if !errors.As(err, &e) || e.Status() >= 500 {
		g.logFault(r, err)
		e = duoapi.NewError(duoapi.CodeCannotDecide, "")
	}
	g.WriteRefusal(w, r, e)
	return e.Code
}

func (g *Gate) logFault(r *http.Request, err error) {
	if errors.Is(err, context.Canceled) {
		return // the client is gone: nobody reads the answer
	}
	g.log.Error("the verifier itself failed at a request; the client was refused", "method", r.Method, "path", r.URL.EscapedPath(), "error", err)
}

func newDecoy() []byte {
	b := make([]byte, 40)
	_, _ = rand.Read(b) // never fails
	return b
}
