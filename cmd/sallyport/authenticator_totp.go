// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

func (d *device) totpCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "totp", Short: "TOTP tokens of any service: keep them and show their codes",
		Long: `TOTP tokens of any service: keep them and show their codes. They work without a
network and without an account here; this machine's clock must be right. Their
secrets are sealed like the other secrets of this authenticator.`,
	}
	c.AddCommand(d.totpAdd(), d.totpList(), d.totpCode(), d.totpQR(), d.totpRemove())
	return c
}

// totpToken is what is shown of a token.
type totpToken struct {
	Name      string `json:"name"`
	Issuer    string `json:"issuer"`
	Account   string `json:"account"`
	Algorithm string `json:"algorithm"`
	Digits    int    `json:"digits"`
	Period    int    `json:"period"`
	Created   int64  `json:"created"`
}

func shownToken(t authenticator.Token) totpToken {
	return totpToken{Name: t.Name, Issuer: t.Issuer, Account: t.Account, Algorithm: t.Algorithm, Digits: t.Digits, Period: t.Period, Created: t.Created}
}

// totpCode is a code of a token.
type totpCode struct {
	Name    string `json:"name"`
	Code    string `json:"code"`
	Seconds int    `json:"seconds"` // until the next one
}

// grouped is a code as people read it: 123 456, 1234 5678.
func grouped(code string) string {
	half := (len(code) + 1) / 2
	return code[:half] + " " + code[half:]
}

func (d *device) totpAdd() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "add [--name NAME]", Short: "Keep a token: an otpauth URI, or a secret in base32", Args: args(),
		Long: `Keep a token. What the service shows is asked for on a terminal, without echo, and
read from the first line of standard input elsewhere: an otpauth URI (what a QR code
holds), or a secret in base32, which needs a --name. It is no argument, so that no
process list and no history of a shell has it. Shows the first code, for the
service to confirm.`,
		RunE: func(*cobra.Command, []string) error {
			store, err := d.store()
			if err != nil {
				return err
			}
			text, err := d.tokenText()
			if err != nil {
				return err
			}
			t, secret, err := authenticator.ParseToken(text)
			if err != nil {
				return cli.WithHint(fmt.Errorf("add a TOTP token: %w", err), "give the otpauth URI or the secret that the service shows")
			}
			if name != "" {
				t.Name = name
			}
			if t.Name == "" {
				return cli.Usagef("a bare secret has no name: give --name")
			}
			t.Created = d.Now().Unix()
			vault, err := d.openVault()
			if err != nil {
				return err
			}
			t, err = store.AddToken(vault, t, secret)
			if errors.Is(err, authenticator.ErrTokenExists) {
				err = cli.WithHint(err, "give --name")
			}
			if err != nil {
				return fmt.Errorf("add a TOTP token: %w", err)
			}
			code, err := d.codeOf(vault, t)
			if err != nil {
				return err
			}
			if d.json {
				return d.JSON(struct {
					totpToken
					Code    string `json:"code"`
					Seconds int    `json:"seconds"`
				}{shownToken(t), code.Code, code.Seconds})
			}
			d.Printf("%s is kept; its code for the next %d s: %s\n", t.Name, code.Seconds, d.Styled(cli.Bold, grouped(code.Code)))
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "what to call it (default: as the otpauth URI does)")
	return c
}

// tokenText reads what is to be added.
func (d *device) tokenText() (string, error) {
	if in, ok := d.In.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return d.secret("The otpauth URI or the secret (it is not shown): ", "", "")
	}
	line, err := readLine(d.In)
	if err != nil {
		return "", fmt.Errorf("read a token from standard input: %w", err)
	}
	return line, nil
}

func (d *device) codeOf(vault *authenticator.Vault, t authenticator.Token) (totpCode, error) {
	code, left, err := t.Code(vault, d.Now())
	return totpCode{Name: t.Name, Code: code, Seconds: int(left / time.Second)}, err
}

// tokens are those that name means: all, if it is empty; that of this name; or the
// only one whose name holds it.
func (d *device) tokens(name string) ([]authenticator.Token, error) {
	store, err := d.store()
	if err != nil {
		return nil, err
	}
	all, err := store.Tokens()
	if err != nil || name == "" {
		return all, err
	}
	var like []authenticator.Token
	for _, t := range all {
		if strings.EqualFold(t.Name, name) {
			return []authenticator.Token{t}, nil
		}
		if strings.Contains(strings.ToLower(t.Name), strings.ToLower(name)) {
			like = append(like, t)
		}
	}
	switch len(like) {
	case 0:
		return nil, cli.WithHint(fmt.Errorf("%w: %q", authenticator.ErrNoToken, name), "sallyport authenticator totp list shows them")
	case 1:
		return like, nil
	}
	return nil, cli.WithHint(fmt.Errorf("%d TOTP tokens have %q in their name", len(like), name), "give the whole name of one")
}

func (d *device) tokenNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	all, err := d.tokens("")
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var out []string
	for _, t := range all {
		out = append(out, cli.Escape(t.Name))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (d *device) totpList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the tokens, without codes", Args: args(),
		RunE: func(*cobra.Command, []string) error {
			tokens, err := d.tokens("")
			if err != nil {
				return err
			}
			out := []totpToken{}
			var rows [][]string
			for _, t := range tokens {
				out = append(out, shownToken(t))
				rows = append(rows, []string{t.Name, t.Issuer, t.Account, t.Algorithm, strconv.Itoa(t.Digits), strconv.Itoa(t.Period), unix(t.Created)})
			}
			if d.json {
				return d.JSON(out)
			}
			if len(out) == 0 {
				d.Printf("%s\n", noTokens)
				return nil
			}
			return d.Table([]string{"NAME", "ISSUER", "ACCOUNT", "ALGORITHM", "DIGITS", "SECONDS", "ADDED"}, rows)
		},
	}
}

const noTokens = "no TOTP token is kept here"

func (d *device) totpCode() *cobra.Command {
	var watch bool
	c := &cobra.Command{
		Use: "code [NAME]", Short: "Show the codes of now, and how many seconds they have left", Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: d.tokenNames,
		Long: `Show the codes of now, and how many seconds they have left: of one token, by its
name or a part of it that no other has, or of all. With --watch they are renewed as
time goes by, until interrupted; elsewhere than on a terminal, and with --json, a
code is written when it begins.`,
		RunE: func(c *cobra.Command, args []string) error {
			tokens, err := d.tokens(strings.Join(args, ""))
			if err != nil {
				return err
			}
			if len(tokens) == 0 && !d.json {
				return cli.WithHint(errors.New(noTokens), "run: sallyport authenticator totp add")
			}
			vault, err := d.openVault()
			if err != nil {
				return err
			}
			if watch {
				return d.watchCodes(c.Context(), vault, tokens)
			}
			codes, err := d.codes(vault, tokens)
			if err != nil {
				return err
			}
			if d.json {
				return d.JSON(codes)
			}
			return d.showCodes(codes)
		},
	}
	c.Flags().BoolVar(&watch, "watch", false, "renew them until interrupted")
	return c
}

func (d *device) codes(vault *authenticator.Vault, tokens []authenticator.Token) ([]totpCode, error) {
	out := []totpCode{}
	for _, t := range tokens {
		code, err := d.codeOf(vault, t)
		if err != nil {
			return nil, err
		}
		out = append(out, code)
	}
	return out, nil
}

func (d *device) showCodes(codes []totpCode) error {
	var rows [][]string
	for _, c := range codes {
		rows = append(rows, []string{grouped(c.Code), strconv.Itoa(c.Seconds) + " s", c.Name})
	}
	return d.Table([]string{"CODE", "LEFT", "NAME"}, rows)
}

// watchCodes shows codes until ctx ends.
func (d *device) watchCodes(ctx context.Context, vault *authenticator.Vault, tokens []authenticator.Token) error {
	redraw := d.Rich && !d.json
	before := map[string]string{}
	for drawn := false; ; drawn = true {
		codes, err := d.codes(vault, tokens)
		if err != nil {
			return err
		}
		if redraw {
			if drawn {
				// Up to the head, and clear what follows (ECMA-48 CPL, ED).
				fmt.Fprintf(d.Out, "\x1b[%dF\x1b[J", len(codes)+1)
			}
			err = d.showCodes(codes)
		}
		for _, c := range codes {
			if redraw || before[c.Name] == c.Code {
				continue
			}
			before[c.Name] = c.Code
			if d.json {
				err = firstError(err, d.JSONLine(c))
			} else {
				d.Printf("%s  %d s  %s\n", grouped(c.Code), c.Seconds, c.Name)
			}
		}
		if err != nil {
			return err
		}
		now := d.Now()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(now.Truncate(time.Second).Add(time.Second).Sub(now)):
		}
	}
}

func (d *device) totpQR() *cobra.Command {
	return &cobra.Command{
		Use: "qr NAME", Short: "Show a token's secret as a QR code and URI, to copy it to another device", Args: args("NAME"),
		ValidArgsFunction: d.tokenNames,
		RunE: func(_ *cobra.Command, args []string) error {
			tokens, err := d.tokens(args[0])
			if err != nil {
				return err
			}
			if len(tokens) == 0 {
				return cli.WithHint(errors.New(noTokens), "run: sallyport authenticator totp add")
			}
			vault, err := d.openVault()
			if err != nil {
				return err
			}
			uri, err := tokens[0].URI(vault)
			if err != nil {
				return err
			}
			if d.json {
				return d.JSON(struct {
					Name string `json:"name"`
					URI  string `json:"uri"`
				}{tokens[0].Name, uri})
			}
			d.Notef("Note: whoever sees this can make the codes of %s.\n", tokens[0].Name)
			d.qr(uri)
			d.Printf("%s\n", uri)
			return nil
		},
	}
}

func (d *device) totpRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Forget a token and its secret; the service is not told", Args: args("NAME"),
		ValidArgsFunction: d.tokenNames,
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := d.store()
			if err != nil {
				return err
			}
			// A part of a name is not enough to lose a secret by.
			if err := store.RemoveToken(args[0]); err != nil {
				return cli.WithHint(err, "sallyport authenticator totp list shows them")
			}
			d.Notef("removed the TOTP token %q\n", args[0])
			return nil
		},
	}
}
