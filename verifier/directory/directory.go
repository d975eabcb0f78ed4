// SPDX-License-Identifier: Apache-2.0

// Package directory owns the objects that administrators manage: users, phones,
// tokens, bypass codes, integrations, hosts and settings. It makes their ids and
// secrets, seals and hashes what must be secret, and writes each change together
// with its entry in the administrator log. It never decides about a login.
package directory

import (
	"context"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/seal"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Directory manages objects. All fields but Pin, Texts, Notices and Pushes must be set; it is safe for
// concurrent use. Errors for which the caller is to blame are *duoapi.Error.
type Directory struct {
	Store  store.Store
	Keys   *seal.Keys
	Base   *url.URL // of this verifier, for links
	Pin    []byte   // of the private CA, for tokens and links; empty: public certificate
	CAPEM  string   // of the private CA; empty: public certificate
	Now    func() time.Time
	Random io.Reader
	Texts  Texter // nil: telephony is off
	// Notices tells people what happens to their authenticators; nil: nobody is told.
	Notices notice.Notices
	// Pushes ends what hangs on an authenticator that was taken away; nil: that ends by itself.
	Pushes Withdrawer
}

// Withdrawer is the part of login.API that a Directory tells of authenticators that
// were taken away.
type Withdrawer interface {
	// Withdraw ends the phone's pushes that nobody can answer, and its connections.
	Withdraw(ctx context.Context, phoneID string)
}

// withdraw tells of phones that were taken away, or whose user was; after the update.
func (d *Directory) withdraw(ctx context.Context, phones ...store.Phone) {
	if d.Pushes == nil {
		return
	}
	for _, p := range phones {
		d.Pushes.Withdraw(ctx, p.ID)
	}
}

// Actor is who makes a change, for the administrator log.
type Actor struct {
	Name        string
	Integration string // key; empty for changes made on the verifier's own machine
	Address     string
	// Grants of the integration; nil on the verifier's own machine, where nothing limits.
	Grants []string
}

// Prefixes of ids.
const (
	userPrefix        = "DU"
	phonePrefix       = "DP"
	tokenPrefix       = "DH"
	bypassPrefix      = "DB"
	integrationPrefix = "DI"
	joinPrefix        = "DJ"
)

// Lengths in bytes.
const (
	maxName = 256
	maxText = 1024
)

// random gives n characters of alphabet, all equally likely.
func (d *Directory) random(n int, alphabet string) (string, error) {
	limit := 256 - 256%len(alphabet)
	out := make([]byte, 0, n)
	buf := make([]byte, 2*n)
	for len(out) < n {
		if _, err := io.ReadFull(d.Random, buf); err != nil {
			return "", fmt.Errorf("read randomness: %w", err)
		}
		for _, b := range buf {
			if int(b) < limit && len(out) < n {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
		}
	}
	return string(out), nil
}

const (
	digits       = "0123456789"
	base32Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
)

// idLen is the length of an id without its prefix (90 bits).
const idLen = 18

// newID makes an id: a prefix and random characters.
func (d *Directory) newID(prefix string) (string, error) {
	s, err := d.random(idLen, base32Digits)
	return prefix + s, err
}

// update runs f and turns the store's errors into the client's where they are: a
// missing object, and a conflict, which conflict explains.
func (d *Directory) update(ctx context.Context, conflict string, f func(store.Writer) error) error {
	return clientError(d.Store.Update(ctx, f), conflict)
}

func (d *Directory) view(ctx context.Context, f func(store.Reader) error) error {
	return clientError(d.Store.View(ctx, f), "")
}

func clientError(err error, conflict string) error {
	var e *duoapi.Error
	switch {
	case err == nil || errors.As(err, &e):
		return err
	case errors.Is(err, store.ErrNotFound):
		return duoapi.NewError(duoapi.CodeNotFound, "")
	case errors.Is(err, store.ErrConflict):
		return duoapi.NewError(duoapi.CodeConflict, conflict)
	}
	return err
}

func invalid(param, why string) *duoapi.Error {
	return duoapi.NewError(duoapi.CodeInvalidParameter, param+": "+why)
}

// audit writes an entry of the administrator log. The description must hold no secret.
func (d *Directory) audit(w store.Writer, a Actor, action, object string, description map[string]any) error {
	if description == nil {
		description = map[string]any{}
	}
	if a.Integration != "" {
		description["integration_key"] = a.Integration
	}
	if a.Address != "" {
		description["ip_address"] = a.Address
	}
	text, err := json.Marshal(description)
	if err != nil {
		return fmt.Errorf("encode administrator log entry: %w", err)
	}
	return w.AddAdminEvent(store.AdminEvent{Time: d.Now(), Username: a.Name, Action: action, Object: object, Description: text})
}

// text checks a free text: UTF-8, at most limit bytes, no control characters but
// line breaks and tabs where multiline.
func text(param, value string, limit int, multiline bool) error {
	if len(value) > limit {
		return invalid(param, fmt.Sprintf("longer than %d bytes", limit))
	}
	if !utf8.ValidString(value) {
		return invalid(param, "not UTF-8 text")
	}
	for _, c := range value {
		if multiline && (c == '\n' || c == '\t') {
			continue
		}
		if unicode.IsControl(c) || unicode.In(c, unicode.Cf, unicode.Zl, unicode.Zp) {
			return invalid(param, "holds control characters")
		}
	}
	return nil
}

// name checks a text that must not be blank.
func name(param, value string) (string, error) {
	value = strings.TrimSpace(value)
	if value == "" {
		return "", invalid(param, "is blank")
	}
	return value, text(param, value, maxName, false)
}

// Username checks and normalises the name of a user or an alias: lower case, no
// space around it, no control characters.
func Username(param, value string) (string, error) {
	value, err := name(param, value)
	if err != nil {
		return "", err
	}
	return strings.ToLower(value), nil
}

func base32Secret(secret []byte) string {
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
}

// Settings of the verifier.
func (d *Directory) Settings(ctx context.Context) (s store.Settings, err error) {
	err = d.view(ctx, func(r store.Reader) (err error) {
		s, err = r.Settings()
		return err
	})
	return s, err
}

// SetSettings changes settings: change gets those that hold and returns an error
// to leave them.
func (d *Directory) SetSettings(ctx context.Context, a Actor, change func(*store.Settings) error) (s store.Settings, err error) {
	err = d.update(ctx, "", func(w store.Writer) error {
		if s, err = w.Settings(); err != nil {
			return err
		}
		before := s
		if err := change(&s); err != nil {
			return err
		}
		if err := checkSettings(s); err != nil {
			return err
		}
		if err := w.SetSettings(s); err != nil {
			return err
		}
		return d.audit(w, a, "settings_update", "", map[string]any{"before": before, "after": s})
	})
	return s, err
}

// checkSettings checks the texts, which reach terminals, phones and logs.
func checkSettings(s store.Settings) error {
	for _, f := range []struct {
		param, value string
		lines        bool
	}{
		{"name", s.Name, false}, {"fraud_email", s.FraudEmail, false}, {"caller_id", s.CallerID, false},
		{"helpdesk_message", s.HelpdeskMessage, true}, {"sms_message", s.SMSMessage, true}, {"call_message", s.CallMessage, true},
	} {
		if err := text(f.param, f.value, maxText, f.lines); err != nil {
			return err
		}
	}
	if s.FraudEmail != "" {
		if _, err := address("fraud_email", s.FraudEmail); err != nil {
			return err
		}
	}
	return nil
}
