// SPDX-License-Identifier: Apache-2.0

package authenticator

import (
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"

	"github.com/sallyport-mfa/sallyport/internal/durable"
)

// Token is a TOTP generator (RFC 6238). Its JSON form is the file format.
type Token struct {
	Name      string `json:"name"` // unique in its store, without regard to case
	Issuer    string `json:"issuer,omitempty"`
	Account   string `json:"account,omitempty"`
	Algorithm string `json:"algorithm"` // SHA1, SHA256 or SHA512
	Digits    int    `json:"digits"`
	Period    int    `json:"period"`        // seconds
	Created   int64  `json:"created"`       // Unix seconds
	Sealed    string `json:"sealed_secret"` // by the store's Vault
}

// Limits of a token. RFC 4226 asks for at least 16 bytes of secret; services in
// use give as few as 10, which is theirs to answer for.
const (
	maxTokenName   = 128 // characters
	maxTokenSecret = 128 // bytes
	minDigits      = 6
	maxDigits      = 8
	minPeriod      = 5 // seconds
	maxPeriod      = 300
)

// Errors of tokens.
var (
	ErrNoToken     = errors.New("there is no TOTP token of that name")
	ErrTokenExists = errors.New("a TOTP token of that name exists")
)

var algorithms = map[string]otp.Algorithm{
	"SHA1": otp.AlgorithmSHA1, "SHA256": otp.AlgorithmSHA256, "SHA512": otp.AlgorithmSHA512,
}

// ParseToken reads an otpauth URI or a bare secret in base32. The URI's form is that
// of https://github.com/google/google-authenticator/wiki/Key-Uri-Format; what it says
// and this package cannot do is an error. The secret that it returns is in base32. No
// error holds a part of the secret.
func ParseToken(text string) (t Token, secret string, err error) {
	t = Token{Algorithm: "SHA1", Digits: 6, Period: 30}
	text = strings.TrimSpace(text)
	if !strings.HasPrefix(strings.ToLower(text), "otpauth:") {
		secret, err = cleanSecret(text)
		return t, secret, err
	}
	key, err := otp.NewKeyFromURL(text)
	if err != nil {
		return t, "", errors.New("the otpauth URI cannot be read") // err would hold all of it
	}
	u, err := url.Parse(text)
	if err != nil {
		return t, "", errors.New("the otpauth URI cannot be read")
	}
	if kind := strings.ToLower(key.Type()); kind != "totp" {
		return t, "", fmt.Errorf("the otpauth URI is of type %q: only totp is done here", kind)
	}
	if key.Encoder() != otp.EncoderDefault {
		return t, "", fmt.Errorf("the otpauth URI wants the encoder %q: only digits are done here", string(key.Encoder()))
	}
	t.Issuer, t.Account = strings.TrimSpace(key.Issuer()), strings.TrimSpace(key.AccountName())
	query := u.Query()
	// The library reads what it does not know as the default; codes would be wrong.
	if a := query.Get("algorithm"); a != "" {
		t.Algorithm = strings.ToUpper(strings.ReplaceAll(a, "-", ""))
	}
	for name, at := range map[string]*int{"digits": &t.Digits, "period": &t.Period} {
		if text := query.Get(name); text != "" {
			if *at, err = strconv.Atoi(text); err != nil {
				return t, "", fmt.Errorf("the otpauth URI has %s=%q, which is no number", name, text)
			}
		}
	}
	t.Name = t.Account
	if t.Issuer != "" {
		t.Name = strings.TrimSuffix(t.Issuer+":"+t.Account, ":")
	}
	if err := t.check(); err != nil {
		return t, "", err
	}
	secret, err = cleanSecret(key.Secret())
	return t, secret, err
}

// check says what of a token cannot be.
func (t *Token) check() error {
	switch {
	case algorithms[t.Algorithm] == 0 && t.Algorithm != "SHA1":
		return fmt.Errorf("algorithm %q is none of SHA1, SHA256, SHA512", t.Algorithm)
	case t.Digits < minDigits || t.Digits > maxDigits:
		return fmt.Errorf("codes of %d digits: there can be %d to %d", t.Digits, minDigits, maxDigits)
	case t.Period < minPeriod || t.Period > maxPeriod:
		return fmt.Errorf("a period of %d s: it can be %d to %d s", t.Period, minPeriod, maxPeriod)
	}
	return nil
}

// cleanSecret is a secret as people and services write it, in base32 without padding.
func cleanSecret(text string) (string, error) {
	text = strings.ToUpper(strings.NewReplacer(" ", "", "-", "", "=", "").Replace(text))
	raw, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(text)
	switch {
	case text == "":
		return "", errors.New("the secret is missing")
	case err != nil:
		return "", errors.New("the secret is not base32 (letters and the digits 2 to 7)")
	case len(raw) == 0 || len(raw) > maxTokenSecret:
		return "", fmt.Errorf("the secret has %d bytes: there can be 1 to %d", len(raw), maxTokenSecret)
	}
	return text, nil
}

func (s Store) tokensPath() string { return filepath.Join(s.Dir, "totp") }

// tokenFile is the file of all tokens.
type tokenFile struct {
	Version int     `json:"v"` // 1
	Tokens  []Token `json:"tokens"`
}

// Tokens are the tokens in the order in which they were added.
func (s Store) Tokens() ([]Token, error) {
	text, err := os.ReadFile(s.tokensPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		err = private(s.tokensPath())
	}
	var f tokenFile
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err == nil && f.Version != 1 {
		err = errors.New("not of this version")
	}
	if err != nil {
		return nil, fmt.Errorf("read TOTP tokens: %w", err)
	}
	return f.Tokens, nil
}

func (s Store) writeTokens(tokens []Token) error {
	text, err := json.MarshalIndent(tokenFile{1, tokens}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode TOTP tokens: %w", err)
	}
	return durable.Replace(s.tokensPath(), append(text, '\n'), 0o600)
}

// AddToken seals the secret of a token and keeps both.
func (s Store) AddToken(v *Vault, t Token, secret string) (Token, error) {
	if err := t.check(); err != nil {
		return t, err
	}
	if n := utf8.RuneCountInString(t.Name); n == 0 || n > maxTokenName || !utf8.ValidString(t.Name) {
		return t, fmt.Errorf("a name has 1 to %d characters, this one %d", maxTokenName, n)
	}
	secret, err := cleanSecret(secret)
	if err != nil {
		return t, err
	}
	t.Sealed = v.seal(sealTOTP, t.Name, []byte(secret))
	err = s.locked(func() error {
		if err := s.current(v); err != nil {
			return err
		}
		tokens, err := s.Tokens()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(tokens, func(o Token) bool { return strings.EqualFold(o.Name, t.Name) }) {
			return fmt.Errorf("%w: %q", ErrTokenExists, t.Name)
		}
		return s.writeTokens(append(tokens, t))
	})
	return t, err
}

// RemoveToken forgets a token and its secret.
func (s Store) RemoveToken(name string) error {
	if _, err := os.Stat(s.tokensPath()); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %q", ErrNoToken, name)
	}
	return s.locked(func() error {
		tokens, err := s.Tokens()
		if err != nil {
			return err
		}
		left := slices.DeleteFunc(slices.Clone(tokens), func(t Token) bool { return strings.EqualFold(t.Name, name) })
		if len(left) == len(tokens) {
			return fmt.Errorf("%w: %q", ErrNoToken, name)
		}
		return s.writeTokens(left)
	})
}

// Code is the code of a token at a time, and how long it is shown still.
func (t *Token) Code(v *Vault, at time.Time) (code string, left time.Duration, err error) {
	secret, err := v.open(sealTOTP, t.Name, t.Sealed)
	if err != nil {
		return "", 0, err
	}
	code, err = totp.GenerateCodeCustom(string(secret), at, totp.ValidateOpts{
		Period: uint(t.Period), Digits: otp.Digits(t.Digits), Algorithm: algorithms[t.Algorithm],
	})
	if err != nil {
		return "", 0, fmt.Errorf("make the code of %q: %w", t.Name, err)
	}
	period := int64(t.Period)
	return code, time.Duration(period-at.Unix()%period) * time.Second, nil
}

// URI is the otpauth URI of a token, with its secret.
func (t *Token) URI(v *Vault) (string, error) {
	secret, err := v.open(sealTOTP, t.Name, t.Sealed)
	if err != nil {
		return "", err
	}
	label := t.Account
	if label == "" {
		label = t.Name
	}
	query := url.Values{
		"secret": {string(secret)}, "algorithm": {t.Algorithm},
		"digits": {strconv.Itoa(t.Digits)}, "period": {strconv.Itoa(t.Period)},
	}
	if t.Issuer != "" {
		label = t.Issuer + ":" + label
		query.Set("issuer", t.Issuer)
	}
	// Readers of this form take + for a plus sign, so a space is %20.
	return "otpauth://totp/" + url.PathEscape(label) + "?" + strings.ReplaceAll(query.Encode(), "+", "%20"), nil
}
