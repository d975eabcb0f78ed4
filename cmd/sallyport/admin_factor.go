// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mdp/qrterminal/v3"
	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const (
	phonesPath      = "/admin/v1/phones"
	tokensPath      = "/admin/v1/tokens"
	bypassCodesPath = "/admin/v1/bypass_codes"
)

// owner is the user of a phone or token.
type owner struct {
	Username string `json:"username"`
}

func owners(users []owner) string {
	names := make([]string, 0, len(users))
	for _, u := range users {
		names = append(names, u.Username)
	}
	return strings.Join(names, ",")
}

// qr draws text on a terminal; elsewhere it draws nothing.
func (a *app) qr(text string) {
	if a.Rich && !a.json {
		qrterminal.GenerateHalfBlock(text, qrterminal.L, a.Out)
	}
}

// token is what the commands read of a token of the Admin API.
type token struct {
	TokenID  string  `json:"token_id"`
	Type     string  `json:"type"`
	Serial   string  `json:"serial"`
	TOTPStep *int    `json:"totp_step"`
	Users    []owner `json:"users"`
}

func (t token) kind() string {
	kinds := map[string]string{"t6": "totp, 6 digits", "t8": "totp, 8 digits", "h6": "hotp, 6 digits", "h8": "hotp, 8 digits", "yk": "YubiKey"}
	if kind, ok := kinds[t.Type]; ok {
		return kind
	}
	return t.Type
}

func (s *admin) tokenCommand() *cobra.Command {
	c := &cobra.Command{Use: "token", Short: "Passcode generators (TOTP, HOTP)"}
	c.AddCommand(s.tokenAdd(), s.tokenList(), s.tokenRemove(), s.tokenResync())
	return c
}

// newToken is what a token is when it is made: the only time that the secret is shown.
type newToken struct {
	token
	Secret string `json:"secret"` // base32
	URI    string `json:"uri"`    // otpauth
}

func (s *admin) tokenAdd() *cobra.Command {
	var owner, kind, secret, serial, privateID, aesKey string
	var digits int
	c := &cobra.Command{
		Use: "add --user NAME --type totp|hotp", Short: "Make a token for a user and show its secret, once", Args: args(),
		Long: `Make a token for a user and show its secret, once.

On a terminal the otpauth URI is also shown as a QR code, for any authenticator app.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if !slices.Contains([]string{"totp", "hotp", "yk"}, kind) {
				return cli.Usagef("--type %q is none of totp, hotp, yk", kind)
			}
			if digits != 6 && digits != 8 {
				return cli.Usagef("--digits %d is none of 6, 8", digits)
			}
			if secret == "-" {
				line, err := readLine(s.In)
				if err != nil {
					return fmt.Errorf("read the secret from standard input: %w", err)
				}
				secret = strings.TrimSpace(line)
				if secret == "" {
					return cli.Usagef("--secret -: the line on standard input is empty")
				}
			}
			_, u, err := s.findUser(c.Context(), owner)
			if err != nil {
				return err
			}
			params := url.Values{"type": {kind[:1] + strconv.Itoa(digits)}, "user_id": {u.UserID}}
			set(params, map[string]string{"secret_base32": secret, "serial": serial, "private_id": privateID, "aes_key": aesKey})
			if kind == "yk" {
				params.Set("type", kind)
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("make a token for %q", owner), http.MethodPost, tokensPath, params, &raw); err != nil {
				return err
			}
			return s.showNewToken(raw)
		},
	}
	c.Flags().StringVar(&owner, "user", "", "user who gets it (required)")
	c.Flags().StringVar(&kind, "type", "totp", "totp, hotp or yk (a YubiKey)")
	c.Flags().StringVar(&privateID, "private-id", "", "private id of a YubiKey's slot, 12 hexadecimal digits")
	c.Flags().StringVar(&aesKey, "aes-key", "", "AES key of a YubiKey's slot, 32 hexadecimal digits")
	c.Flags().IntVar(&digits, "digits", 6, "length of a passcode: 6 or 8")
	c.Flags().StringVar(&secret, "secret", "", "secret in base32, of a token that exists; - reads it from standard input, where no process list shows it (default: a new one)")
	c.Flags().StringVar(&serial, "serial", "", "serial number (default: a new one)")
	complete(c, "type", "totp", "hotp", "yk")
	complete(c, "digits", "6", "8")
	required(c, "user")
	return c
}

func (s *admin) showNewToken(raw json.RawMessage) error {
	if s.json {
		return s.JSON(raw)
	}
	var t newToken
	if err := json.Unmarshal(raw, &t); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	if t.Secret == "" {
		return s.fields("TOKEN", t.TokenID, "Type", t.kind(), "Serial", t.Serial)
	}
	s.qr(t.URI)
	return s.fields("TOKEN", t.TokenID, "Type", t.kind(), "Serial", t.Serial, "Secret", t.Secret, "URI", t.URI)
}

// set puts what is not blank into params.
func set(params url.Values, values map[string]string) {
	for k, v := range values {
		if v != "" {
			params.Set(k, v)
		}
	}
}

func required(c *cobra.Command, flags ...string) {
	for _, f := range flags {
		if err := c.MarkFlagRequired(f); err != nil {
			panic(err) // the flag is defined by the caller
		}
	}
}

func (s *admin) tokenList() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "list", Short: "List tokens", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := s.pathFor(c.Context(), name, tokensPath, "tokens")
			if err != nil {
				return err
			}
			tokens, err := s.list(c.Context(), "list tokens", path, nil)
			if err != nil {
				return err
			}
			return present(s.app, tokens, []string{"TOKEN", "TYPE", "SERIAL", "USERS"}, func(t token) []string {
				return []string{t.TokenID, t.kind(), t.Serial, owners(t.Users)}
			})
		},
	}
	c.Flags().StringVar(&name, "user", "", "only those of that user")
	return c
}

// pathFor is the list of all objects, or that of one user.
func (s *admin) pathFor(ctx context.Context, name, all, kind string) (string, error) {
	if name == "" {
		return all, nil
	}
	_, u, err := s.findUser(ctx, name)
	if err != nil {
		return "", err
	}
	return usersPath + "/" + u.UserID + "/" + kind, nil
}

func (s *admin) tokenRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm TOKEN", Short: "Remove a token by its id", Args: args("TOKEN"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.remove(c.Context(), fmt.Sprintf("token %q", args[0]), tokensPath+"/"+url.PathEscape(args[0]))
		},
	}
}

func (s *admin) tokenResync() *cobra.Command {
	return &cobra.Command{
		Use: "resync TOKEN CODE CODE CODE", Short: "Bring a HOTP token back into step by three passcodes in a row",
		Args: args("TOKEN", "CODE", "CODE", "CODE"),
		RunE: func(c *cobra.Command, args []string) error {
			params := url.Values{"code1": {args[1]}, "code2": {args[2]}, "code3": {args[3]}}
			if err := s.call(c.Context(), fmt.Sprintf("resync token %q", args[0]), http.MethodPost, tokensPath+"/"+url.PathEscape(args[0])+"/resync", params, nil); err != nil {
				return err
			}
			s.Notef("token %s is in step\n", args[0])
			return nil
		},
	}
}

// phone is what the commands read of a phone of the Admin API.
type phone struct {
	PhoneID      string   `json:"phone_id"`
	Number       string   `json:"number"`
	Extension    string   `json:"extension"`
	Name         string   `json:"name"`
	Type         string   `json:"type"`
	Platform     string   `json:"platform"`
	Activated    bool     `json:"activated"`
	Capabilities []string `json:"capabilities"`
	LastSeen     string   `json:"last_seen"`
	Users        []owner  `json:"users"`
}

func (p phone) summary() string {
	parts := []string{}
	for _, s := range []string{p.Name, p.Number, p.Platform} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if p.Activated {
		parts = append(parts, "authenticator")
	}
	return strings.Join(parts, ", ")
}

func (s *admin) phoneCommand() *cobra.Command {
	c := &cobra.Command{Use: "phone", Short: "Phones and authenticators"}
	c.AddCommand(s.phoneAdd(), s.phoneList(), s.phoneActivate(), s.phoneSendSMS(), s.phoneRemove())
	return c
}

func (s *admin) phoneAdd() *cobra.Command {
	var owner, number, extension, name, kind, platform string
	c := &cobra.Command{
		Use: "add --user NAME [--number N]", Short: "Add a phone for a user; without a number, a place for an authenticator", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			_, u, err := s.findUser(c.Context(), owner)
			if err != nil {
				return err
			}
			params := url.Values{"user_id": {u.UserID}}
			set(params, map[string]string{"number": number, "extension": extension, "name": name, "type": kind, "platform": platform})
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("add a phone for %q", owner), http.MethodPost, phonesPath, params, &raw); err != nil {
				return err
			}
			if s.json {
				return s.JSON(raw)
			}
			return s.phoneTable([]json.RawMessage{raw})
		},
	}
	c.Flags().StringVar(&owner, "user", "", "user who gets it (required)")
	c.Flags().StringVar(&number, "number", "", "number, such as +49301234567")
	c.Flags().StringVar(&extension, "extension", "", "extension to dial after the number")
	c.Flags().StringVar(&name, "name", "", "name that the person reads")
	c.Flags().StringVar(&kind, "type", "", "mobile or landline")
	c.Flags().StringVar(&platform, "platform", "", "platform")
	complete(c, "type", "mobile", "landline")
	required(c, "user")
	return c
}

func (s *admin) phoneTable(phones []json.RawMessage) error {
	return present(s.app, phones, []string{"PHONE", "NAME", "NUMBER", "TYPE", "ACTIVATED", "CAPABILITIES", "USERS"}, func(p phone) []string {
		number := p.Number
		if p.Extension != "" {
			number += "," + p.Extension
		}
		return []string{p.PhoneID, p.Name, number, p.Type, yesNo(p.Activated), strings.Join(p.Capabilities, ","), owners(p.Users)}
	})
}

func (s *admin) phoneList() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "list", Short: "List phones and authenticators", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := s.pathFor(c.Context(), name, phonesPath, "phones")
			if err != nil {
				return err
			}
			phones, err := s.list(c.Context(), "list phones", path, nil)
			if err != nil {
				return err
			}
			return s.phoneTable(phones)
		},
	}
	c.Flags().StringVar(&name, "user", "", "only those of that user")
	return c
}

// activation is the answer of activation_url.
type activation struct {
	ActivationURL string `json:"activation_url"`
	ValidSecs     int64  `json:"valid_secs"`
}

func (s *admin) phoneActivate() *cobra.Command {
	var valid span
	c := &cobra.Command{
		Use: "activate PHONE", Short: "Make a one-time link by which a device becomes the phone's authenticator", Args: args("PHONE"),
		Long: `Make a one-time link by which a device becomes the phone's authenticator.

Whoever opens the link first gets the authenticator: hand it to its person only.
An authenticator that the phone had before stops working when the link is used.`,
		RunE: func(c *cobra.Command, args []string) error {
			params := url.Values{}
			if valid != 0 {
				params.Set("valid_secs", valid.seconds())
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("activate phone %q", args[0]), http.MethodPost, phonesPath+"/"+url.PathEscape(args[0])+"/activation_url", params, &raw); err != nil {
				return err
			}
			if s.json {
				return s.JSON(raw)
			}
			var out activation
			if err := json.Unmarshal(raw, &out); err != nil {
				return fmt.Errorf("read the verifier's answer: %w", err)
			}
			s.qr(out.ActivationURL)
			s.Printf("%s\n", out.ActivationURL)
			lives := span(time.Duration(out.ValidSecs) * time.Second)
			s.Notef("valid for %s, once; in a terminal: sallyport authenticator activate 'LINK'\n", lives.String())
			return nil
		},
	}
	spanFlag(c, &valid, "valid", 0, "how long the link lives, such as 24h (default 1d)")
	return c
}

func (s *admin) phoneRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm PHONE", Short: "Remove a phone by its id; its authenticator stops working", Args: args("PHONE"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.remove(c.Context(), fmt.Sprintf("phone %q", args[0]), phonesPath+"/"+url.PathEscape(args[0]))
		},
	}
}

// bypassCode is what the commands read of a bypass code; the code itself is not kept.
type bypassCode struct {
	BypassCodeID string `json:"bypass_code_id"`
	Recovery     bool   `json:"recovery"`
	Created      int64  `json:"created"`
	Expiration   *int64 `json:"expiration"`
	ReuseCount   *int   `json:"reuse_count"`
	User         *owner `json:"user"`
}

func (s *admin) bypassCodesCommand() *cobra.Command {
	c := &cobra.Command{Use: "bypass-codes", Short: "Codes that stand in for a factor"}
	c.AddCommand(s.bypassCodesAdd(), s.bypassCodesList(), s.bypassCodesRemove())
	return c
}

func (s *admin) bypassCodesAdd() *cobra.Command {
	var count, uses int
	var valid span
	var keep bool
	var given []string
	c := &cobra.Command{
		Use: "add NAME --count N", Short: "Make bypass codes for a user and show them, once", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			_, u, err := s.findUser(c.Context(), args[0])
			if err != nil {
				return err
			}
			params := url.Values{
				"count": {strconv.Itoa(count)}, "reuse_count": {strconv.Itoa(uses)},
				"valid_secs": {valid.seconds()}, "preserve_existing": {flagged(keep)},
			}
			if len(given) > 0 {
				params.Del("count")
				params.Set("codes", strings.Join(given, ","))
			}
			var codes []string
			if err := s.call(c.Context(), fmt.Sprintf("make bypass codes for %q", args[0]), http.MethodPost, usersPath+"/"+u.UserID+"/bypass_codes", params, &codes); err != nil {
				return err
			}
			if s.json {
				return s.JSON(codes)
			}
			for _, code := range codes {
				s.Printf("%s\n", code)
			}
			return nil
		},
	}
	c.Flags().IntVar(&count, "count", 1, "how many codes, 1 to 10")
	c.Flags().StringSliceVar(&given, "code", nil, "a code of your own, 9 to 16 digits, instead of --count new ones; may be given again")
	c.Flags().IntVar(&uses, "uses", 1, "how often each code works; 0: until it expires")
	spanFlag(c, &valid, "valid", 0, "how long the codes live, such as 24h (default: for ever)")
	c.Flags().BoolVar(&keep, "keep", false, "leave the codes that the user has valid (default: they are replaced)")
	return c
}

func (s *admin) bypassCodesList() *cobra.Command {
	return &cobra.Command{
		Use: "list [NAME]", Short: "List bypass codes, of a user or of all; the codes themselves are not kept", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name := strings.Join(args, "")
			path, err := s.pathFor(c.Context(), name, bypassCodesPath, "bypass_codes")
			if err != nil {
				return err
			}
			codes, err := s.list(c.Context(), "list bypass codes", path, nil)
			if err != nil {
				return err
			}
			return present(s.app, codes, []string{"CODE", "USER", "CREATED", "EXPIRES", "USES LEFT", "KIND"}, func(b bypassCode) []string {
				who, expires, left, kind := name, "never", "unlimited", "bypass"
				if b.Recovery {
					kind = "recovery"
				}
				if b.User != nil {
					who = b.User.Username
				}
				if b.Expiration != nil {
					expires = unix(*b.Expiration)
				}
				if b.ReuseCount != nil {
					left = strconv.Itoa(*b.ReuseCount)
				}
				return []string{b.BypassCodeID, who, unix(b.Created), expires, left, kind}
			})
		},
	}
}

func (s *admin) bypassCodesRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm CODE...", Short: "Remove bypass codes by their ids", Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			for _, id := range slices.Compact(args) {
				if err := s.remove(c.Context(), fmt.Sprintf("bypass code %q", id), bypassCodesPath+"/"+url.PathEscape(id)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
