// SPDX-License-Identifier: Apache-2.0

// Package login decides: who may log in, with which factor, and when a
// transaction ends. The API packages translate to it and back. It holds no HTTP
// and no SQL, and never lets anyone in but by one decision that the store
// committed together with its event.
package login

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/push"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// ErrRefused is what an error of a Telephony wraps if the provider surely did
// nothing, so that it costs nothing.
var ErrRefused = errors.New("the telephony provider refused")

// Telephony reaches people by telephone. Its methods return once the provider
// has taken the request, not when the person answered; a nil error is no
// delivery. They must be safe for concurrent use and heed ctx.
type Telephony interface {
	// Call has the number called. The provider's events come to
	// Service.TelephonyEvent with the txid.
	Call(ctx context.Context, c Call) error
	// SMS sends text. id names the sending in the provider's events.
	SMS(ctx context.Context, m SMS) error
}

// Call is a call to be made.
type Call struct {
	TxID      string
	Number    string
	Extension string
	PreDelay  string // seconds before the extension is dialled; blank: the provider's own
	PostDelay string // seconds after it
	Username  string
	Message   string // what to say; empty: what the provider has for that
}

// SMS is a message to be sent.
type SMS struct {
	ID     string
	Number string
	Text   string
}

// What a key pressed in a call means. Which keys they are is the provider's to know.
const (
	KeyApprove = "approve"
	KeyFraud   = "fraud"
)

// Config is what a Service needs. All but Telephony, Endpoints, Notices, Notifier and After must be set.
type Config struct {
	Store     store.Store
	Keys      *seal.Keys
	Hub       push.Hub
	Telephony Telephony // nil: phone and SMS are off
	Endpoints Endpoints // nil: no device is known to be managed
	// Notices tells people what happens to their account; nil: nobody is told.
	Notices notice.Notices
	// Notifier reaches authenticators that are not connected; nil: they come by themselves.
	Notifier push.Notifier
	// Audience is scheme and authority of this verifier, as approvals name it.
	Audience string
	Now      func() time.Time
	After    func(time.Duration) <-chan time.Time // nil: time.After
	Random   io.Reader
	Log      *slog.Logger
}

// Client is an integration whose signature was verified.
type Client struct {
	Integration store.Integration
	Address     string // network address of the caller, for the log
}

// PreauthRequest asks what a user can do. Username or UserID is set.
type PreauthRequest struct {
	Username     string
	UserID       string
	IPAddr       string // of the person, as the client says
	Hostname     string
	VerifiedPush bool   // client_supports_verified_push: the client can show digits
	TextPrompt   bool   // text_prompt: the client wants the menu in the answer
	Passport     bool   // sallyport_passport: the client can have logins remembered
	DeviceID     string // of the device that the person logs in from; empty: not known
}

// AuthRequest is one authentication. Username or UserID is set.
type AuthRequest struct {
	Username        string
	UserID          string
	Factor          string
	Device          string // id, "auto", or a name such as phone1
	Passcode        string
	Prompt          string // factor prompt: a token of the menu, or what was typed
	TxID            string // of the verified push that preauth offered
	Async           bool
	IPAddr          string
	Hostname        string
	Type            string // kind of request shown to the person
	DisplayUsername string
	PushInfo        string // url-encoded pairs shown to the person
	Passport        bool   // sallyport_passport: the client wants the txid of a decision made at once
	DeviceID        string // of the device that the person logs in from; empty: not known
}

// PendingPush is a push that waits for an authenticator's answer.
type PendingPush struct {
	TxID     string
	Context  []byte // JSON; an approval signs the hash of exactly these bytes, so serve them as a string
	Verified bool   // digits must be typed
	Created  time.Time
	Expires  time.Time
}

// Answer is the outcome of an authenticator's answer.
type Answer struct {
	State     store.TxState // pending: wrong digits, more tries left
	TriesLeft int           // at the digits, while pending
}

// The decisions of an answer, as in agentapi.Answer.
const (
	Approve = agentapi.Approve
	Deny    = agentapi.Deny
	Fraud   = agentapi.Fraud
)

// TelephonyEvent is what a provider reports of a call or an SMS. The caller has
// checked the provider's signature.
type TelephonyEvent struct {
	ID    string // of the report: the same report twice has no second effect
	TxID  string
	Event string // answered, keypress, hangup, no_answer, failed, delivered
	Key   string // with keypress: KeyApprove, KeyFraud, or blank for a key without a meaning
}

// Events of TelephonyEvent.
const (
	CallAnswered = "answered"
	CallKeypress = "keypress"
	CallHangup   = "hangup"
	CallNoAnswer = "no_answer"
	CallFailed   = "failed"
	SMSDelivered = "delivered"
)

// API is the service as its callers see it. Errors for which the client is to
// blame are *duoapi.Error; all others are the verifier's own.
type API interface {
	// Preauth says what the user can do.
	Preauth(ctx context.Context, c Client, r PreauthRequest) (duoapi.Preauth, error)
	// Auth authenticates. Async gives only a TxID; else it waits for the end.
	Auth(ctx context.Context, c Client, r AuthRequest) (duoapi.Auth, error)
	// Status waits for the next change of a transaction, or about 25 s, and
	// says where it stands. The first call for a transaction answers at once.
	Status(ctx context.Context, integrationKey, txID string) (duoapi.Auth, error)
	// Cancel ends a transaction of this client that still waits. True: it ended here.
	Cancel(ctx context.Context, c Client, txID string) (bool, error)

	// Pending lists the pushes that wait for a phone; if there are none it waits
	// for one, at most wait.
	Pending(ctx context.Context, phoneID string, wait time.Duration) ([]PendingPush, error)
	// Answer takes the signed answer of a phone: a compact JWS over an
	// agentapi.Answer. A refusal is a *duoapi.Error with one of its CodeTx…,
	// CodeAnswer… or CodeVerification… codes, and is noted in the administrator log.
	Answer(ctx context.Context, phoneID, txID string, sent agentapi.SignedAnswer) (Answer, error)
	// Polled notes that a phone has asked for its pushes and will ask again: between
	// two polls it is not away.
	Polled(phoneID string)
	// Withdraw is for when a phone's key, the phone itself or its user is gone: it ends
	// the pushes to the phone that nobody can answer, so that who waits for them hears
	// of it, and has the phone's own connections looked at. Both would end by
	// themselves, so what fails is logged.
	Withdraw(ctx context.Context, phoneID string)
	// TelephonyEvent takes a provider's report. An unknown, ended or late
	// transaction is no error: the report has no effect.
	TelephonyEvent(ctx context.Context, e TelephonyEvent) error

	// Permitted says, inside an update, whether policy lets the person at the
	// application do without a factor what that factor of the log was given for before.
	Permitted(w store.Writer, i store.Integration, userID, factor string) (bool, error)
	// Explain says what policy comes to for a person at an application, by the code
	// that decides logins. It changes nothing and logs no event.
	Explain(ctx context.Context, q ExplainRequest) (Explanation, error)
	// SendText and SendPasscodes are directory.Texter.
	SendText(ctx context.Context, p store.Phone, text string, note func(store.Writer) error) error
	SendPasscodes(ctx context.Context, p store.Phone, users []store.User, note func(store.Writer) error) error
	// VerificationPush asks a person, by a push to one of their phones, to prove to
	// whoever is on the telephone with them who they are. They type the digits that
	// come back, which that one reads to them.
	VerificationPush(ctx context.Context, c Client, userID, phoneID string) (pushID, digits string, err error)
	// VerificationResult says what became of such a push of this client's.
	VerificationResult(ctx context.Context, c Client, userID, pushID string) (VerificationResult, error)

	// Run expires transactions that nobody waits for, and deletes what ended long
	// ago, until ctx ends.
	Run(ctx context.Context) error
}

var _ API = (*Service)(nil)
