// SPDX-License-Identifier: Apache-2.0

package directory

import (
	"context"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/verifier/factor"
	"github.com/sallyport-mfa/sallyport/verifier/notice"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Limits of a token's secret, in bytes. RFC 4226 (R6) demands 128 bits.
const (
	minSecret     = 16
	defaultSecret = 20
	maxSecret     = 64
)

// NewToken describes a token to make.
type NewToken struct {
	Type    store.TokenType
	Serial  string // blank: a random one
	Secret  []byte // empty: a random one
	Counter int64  // HOTP: the next counter
	Step    int    // TOTP: seconds per step; 0: 30
	UserID  string // who gets it; blank: nobody yet
	// Yubi is what a YubiKey is programmed with; no other type has it.
	Yubi *factor.YubiSecret
}

// MadeToken is a token with its secret, which is shown this once.
type MadeToken struct {
	store.Token
	Secret string // base32; blank for a YubiKey, whose secret came from the caller
	URI    string // otpauth; blank for a YubiKey
	User   *store.User
}

// DecodeSecret reads a token's secret: hex as the Admin API has it, or base32 as
// authenticator programs show it.
func DecodeSecret(hexText, base32Text string) ([]byte, error) {
	switch {
	case hexText != "" && base32Text != "":
		return nil, invalid("secret_base32", "secret is given as well")
	case hexText != "":
		b, err := hex.DecodeString(hexText)
		if err != nil {
			return nil, invalid("secret", "not hexadecimal; a base32 secret goes into secret_base32")
		}
		return b, checkSecret("secret", b)
	case base32Text != "":
		clean := strings.ToUpper(strings.TrimRight(strings.NewReplacer(" ", "", "-", "").Replace(base32Text), "="))
		b, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(clean)
		if err != nil || strings.ContainsAny(clean, "\r\n") {
			return nil, invalid("secret_base32", "not base32")
		}
		return b, checkSecret("secret_base32", b)
	}
	return nil, nil
}

func checkSecret(param string, b []byte) error {
	if len(b) < minSecret || len(b) > maxSecret {
		return invalid(param, fmt.Sprintf("%d bytes; from %d to %d are good", len(b), minSecret, maxSecret))
	}
	return nil
}

func isTOTP(t store.TokenType) bool { return t == store.TOTP6 || t == store.TOTP8 }

// CreateToken makes a token.
func (d *Directory) CreateToken(ctx context.Context, a Actor, n NewToken) (m MadeToken, err error) {
	if err := d.completeToken(&n); err != nil {
		return m, err
	}
	id, err := d.newID(tokenPrefix)
	if err != nil {
		return m, err
	}
	m.Token = store.Token{
		ID: id, Type: n.Type, Serial: n.Serial, SecretSealed: d.sealSecret(id, n),
		Counter: n.Counter, LastStep: -1, Step: n.Step, Created: d.Now(),
	}
	err = d.update(ctx, "serial: another token of that type has that serial", func(w store.Writer) error {
		if err := w.AddToken(m.Token); err != nil {
			return fmt.Errorf("add token: %w", err)
		}
		if err := d.audit(w, a, "hardtoken_create", m.Serial, whole("token_id", id, tokenFields(m.Token))); err != nil {
			return err
		}
		if n.UserID == "" {
			return nil
		}
		u, err := w.User(n.UserID)
		if err != nil {
			return err
		}
		m.User = &u
		return d.attachToken(w, a, u, m.Token)
	})
	if n.Type != store.YubiKey {
		m.Secret = base32Secret(n.Secret)
		m.URI = d.tokenURI(m)
	}
	return m, err
}

func (d *Directory) sealSecret(id string, n NewToken) []byte {
	if n.Yubi != nil {
		return factor.SealYubiKey(d.Keys, id, *n.Yubi)
	}
	return factor.SealToken(d.Keys, id, n.Secret)
}

// duoToken is the type of the display tokens that Duo sells. Their seeds never
// leave Duo's own service.
const duoToken = "d1"

// completeToken checks what was given and makes up what was not.
func (d *Directory) completeToken(n *NewToken) error {
	switch {
	case n.Type == store.YubiKey:
		return completeYubiKey(n)
	case n.Type == duoToken:
		return invalid("type", "d1: the seeds of Duo's own tokens are known to Duo's service alone")
	case !slices.Contains([]store.TokenType{store.TOTP6, store.TOTP8, store.HOTP6, store.HOTP8}, n.Type):
		return invalid("type", "not one of t6, t8, h6, h8, yk")
	case n.Yubi != nil:
		return invalid("private_id", "only for tokens of type yk")
	}
	if isTOTP(n.Type) {
		if n.Step == 0 {
			n.Step = 30
		}
		if n.Step != 30 && n.Step != 60 {
			return invalid("totp_step", "not 30 or 60")
		}
		n.Counter = 0
	} else if n.Step != 0 {
		return invalid("totp_step", "only for TOTP tokens")
	}
	if n.Serial == "" {
		serial, err := d.random(10, digits)
		if err != nil {
			return err
		}
		n.Serial = serial
	}
	if err := text("serial", n.Serial, 128, false); err != nil {
		return err
	}
	if len(n.Secret) == 0 {
		n.Secret = make([]byte, defaultSecret)
		if _, err := io.ReadFull(d.Random, n.Secret); err != nil {
			return fmt.Errorf("make token secret: %w", err)
		}
	}
	return checkSecret("secret", n.Secret)
}

// completeYubiKey checks a YubiKey. All of it is given: the key holds the same.
func completeYubiKey(n *NewToken) error {
	switch {
	case n.Serial == "":
		return duoapi.NewError(duoapi.CodeMissingParameter, "serial")
	case n.Yubi == nil:
		return duoapi.NewError(duoapi.CodeMissingParameter, "private_id")
	case len(n.Secret) > 0:
		return invalid("secret", "a YubiKey has private_id and aes_key")
	case n.Counter != 0:
		return invalid("counter", "a YubiKey brings its own")
	case n.Step != 0:
		return invalid("totp_step", "only for TOTP tokens")
	}
	return text("serial", n.Serial, 128, false)
}

// DecodeYubiKey reads what a YubiKey is programmed with, both in hexadecimal;
// nil if neither is given.
func DecodeYubiKey(privateID, aesKey string) (*factor.YubiSecret, error) {
	if privateID == "" && aesKey == "" {
		return nil, nil
	}
	var s factor.YubiSecret
	for _, f := range []struct {
		param, value string
		into         []byte
	}{{"private_id", privateID, s.PrivateID[:]}, {"aes_key", aesKey, s.AESKey[:]}} {
		if f.value == "" {
			return nil, duoapi.NewError(duoapi.CodeMissingParameter, f.param)
		}
		b, err := hex.DecodeString(f.value)
		if err != nil || len(b) != len(f.into) {
			return nil, invalid(f.param, fmt.Sprintf("not %d hexadecimal digits", 2*len(f.into)))
		}
		copy(f.into, b)
	}
	return &s, nil
}

// tokenURI is the otpauth URI that authenticator programs read.
func (d *Directory) tokenURI(m MadeToken) string {
	const issuer = "Sallyport"
	label := m.Serial
	if m.User != nil {
		label = m.User.Username
	}
	q := url.Values{
		"secret": {m.Secret}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {strconv.Itoa(factor.TokenDigits(m.Type))},
	}
	kind := "hotp"
	if isTOTP(m.Type) {
		kind = "totp"
		q.Set("period", strconv.Itoa(m.Step))
	} else {
		q.Set("counter", strconv.FormatInt(m.Counter, 10))
	}
	u := url.URL{Scheme: "otpauth", Host: kind, Path: "/" + issuer + ":" + label, RawQuery: q.Encode()}
	return u.String()
}

// attachToken gives a token to a user, and tells the person.
func (d *Directory) attachToken(w store.Writer, a Actor, u store.User, t store.Token) error {
	if err := w.AttachToken(u.ID, t.ID); err != nil {
		return fmt.Errorf("attach token: %w", err)
	}
	err := notice.Tell(d.Notices, w, u.ID, notice.TokenAdded, map[string]string{notice.Address: a.Address})
	if err != nil {
		return err
	}
	return d.audit(w, a, "hardtoken_associate", u.Username, map[string]any{"user_id": u.ID, "token_id": t.ID, "serial": t.Serial})
}

// AttachToken gives a token to a user.
func (d *Directory) AttachToken(ctx context.Context, a Actor, userID, tokenID string) error {
	return d.update(ctx, "token_id: the user has that token", func(w store.Writer) error {
		t, err := w.Token(tokenID)
		if err != nil {
			return err
		}
		u, err := w.User(userID)
		if err != nil {
			return err
		}
		return d.attachToken(w, a, u, t)
	})
}

// DetachToken takes a token from a user.
func (d *Directory) DetachToken(ctx context.Context, a Actor, userID, tokenID string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		u, err := w.User(userID)
		if err != nil {
			return err
		}
		if err := w.DetachToken(userID, tokenID); err != nil {
			return fmt.Errorf("detach token: %w", err)
		}
		return d.audit(w, a, "hardtoken_disassociate", u.Username, map[string]any{"user_id": userID, "token_id": tokenID})
	})
}

// SetTokenStep changes the step of a TOTP token.
func (d *Directory) SetTokenStep(ctx context.Context, a Actor, id string, step int) (t store.Token, err error) {
	if step != 30 && step != 60 {
		return t, invalid("totp_step", "not 30 or 60")
	}
	err = d.update(ctx, "", func(w store.Writer) error {
		if t, err = w.Token(id); err != nil {
			return err
		}
		if !isTOTP(t.Type) {
			return invalid("totp_step", "only for TOTP tokens")
		}
		before := t
		t.Step = step
		if err := w.SetToken(t); err != nil {
			return fmt.Errorf("set token: %w", err)
		}
		return d.audit(w, a, "hardtoken_update", t.Serial, difference("token_id", id, tokenFields(before), tokenFields(t)))
	})
	return t, err
}

func tokenFields(t store.Token) fields {
	return fields{"type": t.Type, "serial": t.Serial, "totp_step": t.Step}
}

// DeleteToken removes a token.
func (d *Directory) DeleteToken(ctx context.Context, a Actor, id string) error {
	return d.update(ctx, "", func(w store.Writer) error {
		t, err := w.Token(id)
		if err != nil {
			return err
		}
		if err := w.DeleteToken(id); err != nil {
			return fmt.Errorf("delete token: %w", err)
		}
		return d.audit(w, a, "hardtoken_delete", t.Serial, whole("token_id", id, tokenFields(t)))
	})
}

// ResyncToken finds a HOTP token's counter by three codes that it showed one
// after another, and moves the counter behind them.
func (d *Directory) ResyncToken(ctx context.Context, a Actor, id string, codes [3]string) error {
	var t store.Token
	if err := d.view(ctx, func(r store.Reader) (err error) {
		t, err = r.Token(id)
		return err
	}); err != nil {
		return err
	}
	if isTOTP(t.Type) {
		return invalid("token_id", "a TOTP token goes by the clock and has no counter")
	}
	if t.Type == store.YubiKey {
		return invalid("token_id", "a YubiKey sends its counter with each code and cannot lose step")
	}
	next, ok, err := factor.Resync(d.Keys, t, codes[:])
	if err != nil {
		return err
	}
	if !ok {
		return duoapi.NewError(duoapi.CodeInvalidParameter, fmt.Sprintf(
			"code1, code2, code3: not three codes in a row of this token within %d of its counter", factor.ResyncWindow))
	}
	return d.update(ctx, "", func(w store.Writer) error {
		won, err := w.ResyncHOTP(id, next)
		if err != nil {
			return fmt.Errorf("resync token: %w", err)
		}
		if !won {
			return invalid("code1", "the token has been used with later codes meanwhile")
		}
		return d.audit(w, a, "hardtoken_resync", t.Serial, map[string]any{"token_id": id})
	})
}
