// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"rsc.io/qr"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/version"
	"github.com/sallyport-mfa/sallyport/verifier/directory"
	"github.com/sallyport-mfa/sallyport/verifier/gate"
	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/verification"
)

const authenticatorPath = "/sallyport/v1/authenticator/"

func (a *API) registerAuthenticators(mux gate.Routes) {
	post := func(path string, h gate.Handler) {
		mux.Handle("POST "+authenticatorPath+path, a.Gate.Phone(false, a.paced(h)))
	}
	change := func(path string, h gate.Handler) { post(path, a.changing(h)) }
	mux.Handle("GET "+authenticatorPath+"self", a.Gate.Phone(false, a.authenticatorSelf))
	post("self", a.announce)
	mux.Handle("GET "+authenticatorPath+"devices", a.Gate.Phone(false, a.devices))
	change("devices/{id}", a.renameDevice)
	change("devices/{id}/remove", a.removeDevice)
	change("move", a.move)
	post("user_verification/begin", a.beginVerification)
	change("user_verification/finish", a.finishVerification)
	post("user_verification/challenge", a.verificationChallenge)
	change("user_verification/remove", a.removeVerification)
	mux.Handle("GET "+authenticatorPath+"stream", a.Gate.PhoneEvents(agentapi.StreamEvery, a.stream))
}

// An authenticator may ask for a change so often, on and on and at once; and make
// one so often that the administrator log keeps and people are told of.
const (
	requestEvery   = time.Second
	requestsAtOnce = 30
	changeEvery    = 2 * time.Minute
	changesAtOnce  = 30
)

func (a *API) hold(phoneID string) error {
	return within(a.requests.Take(phoneID, a.Now()), requestEvery)
}

func (a *API) holdChange(phoneID string) error {
	return within(a.changes.Take(phoneID, a.Now()), changeEvery)
}

func within(ok bool, every time.Duration) error {
	if ok {
		return nil
	}
	e := duoapi.NewError(duoapi.CodeTooManyRequests, "this authenticator")
	e.RetryAfter = int(every.Seconds())
	return e
}

// changing holds the authenticator of a request back that makes too many changes.
func (a *API) changing(h gate.Handler) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		if err := a.holdChange(r.Phone.ID); err != nil {
			return gate.Answer{}, err
		}
		return h(ctx, r)
	}
}

// paced holds the authenticator of a request back that asks too much.
func (a *API) paced(h gate.Handler) gate.Handler {
	return func(ctx context.Context, r *gate.Request) (gate.Answer, error) {
		if err := a.hold(r.Phone.ID); err != nil {
			return gate.Answer{}, err
		}
		return h(ctx, r)
	}
}

// caller is the authenticator of a request, with the assertion that came along.
func (a *API) caller(ctx context.Context, r *gate.Request, assertion json.RawMessage) (directory.Self, error) {
	premise, err := a.Verification.Operation(ctx, r.Phone, assertion)
	return directory.Self{Phone: r.Phone, Address: r.Addr.String(), Premise: premise}, err
}

// unverified is the authenticator of a request that needs no assertion.
func unverified(r *gate.Request) directory.Self {
	return directory.Self{Phone: r.Phone, Address: r.Addr.String(), Premise: verification.Unchanged(r.Phone)}
}

func (a *API) authenticatorSelf(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if err := a.touch(ctx, r.Phone); err != nil {
		return gate.Answer{}, err
	}
	return a.describe(ctx, r.Phone.ID)
}

// touch notes that an authenticator was heard of, now and then.
func (a *API) touch(ctx context.Context, p store.Phone) error {
	if a.Now().Sub(p.LastSeen) < touchEvery {
		return nil
	}
	if err := a.Directory.TouchPhone(ctx, p.ID); err != nil {
		return fmt.Errorf("note that an authenticator was seen: %w", err)
	}
	return nil
}

// describe tells an authenticator about itself.
func (a *API) describe(ctx context.Context, phoneID string) (gate.Answer, error) {
	var p store.Phone
	var settings store.Settings
	var user store.User
	err := a.Store.View(ctx, func(r store.Reader) (err error) {
		if p, err = r.Phone(phoneID); err != nil {
			return err
		}
		users, err := r.PhoneUsers(phoneID)
		if err != nil {
			return err
		}
		if len(users) > 0 {
			user = users[0]
		}
		settings, err = r.Settings()
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return gate.Answer{}, duoapi.NewError(duoapi.CodeDeviceUnknown, "")
	}
	if err != nil {
		return gate.Answer{}, fmt.Errorf("describe an authenticator: %w", err)
	}
	key := a.webPushKey(ctx)
	capabilities := []string{agentapi.CapabilityDigits, agentapi.CapabilityStream, agentapi.CapabilityDevices}
	if a.Verification.Party.Available() {
		capabilities = append(capabilities, agentapi.CapabilityUserVerification)
	}
	if key != "" {
		capabilities = append(capabilities, agentapi.CapabilityWebPush)
	}
	return gate.Answer{Response: agentapi.Authenticator{
		AuthenticatorID: p.ID, UserID: user.ID, Username: user.Username, Name: p.Name, Platform: p.Platform,
		Created: p.Created.Unix(), Activated: p.Activated.Unix(), URL: a.Base.String(), ServerVersion: version.String(),
		Capabilities: capabilities, WebPushKey: key, UserVerification: a.verificationState(p),
		PushSeconds: settings.PushTimeout, HelpdeskMessage: settings.HelpdeskMessage,
	}}, nil
}

func (a *API) verificationState(p store.Phone) agentapi.VerificationState {
	return agentapi.VerificationState{Registered: p.Verification != "", Available: a.Verification.Party.Available()}
}

func (a *API) announce(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.Announcement
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	if len(b.Capabilities) > agentapi.MaxCapabilities {
		return gate.Answer{}, gate.Invalid("capabilities", fmt.Sprintf("more than %d", agentapi.MaxCapabilities))
	}
	if b.Platform != "" && b.Platform != r.Phone.Platform { // else nothing changes that the log keeps
		if err := a.holdChange(r.Phone.ID); err != nil {
			return gate.Answer{}, err
		}
	}
	err := a.Directory.Announce(ctx, unverified(r), store.Announcement{Program: b.Program, Capabilities: b.Capabilities}, b.Platform)
	if err != nil {
		return gate.Answer{}, err
	}
	return a.describe(ctx, r.Phone.ID)
}

func (a *API) devices(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	list := []agentapi.Device{}
	err := a.Store.View(ctx, func(s store.Reader) error {
		phones, err := directory.Authenticators(s, r.Phone)
		if err != nil {
			return err
		}
		for _, p := range phones {
			d, err := device(s, p, r.Phone.ID)
			if err != nil {
				return err
			}
			list = append(list, d)
		}
		return nil
	})
	if err != nil {
		return gate.Answer{}, fmt.Errorf("list authenticators: %w", err)
	}
	return gate.Answer{Response: agentapi.Devices{Devices: list}}, nil
}

func device(r store.Reader, p store.Phone, self string) (agentapi.Device, error) {
	webPush, err := hasWebPush(r, p.ID)
	return agentapi.Device{
		AuthenticatorID: p.ID, Name: p.Name, Platform: p.Platform, Activated: p.Activated.Unix(), LastSeen: p.LastSeen.Unix(),
		This: p.ID == self, UserVerification: p.Verification != "", WebPush: webPush,
	}, err
}

func (a *API) renameDevice(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.Rename
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	p, err := a.Directory.RenameAuthenticator(ctx, unverified(r), r.Path("id"), b.Name)
	if err != nil {
		return gate.Answer{}, err
	}
	var out agentapi.Device
	err = a.Store.View(ctx, func(s store.Reader) (err error) {
		out, err = device(s, p, r.Phone.ID)
		return err
	})
	if err != nil {
		return gate.Answer{}, fmt.Errorf("read a renamed authenticator: %w", err)
	}
	return gate.Answer{Response: out}, nil
}

func (a *API) removeDevice(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.Verification
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	self, err := a.caller(ctx, r, b.Verification)
	if err != nil {
		return gate.Answer{}, err
	}
	p, err := a.Directory.RemoveAuthenticator(ctx, self, r.Path("id"))
	if err != nil {
		return gate.Answer{}, err
	}
	a.Log.Info("an authenticator was removed by its person", "phone", p.ID, "by", r.Phone.ID, "peer", r.Addr)
	return gate.Answer{Response: agentapi.Removed{AuthenticatorID: p.ID}}, nil
}

func (a *API) move(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.Verification
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	self, err := a.caller(ctx, r, b.Verification)
	if err != nil {
		return gate.Answer{}, err
	}
	made, err := a.Directory.MoveAuthenticator(ctx, self)
	if err != nil {
		return gate.Answer{}, err
	}
	rows, err := modules(made.Link)
	if err != nil {
		return gate.Answer{}, err
	}
	a.Log.Info("an authenticator begins to move", "phone", r.Phone.ID, "peer", r.Addr)
	return gate.Answer{Response: agentapi.Move{Link: made.Link, Code: made.Code, Expires: made.Expires.Unix(), QR: rows}}, nil
}

// modules are the rows of the QR code of text, 1 for a dark module.
func modules(text string) ([]string, error) {
	code, err := qr.Encode(text, qr.M)
	if err != nil {
		return nil, fmt.Errorf("draw activation link: %w", err)
	}
	rows := make([]string, code.Size)
	for y := range rows {
		var row strings.Builder
		for x := range code.Size {
			if code.Black(x, y) {
				row.WriteByte('1')
			} else {
				row.WriteByte('0')
			}
		}
		rows[y] = row.String()
	}
	return rows, nil
}

// empty reads the body of a call that says nothing.
func empty(r *gate.Request) error { return decode(r.Body, &struct{}{}) }

func (a *API) beginVerification(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if err := empty(r); err != nil {
		return gate.Answer{}, err
	}
	options, err := a.Verification.Begin(ctx, r.Phone)
	return gate.Answer{Response: agentapi.VerificationOptions{Options: options}}, err
}

func (a *API) finishVerification(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.VerificationCredential
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	if verification.Missing(b.Credential) {
		return gate.Answer{}, gate.Missing("credential")
	}
	if err := a.Verification.Finish(ctx, r.Phone, b.Credential, r.Addr.String()); err != nil {
		return gate.Answer{}, err
	}
	a.Log.Info("an authenticator has registered user verification", "phone", r.Phone.ID, "peer", r.Addr)
	return gate.Answer{Response: agentapi.VerificationState{Registered: true, Available: true}}, nil
}

func (a *API) verificationChallenge(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	if err := empty(r); err != nil {
		return gate.Answer{}, err
	}
	options, err := a.Verification.Challenge(ctx, r.Phone)
	return gate.Answer{Response: agentapi.VerificationOptions{Options: options}}, err
}

func (a *API) removeVerification(ctx context.Context, r *gate.Request) (gate.Answer, error) {
	var b agentapi.Verification
	if err := decode(r.Body, &b); err != nil {
		return gate.Answer{}, err
	}
	if err := a.Verification.Remove(ctx, r.Phone, b.Verification, r.Addr.String()); err != nil {
		return gate.Answer{}, err
	}
	a.Log.Info("an authenticator has removed user verification", "phone", r.Phone.ID, "peer", r.Addr)
	return gate.Answer{Response: agentapi.VerificationState{Available: a.Verification.Party.Available()}}, nil
}
