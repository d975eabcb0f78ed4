// SPDX-License-Identifier: Apache-2.0

// Package agent translates the part of the Sallyport API that hosts,
// authenticators and the telephony provider call. It holds no rule of who may
// join, approve or log in; docs/reference/sallyport-api.md describes the wire.
package agent

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"rsc.io/qr"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/login"
	"github.com/sallyport-mfa/sallyport/verifier/offline"
	"github.com/sallyport-mfa/sallyport/verifier/pace"
	"github.com/sallyport-mfa/sallyport/verifier/passport"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/report"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/telephony"
	"github.com/sallyport-mfa/sallyport/verifier/verification"
	"github.com/sallyport-mfa/sallyport/verifier/webpush"
)

// recheckEvery is how soon a waiting authenticator learns what no wake-up tells: a
// transaction that ran out, or one that another verifier began.
const recheckEvery = 5 * time.Second

// touchEvery is how often it is noted at most that a host or an authenticator was seen.
const touchEvery = time.Minute

// API serves hosts, authenticators and the telephony provider.
type API struct {
	Gate      *gate.Gate
	Login     login.API
	Passport  *passport.Service
	Directory *directory.Directory
	Base      *url.URL
	CAPEM     string // empty: public certificate
	Store     store.Store
	Hub       push.Hub
	Telephony *telephony.Provider // nil: off
	Offline   *offline.Service
	Reports   *report.Service
	WebPush   *webpush.Service // nil: off
	// Verification is user verification of authenticators.
	Verification *verification.Service
	// Stopping is closed when the server begins to stop, so that streams end; nil: never.
	Stopping <-chan struct{}
	Now      func() time.Time
	Log      *slog.Logger

	streams streams
	// Requests and audited changes of each authenticator.
	requests, changes *pace.Pace
}

// Register adds the routes to mux.
func (a *API) Register(mux gate.Routes) {
	a.requests, a.changes = pace.New(requestEvery, requestsAtOnce), pace.New(changeEvery, changesAtOnce)
	mux.Handle("POST /sallyport/v1/hosts/join",
		a.Gate.ByBodyKey(bodyKey(agentapi.HostPrefix, func(b agentapi.Join) string { return b.PublicKey }), duoapi.CodeJoinKeyID, a.join))
	mux.Handle("GET /sallyport/v1/hosts/self", a.Gate.Host(a.self))
	mux.Handle("GET /sallyport/v1/hosts/ssh_keys", a.Gate.Host(a.sshKeys))
	a.registerSessions(mux)
	a.registerOffline(mux)
	a.registerWebPush(mux)
	a.registerAuthenticators(mux)

	mux.Handle("POST /sallyport/v1/authenticator/activate",
		a.Gate.ByBodyKey(bodyKey(agentapi.ActivationPrefix, func(b agentapi.Activate) string { return b.PublicKey }), duoapi.CodeActivateKeyID, a.activate))
	mux.Handle("GET /sallyport/v1/authenticator/transactions", a.Gate.Phone(true, a.transactions))
	mux.Handle("POST /sallyport/v1/authenticator/transactions/{txid}", a.Gate.Phone(false, a.answer))

	mux.Handle("POST /sallyport/v1/transactions/{txid}/cancel", a.Gate.Signed(gate.Route{
		Handle: a.cancel, Types: []store.IntegrationType{store.AuthAPI},
	}))
	mux.Handle("POST "+telephony.CallbackPath, a.Gate.Webhook(a.checkCallback, a.callback))

	mux.Handle("GET "+directory.BarcodePath, a.Gate.Open(a.barcode))
}

// decode reads a JSON body strictly. The error names no value.
func decode(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return duoapi.NewError(duoapi.CodeInvalidParameter, "the body is not the JSON object that this call takes")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return duoapi.NewError(duoapi.CodeInvalidParameter, "something stands behind the JSON object")
	}
	return nil
}

// bodyKey reads the public key of a body and the id that derives from it.
func bodyKey[T any](prefix string, keyOf func(T) string) func([]byte) (*ecdsa.PublicKey, string, error) {
	return func(body []byte) (*ecdsa.PublicKey, string, error) {
		var b T
		if err := decode(body, &b); err != nil {
			return nil, "", err
		}
		text := keyOf(b)
		if text == "" {
			return nil, "", gate.Missing("public_key")
		}
		key, err := keyproof.DecodeKey(text)
		if err != nil {
			return nil, "", gate.Invalid("public_key", "not a P-256 key in base64 of its SubjectPublicKeyInfo")
		}
		id, err := keyproof.ID(prefix, key)
		return key, id, err
	}
}

// canonicalKey is the one text form under which a key is kept: base64 has several.
func canonicalKey(text string) (string, error) {
	key, err := keyproof.DecodeKey(text)
	if err != nil {
		return "", err
	}
	return keyproof.EncodeKey(key)
}

func (a *API) join(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.Join
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	switch {
	case b.Token == "":
		return gate.Answer{}, gate.Missing("token")
	case b.Name == "":
		return gate.Answer{}, gate.Missing("name")
	}
	key, err := canonicalKey(b.PublicKey)
	if err != nil {
		return gate.Answer{}, err
	}
	joined, err := a.Directory.Join(ctx, directory.JoinRequest{
		Token: b.Token, Name: b.Name, ID: r.Proof.KeyID, PublicKey: key, Address: r.Addr.String(),
	})
	if err != nil {
		return gate.Answer{}, a.refuseCode(r, err)
	}
	a.Log.Info("a host has joined", "host", joined.Host.ID, "name", joined.Host.Name, "peer", r.Addr)
	return gate.Answer{Response: agentapi.Joined{
		HostID: joined.Host.ID, Name: joined.Host.Name, IntegrationKey: joined.Integration.Key,
		SecretKey: joined.Integration.Secret, APIHostname: a.Base.Host, URL: a.Base.String(), CAPEM: a.CAPEM,
	}}, nil
}

// refuseCode counts and logs a token or code that is no good like a wrong signature.
func (a *API) refuseCode(r *gate.Request, err error) error {
	var e *duoapi.Error
	if errors.As(err, &e) && e.Code/100 == http.StatusForbidden {
		return a.Gate.Refuse(r, e.Code, e.Detail)
	}
	return err
}

func (a *API) self(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	h := r.Host
	if a.Now().Sub(h.LastSeen) >= touchEvery {
		if err := a.Directory.TouchHost(ctx, h.ID); err != nil {
			return gate.Answer{}, fmt.Errorf("note that a host was seen: %w", err)
		}
	}
	return gate.Answer{Response: agentapi.Host{
		HostID: h.ID, Name: h.Name, IntegrationKey: h.IntegrationKey, Created: h.Created.Unix(), APIHostname: a.Base.Host,
	}}, nil
}

func (a *API) activate(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.Activate
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	if b.Code == "" {
		return gate.Answer{}, gate.Missing("code")
	}
	key, err := canonicalKey(b.PublicKey)
	if err != nil {
		return gate.Answer{}, err
	}
	done, err := a.Directory.UseActivation(ctx, b.Code, store.DeviceKey{
		PublicKey: key, Name: b.Name, Platform: b.Platform,
	}, r.Addr.String())
	if err != nil {
		return gate.Answer{}, a.refuseCode(r, err)
	}
	a.Log.Info("an authenticator was activated", "phone", done.Phone.ID, "user", done.User.ID, "username", done.User.Username, "peer", r.Addr)
	return gate.Answer{Response: agentapi.Activated{
		AuthenticatorID: done.Phone.ID, UserID: done.User.ID, Username: done.User.Username, Name: done.Phone.Name,
		URL: a.Base.String(), APIHostname: a.Base.Host, CAPEM: a.CAPEM, OfflineRoot: done.OfflineRoot,
	}}, nil
}

func (a *API) transactions(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	query, err := url.ParseQuery(r.HTTP.URL.RawQuery)
	if err != nil {
		return gate.Answer{}, gate.Invalid("wait", "the query cannot be parsed")
	}
	wait := 0
	if text := query.Get("wait"); text != "" {
		wait, err = strconv.Atoi(text)
		if err != nil || wait < 0 || wait > int(agentapi.MaxWait.Seconds()) {
			return gate.Answer{}, gate.Invalid("wait", "not a whole number of seconds from 0 to 25")
		}
	}
	if err := a.touch(ctx, r.Phone); err != nil {
		return gate.Answer{}, err
	}
	list, err := a.await(ctx, r.Phone, query["seen"], time.Duration(wait)*time.Second)
	if err != nil {
		return gate.Answer{}, fmt.Errorf("list login requests: %w", err)
	}
	a.Login.Polled(r.Phone.ID)
	return gate.Answer{Response: agentapi.Transactions{Transactions: list}}, nil
}

// await lists the open transactions of a phone as soon as they differ from those
// that the caller has seen, and at the latest after wait. Once the key is not the
// phone's any more there are none.
func (a *API) await(ctx context.Context, phone store.Phone, seen []string, wait time.Duration) ([]agentapi.Transaction, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	recheck := time.NewTicker(recheckEvery)
	defer recheck.Stop()
	for {
		woken, stop := a.Hub.Wait(push.Phone(phone.ID))
		list, over, err := a.openRequests(ctx, phone)
		if err != nil || over != "" || differ(list, seen) || wait == 0 {
			stop()
			return list, err
		}
		select {
		case <-woken:
		case <-recheck.C:
		case <-timer.C:
			wait = 0
		case <-ctx.Done():
			stop()
			return nil, ctx.Err()
		}
		stop()
	}
}

func differ(list []agentapi.Transaction, seen []string) bool {
	distinct := map[string]bool{}
	for _, id := range seen {
		distinct[id] = true
	}
	if len(list) != len(distinct) {
		return true
	}
	return slices.ContainsFunc(list, func(tx agentapi.Transaction) bool { return !distinct[tx.TxID] })
}

func (a *API) answer(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.SignedAnswer
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	if b.Answer == "" {
		return gate.Answer{}, gate.Missing("answer")
	}
	txID := r.Path("txid")
	result, err := a.Login.Answer(ctx, r.Phone.ID, txID, b)
	if err != nil {
		return gate.Answer{}, fmt.Errorf("answer a login request: %w", err)
	}
	decision := map[store.TxState]string{
		store.TxApproved: login.Approve, store.TxDenied: login.Deny, store.TxFraud: login.Fraud,
	}[result.State]
	if result.State == store.TxPending {
		return gate.Answer{}, duoapi.NewError(duoapi.CodeTxDigits, tries(result.TriesLeft))
	}
	if decision == "" {
		return gate.Answer{}, fmt.Errorf("answer left the transaction in state %q", result.State)
	}
	return gate.Answer{Response: agentapi.Answered{TxID: txID, Decision: decision}}, nil
}

func tries(left int) string {
	if left == 1 {
		return "1 try left"
	}
	return strconv.Itoa(left) + " tries left"
}

func (a *API) cancel(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	txID := r.Path("txid")
	ended, err := a.Login.Cancel(ctx, login.Client{Integration: r.Integration, Address: r.Addr.String()}, txID)
	return gate.Answer{Response: map[string]any{"txid": txID, "canceled": ended}}, err
}

func (a *API) checkCallback(r *http.Request, body []byte) error {
	if a.Telephony == nil {
		return errors.New("telephony is off")
	}
	return a.Telephony.Verify(r.Header, body)
}

type callbackBody struct {
	ID    string `json:"id"`
	TxID  string `json:"txid"`
	Event string `json:"event"`
	Key   string `json:"key"`
}

func (a *API) callback(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b callbackBody
	if err := json.Unmarshal(r.Body, &b); err != nil {
		return gate.Answer{}, duoapi.NewError(duoapi.CodeInvalidParameter, "the body is not the JSON object that this call takes")
	}
	switch b.Event {
	case "":
		return gate.Answer{}, gate.Missing("event")
	case login.CallAnswered, login.CallKeypress, login.CallHangup, login.CallNoAnswer, login.CallFailed, login.SMSDelivered:
	default:
		return gate.Answer{}, gate.Invalid("event", "not one of answered, keypress, hangup, no_answer, failed, delivered")
	}
	switch {
	case b.ID == "":
		return gate.Answer{}, gate.Missing("id")
	case b.TxID == "" && b.Event != login.SMSDelivered && b.Event != login.CallFailed:
		return gate.Answer{}, gate.Missing("txid")
	case (b.Event == login.CallKeypress) != (len(b.Key) == 1):
		return gate.Answer{}, gate.Invalid("key", "one key, with the event keypress")
	}
	if b.TxID != "" {
		if err := a.callStands(ctx, b); err != nil {
			a.Log.Warn("refused a telephony callback", "event", b.Event, "txid", b.TxID, "peer", r.Addr, "reason", err)
			return gate.Answer{}, err
		}
	}
	// The provider's message id tells a message that came twice from the same event twice.
	err := a.Login.TelephonyEvent(ctx, login.TelephonyEvent{
		ID: r.HTTP.Header.Get("Webhook-Id"), TxID: b.TxID, Event: b.Event, Key: a.Telephony.Key(b.Key),
	})
	if err != nil {
		return gate.Answer{}, fmt.Errorf("telephony event: %w", err)
	}
	return gate.Answer{Response: map[string]any{"txid": b.TxID, "accepted": true}}, nil
}

// callStands says why a report about a call has no effect any more. It only
// explains: the login service decides for itself.
func (a *API) callStands(ctx context.Context, b callbackBody) error {
	var tx store.Transaction
	err := a.Store.View(ctx, func(r store.Reader) (err error) {
		tx, err = r.Transaction(b.TxID)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && (tx.Factor != duoapi.FactorPhone || b.ID != telephony.CallID(b.TxID)):
		return duoapi.NewError(duoapi.CodeTxUnknown, "")
	case err != nil:
		return fmt.Errorf("find the call: %w", err)
	}
	return login.Over(tx, a.Now())
}

// barcode draws an activation link, and nothing else, as a QR picture.
func (a *API) barcode(_ context.Context, r *gate.Request) (gate.Answer, error) {
	query, err := url.ParseQuery(r.HTTP.URL.RawQuery)
	if err != nil {
		return gate.Answer{}, gate.Invalid("value", "the query cannot be parsed")
	}
	link := query.Get("value")
	if base, _, err := invite.ParseLink(link); err != nil || base.Host != a.Base.Host {
		return gate.Answer{}, gate.Invalid("value", "not an activation link of this verifier")
	}
	code, err := qr.Encode(link, qr.M)
	if err != nil {
		return gate.Answer{}, fmt.Errorf("draw activation link: %w", err)
	}
	return gate.Answer{Type: "image/png", Response: code.PNG()}, nil
}
