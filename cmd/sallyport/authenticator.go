// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
	"github.com/sallyport-mfa/sallyport/internal/invite"
	"github.com/sallyport-mfa/sallyport/internal/keyproof"
)

// beside is the warning that a person must have read.
const beside = "Note: this key is a file. On the machine where you log in, or one that the same\n" +
	"person can take over, it is no second factor; keep it on another device.\n"

// device is the authenticator's commands.
type device struct {
	*app
	dir string
}

func (a *app) authenticatorCommand() *cobra.Command {
	d := &device{app: a}
	c := &cobra.Command{
		Use:   "authenticator",
		Short: "An authenticator in this terminal: see and answer login requests",
		Long: `An authenticator in this terminal: see and answer login requests.

Each account has a key of its own in a file, by default under
$XDG_STATE_HOME/sallyport/authenticators. Answers are signed with it and bound to
the very request that was shown.

` + strings.TrimSpace(beside),
	}
	c.PersistentFlags().StringVar(&d.dir, "dir", "", "folder of the accounts (default as above)")
	a.jsonFlag(c)
	c.AddCommand(d.activate(), d.list(), d.watch(), d.approve(), d.deny(), d.hosts(), d.offline(), d.forget())
	return c
}

func (d *device) store() (authenticator.Store, error) {
	if d.dir != "" {
		return authenticator.Store{Dir: d.dir}, nil
	}
	dir, err := authenticator.DefaultDir(d.env)
	if err != nil {
		return authenticator.Store{}, cli.WithHint(err, "pass --dir")
	}
	return authenticator.Store{Dir: dir}, nil
}

// account is what is shown of an account.
type account struct {
	AuthenticatorID string `json:"authenticator_id"`
	Username        string `json:"username"`
	Name            string `json:"name"`
	URL             string `json:"url"`
	Created         int64  `json:"created"`
}

func shown(a authenticator.Account) account {
	return account{AuthenticatorID: a.AuthenticatorID, Username: a.Username, Name: a.Name, URL: a.URL, Created: a.Created}
}

func (d *device) activate() *cobra.Command {
	var name, address string
	c := &cobra.Command{
		Use: "activate LINK", Short: "Become an authenticator by a one-time link (quote it: it has a #)", Args: args("LINK"),
		Long: `Become an authenticator by a one-time link, as "sallyport admin phone activate"
and enrolment make it. Quote the link: it has a #. An activation code (sa1.…) does
as well, with the verifier's address in --url.`,
		RunE: func(c *cobra.Command, args []string) error {
			made, err := d.activateBy(c.Context(), args[0], address, name)
			if err != nil {
				return err
			}
			fmt.Fprint(d.Err, beside)
			if d.json {
				return d.JSON(shown(made))
			}
			d.Printf("authenticator %s answers for %s at %s\n", made.AuthenticatorID, made.Username, made.URL)
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "what to call this authenticator (default: the phone's name)")
	c.Flags().StringVar(&address, "url", "", "address of the verifier, if LINK is an activation code")
	return c
}

func (d *device) activateBy(ctx context.Context, link, address, name string) (authenticator.Account, error) {
	var made authenticator.Account
	base, code, err := parseActivation(link, address)
	if err != nil {
		return made, &cli.UsageError{Err: cli.WithHint(err, "copy the link whole, in quotes")}
	}
	store, err := d.store()
	if err != nil {
		return made, err
	}
	if err := store.Prepare(); err != nil {
		return made, err
	}
	key, err := keyproof.GenerateKey()
	if err != nil {
		return made, fmt.Errorf("make the authenticator's key: %w", err)
	}
	id, err := keyproof.ID(agentapi.ActivationPrefix, &key.PublicKey)
	if err != nil {
		return made, fmt.Errorf("make the authenticator's key: %w", err)
	}
	text, err := keyproof.EncodePrivateKey(key)
	if err != nil {
		return made, err
	}
	config, ca := pinned(code, base.Hostname())
	client := &agentapi.Client{BaseURL: base, Key: key, KeyID: id, HTTP: agentapi.HTTPClient(config, 30*time.Second), Now: d.Now}
	got, err := client.Activate(ctx, code.String(), name, runtime.GOOS)
	if err != nil {
		return made, explainInvite("activate", err)
	}
	made = authenticator.Account{
		Version: 1, AuthenticatorID: got.AuthenticatorID, URL: base.String(), UserID: got.UserID, Username: got.Username,
		Name: got.Name, CAPEM: string(ca()), Created: d.Now().Unix(), PrivateKey: string(text),
		OfflineRoot: base64.StdEncoding.EncodeToString(got.OfflineRoot),
	}
	if err := store.Add(made); err != nil {
		return made, cli.WithHint(err, "the link is spent: ask for another one")
	}
	return made, nil
}

func parseActivation(link, address string) (base *url.URL, code invite.Token, err error) {
	if address == "" {
		return invite.ParseLink(link)
	}
	if base, err = duoapi.ParseBase(address); err != nil {
		return nil, code, fmt.Errorf("--url: %w", err)
	}
	code, err = invite.Parse(invite.Activate, link)
	return base, code, err
}

// clientOf makes the client of an account.
func (d *device) clientOf(a authenticator.Account) (*agentapi.Client, error) {
	base, err := parseBase(a.URL)
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", a.AuthenticatorID, err)
	}
	key, err := a.Key()
	if err != nil {
		return nil, fmt.Errorf("account %s: %w", a.AuthenticatorID, err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.CAPEM != "" {
		if config.RootCAs, err = invite.ParseCA([]byte(a.CAPEM)); err != nil {
			return nil, fmt.Errorf("account %s: CA of the verifier: %w", a.AuthenticatorID, err)
		}
	}
	// Longer than the longest wait that a call may ask for.
	client := agentapi.HTTPClient(config, agentapi.MaxWait+15*time.Second)
	return &agentapi.Client{BaseURL: base, Key: key, KeyID: a.AuthenticatorID, HTTP: client, Now: d.Now}, nil
}

// request is an open login request of one of the accounts. Its JSON form shows
// what the request says of itself, and whose it is.
type request struct {
	AuthenticatorID string           `json:"authenticator_id"`
	Account         string           `json:"account"`
	TxID            string           `json:"txid"`
	Verified        bool             `json:"verified"`
	Expires         int64            `json:"expires"`
	Context         agentapi.Context `json:"context"`

	tx     agentapi.Transaction
	client *agentapi.Client
}

func (r request) row() []string {
	c := r.Context
	return []string{r.TxID, c.Username, c.Application, c.Type, c.Hostname, c.IPAddr, unix(c.Created), unix(r.Expires), yesNo(r.Verified)}
}

var requestHead = []string{"REQUEST", "USER", "APPLICATION", "WHAT", "HOST", "FROM", "SINCE", "UNTIL", "DIGITS"}

// accounts reads the accounts; none at all is an error.
func (d *device) accounts() ([]authenticator.Account, error) {
	store, err := d.store()
	if err != nil {
		return nil, err
	}
	accounts, err := store.List()
	if err != nil {
		return nil, err
	}
	if len(accounts) == 0 {
		return nil, cli.WithHint(errors.New("no account is activated here"), "run: sallyport authenticator activate LINK")
	}
	return accounts, nil
}

// pending asks one account for its open requests.
func pending(ctx context.Context, a authenticator.Account, client *agentapi.Client, wait time.Duration, seen []string) ([]request, error) {
	txs, err := client.Transactions(ctx, wait, seen)
	if err != nil {
		return nil, explainAnswer("ask "+a.URL+" for login requests to "+a.Username, err)
	}
	out := make([]request, 0, len(txs))
	for _, tx := range txs {
		c, err := agentapi.ParseContext(tx.Context, tx.TxID)
		if err != nil {
			return nil, fmt.Errorf("request %s: %w", tx.TxID, err)
		}
		out = append(out, request{
			AuthenticatorID: a.AuthenticatorID, Account: a.Username, TxID: tx.TxID, Verified: tx.Verified,
			Expires: tx.Expires, Context: c, tx: tx, client: client,
		})
	}
	return out, nil
}

// allPending asks every account. An account that its verifier refuses can have
// no request, so it is only noted, unless there is no other.
func (d *device) allPending(ctx context.Context) ([]authenticator.Account, []request, error) {
	accounts, err := d.accounts()
	if err != nil {
		return nil, nil, err
	}
	requests := []request{}
	var away, refused []error
	for _, a := range accounts {
		client, err := d.clientOf(a)
		if err != nil {
			return nil, nil, err
		}
		found, err := pending(ctx, a, client, 0, nil)
		switch {
		case isRefusal(err):
			refused = append(refused, err)
		case err != nil:
			away = append(away, err)
		default:
			// So that offline codes are at hand when one is needed; nothing hangs on it now.
			_, _ = d.fetchHosts(ctx, a)
		}
		requests = append(requests, found...)
	}
	if len(refused) == len(accounts) {
		return accounts, nil, joinLine(refused)
	}
	for _, err := range refused {
		d.Notef("%v\n", err)
	}
	return accounts, requests, joinLine(away)
}

// joinLine is errors.Join on one line.
func joinLine(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	return fmt.Errorf("%w; and %d more such failures", errs[0], len(errs)-1)
}

func explainAnswer(what string, err error) error {
	return explain(what, err, map[int]string{
		duoapi.CodeInvalidProof:    "the authenticator was removed or activated elsewhere, or this machine's clock is wrong: ask for a new activation link, and forget the old account by: sallyport authenticator rm",
		duoapi.CodeTxUnknown:       "sallyport authenticator list shows what is open",
		duoapi.CodeTxAnswered:      "nothing is left to do",
		duoapi.CodeTxExpired:       "start the login again",
		duoapi.CodeTxCanceled:      "start the login again",
		duoapi.CodeTxDigits:        "type the digits that the login shows now; if it shows none, start it again",
		duoapi.CodeTxDigitsMissing: "give --code with the digits that the login shows",
		duoapi.CodeTxAnswer:        "set this machine's clock",
	})
}

func (d *device) list() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the accounts here and the login requests that are open", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			accounts, requests, err := d.allPending(c.Context())
			if accounts == nil {
				return err
			}
			if d.json {
				out := struct {
					Accounts []account `json:"accounts"`
					Requests []request `json:"requests"`
				}{Requests: requests}
				for _, a := range accounts {
					out.Accounts = append(out.Accounts, shown(a))
				}
				return firstError(d.JSON(out), err)
			}
			var rows [][]string
			for _, a := range accounts {
				rows = append(rows, []string{a.AuthenticatorID, a.Username, a.Name, a.URL, unix(a.Created)})
			}
			if err := d.Table([]string{"ACCOUNT", "USER", "NAME", "VERIFIER", "ACTIVATED"}, rows); err != nil {
				return err
			}
			d.Printf("\n")
			if len(requests) == 0 && err == nil {
				d.Printf("no open login requests\n")
				return nil
			}
			rows = nil
			for _, r := range requests {
				rows = append(rows, r.row())
			}
			return firstError(d.Table(requestHead, rows), err)
		},
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *device) forget() *cobra.Command {
	return &cobra.Command{
		Use: "rm ACCOUNT", Short: "Forget an account and its key, here; the verifier is not told", Args: args("ACCOUNT"),
		RunE: func(_ *cobra.Command, args []string) error {
			store, err := d.store()
			if err != nil {
				return err
			}
			if err := store.Remove(args[0]); err != nil {
				return cli.WithHint(err, "sallyport authenticator list shows the accounts")
			}
			d.Notef("removed account %q; to shut it out at the verifier as well: sallyport admin phone rm %s\n", args[0], args[0])
			return nil
		},
	}
}

// describe shows a request so that a person can decide.
func (d *device) describe(r request) {
	c := r.Context
	line := func(label, value string) {
		if value != "" {
			d.Printf("  %-12s %s\n", label, value)
		}
	}
	fmt.Fprintln(d.Out, d.Styled(cli.Bold, "Login request "+cli.Escape(r.TxID)))
	line("user", strings.TrimSpace(c.Username+" "+parenthesised(c.DisplayUsername, c.Username)))
	line("application", c.Application)
	line("what", c.Type)
	line("host", c.Hostname)
	line("from", c.IPAddr)
	keys := make([]string, 0, len(c.PushInfo))
	for k := range c.PushInfo {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		line(k, c.PushInfo[k])
	}
	line("since", unix(c.Created))
	line("until", unix(r.Expires))
}

func parenthesised(s, unless string) string {
	if s == "" || s == unless {
		return ""
	}
	return "(" + s + ")"
}

func (d *device) approve() *cobra.Command {
	var digits, txid string
	c := &cobra.Command{
		Use: "approve [--code DIGITS]", Short: "Approve the open login request", Args: args(),
		Long: `Approve the open login request, with the digits that the login shows where
it shows some. If several are open, name one by --txid. Approve only what you have
begun yourself: to everything else, "deny --fraud" is the answer.`,
		RunE: func(c *cobra.Command, _ []string) error {
			digits = strings.ReplaceAll(digits, " ", "")
			if digits != "" && !agentapi.ValidDigits(digits) {
				return cli.Usagef("--code is the digits that the login shows")
			}
			r, err := d.only(c.Context(), txid)
			if err != nil {
				return err
			}
			if !d.json {
				d.describe(r)
			}
			if r.Verified && digits == "" {
				if !d.Interactive || d.json {
					return cli.WithHint(errors.New("this request must be approved with the digits that the login shows"), "give them by --code")
				}
				if digits, err = d.askDigits(bufio.NewReader(d.In)); err != nil {
					return err
				}
			}
			if !r.Verified {
				digits = ""
			}
			return d.answer(c.Context(), r, agentapi.Approve, digits)
		},
	}
	c.Flags().StringVar(&digits, "code", "", "the digits that the login shows")
	c.Flags().StringVar(&txid, "txid", "", "which request, if several are open")
	return c
}

func (d *device) deny() *cobra.Command {
	var fraud bool
	var txid string
	c := &cobra.Command{
		Use: "deny", Short: "Deny the open login request", Args: args(),
		Long: `Deny the open login request. With --fraud, say as well that it was not you who
began it: the verifier locks the account and records it, as somebody else holds the
first factor.`,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := d.only(c.Context(), txid)
			if err != nil {
				return err
			}
			if !d.json {
				d.describe(r)
			}
			if fraud {
				return d.answer(c.Context(), r, agentapi.Fraud, "")
			}
			return d.answer(c.Context(), r, agentapi.Deny, "")
		},
	}
	c.Flags().BoolVar(&fraud, "fraud", false, "it was not me")
	c.Flags().StringVar(&txid, "txid", "", "which request, if several are open")
	return c
}

// only finds the one request that is meant.
func (d *device) only(ctx context.Context, txid string) (request, error) {
	_, requests, err := d.allPending(ctx)
	if txid != "" {
		requests = slices.DeleteFunc(requests, func(r request) bool { return r.TxID != txid })
	}
	switch {
	case len(requests) == 1 && (txid != "" || err == nil):
		return requests[0], nil
	case err != nil:
		return request{}, err
	case len(requests) == 0 && txid != "":
		return request{}, cli.WithHint(fmt.Errorf("no open login request is %q", txid), "sallyport authenticator list shows what is open")
	case len(requests) == 0:
		return request{}, cli.WithHint(errors.New("no login request is open"), "start the login first, or run: sallyport authenticator watch")
	}
	ids := make([]string, 0, len(requests))
	for _, r := range requests {
		ids = append(ids, r.TxID)
	}
	return request{}, cli.WithHint(fmt.Errorf("%d login requests are open: %s", len(ids), strings.Join(ids, ", ")),
		"if you began only one, deny the others; then give --txid")
}

// answered is what approve and deny print with --json.
type answered struct {
	TxID     string `json:"txid"`
	Decision string `json:"decision"`
}

func (d *device) answer(ctx context.Context, r request, decision, digits string) error {
	recorded, err := r.client.Answer(ctx, r.tx, decision, digits)
	if err != nil {
		return explainAnswer(decision+" request "+r.TxID, err)
	}
	if recorded != decision {
		return cli.WithHint(fmt.Errorf("%s request %s: the verifier recorded %q instead, as digits were wrong too often", decision, r.TxID, recorded),
			"start the login again and type the digits that it shows")
	}
	if d.json {
		return d.JSON(answered{TxID: r.TxID, Decision: decision})
	}
	past := map[string]string{agentapi.Approve: "approved", agentapi.Deny: "denied", agentapi.Fraud: "denied and reported as not yours"}
	d.Printf("%s\n", past[decision])
	return nil
}

// maxLine bounds a line that a person types.
const maxLine = 1024

func readLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadString('\n')
	if err != nil && (line == "" || !errors.Is(err, io.EOF)) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

func (d *device) askDigits(in *bufio.Reader) (string, error) {
	for range 3 {
		d.Printf("Digits that the login shows: ")
		line, err := in.ReadString('\n')
		if err != nil {
			return "", fmt.Errorf("read digits: %w", err)
		}
		if line = strings.ReplaceAll(strings.TrimSpace(line), " ", ""); agentapi.ValidDigits(line) {
			return line, nil
		}
		d.Printf("the digits are needed\n")
	}
	return "", errors.New("no digits given: nothing was answered")
}
