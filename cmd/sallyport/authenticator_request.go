// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

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
	gone   chan struct{} // closed when the request is not open any more; nil: nobody looks
}

// newRequest reads what a transaction says of itself.
func newRequest(a authenticator.Account, client *agentapi.Client, tx agentapi.Transaction) (request, error) {
	c, err := agentapi.ParseContext(tx.Context, tx.TxID)
	if err != nil {
		return request{}, fmt.Errorf("request %s: %w", tx.TxID, err)
	}
	return request{
		AuthenticatorID: a.AuthenticatorID, Account: a.Username, TxID: tx.TxID, Verified: tx.Verified,
		Expires: tx.Expires, Context: c, tx: tx, client: client,
	}, nil
}

func (r request) row() []string {
	c := r.Context
	return []string{r.TxID, c.Username, c.Application, c.Type, c.Hostname, c.IPAddr, unix(c.Created), unix(r.Expires), yesNo(r.Verified)}
}

var requestHead = []string{"REQUEST", "USER", "APPLICATION", "WHAT", "HOST", "FROM", "SINCE", "UNTIL", "DIGITS"}

// pending asks one account for its open requests.
func pending(ctx context.Context, a authenticator.Account, client *agentapi.Client) ([]request, error) {
	txs, err := client.Transactions(ctx, 0, nil)
	if err != nil {
		return nil, explainAnswer("ask "+a.URL+" for login requests to "+a.Username, err)
	}
	out := make([]request, 0, len(txs))
	for _, tx := range txs {
		r, err := newRequest(a, client, tx)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
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
		found, err := pending(ctx, a, client)
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

// What to do about refusals that have more than one code.
const (
	cannotVerify = "this authenticator must have its user confirmed by fingerprint, face or a device's PIN, which no terminal can do: " +
		"use the web app, or ask for a new activation link"
	askedAgain = "what was shown is not what the verifier asks: approve nothing, and start the login again"
)

// explainAnswer says what an authenticator can do about an error.
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

		duoapi.CodeVerificationNone:  cannotVerify,
		duoapi.CodeVerificationWrong: cannotVerify,
		duoapi.CodeAnswerSignature:   "the authenticator was activated elsewhere: ask for a new activation link",
		duoapi.CodeAnswerTransaction: askedAgain,
		duoapi.CodeAnswerContext:     askedAgain,
		duoapi.CodeAnswerAudience:    "this account is of another verifier, or the verifier's url has changed: activate again",
		duoapi.CodeAnswerTime:        "set this machine's clock",
		duoapi.CodeDeviceUnknown:     "sallyport authenticator devices list shows them",
	})
}
