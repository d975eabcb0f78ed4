// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

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
	d.completeRequests(c)
	return c
}

func (d *device) deny() *cobra.Command {
	var fraud, mistake bool
	var txid string
	c := &cobra.Command{
		Use: "deny", Short: "Deny the open login request", Args: args(),
		Long: `Deny the open login request. With --fraud, say as well that it was not you who
began it: the verifier locks the account and records it, as somebody else holds the
first factor. With --mistake, it was you. On a terminal, without either, it asks.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if fraud && mistake {
				return cli.Usagef("--fraud and --mistake exclude each other")
			}
			r, err := d.only(c.Context(), txid)
			if err != nil {
				return err
			}
			if !d.json {
				d.describe(r)
			}
			if !fraud && !mistake && d.Interactive && !d.json {
				if fraud, err = d.askWhose(bufio.NewReader(d.In)); err != nil {
					return err
				}
			}
			if fraud {
				return d.answer(c.Context(), r, agentapi.Fraud, "")
			}
			return d.answer(c.Context(), r, agentapi.Deny, "")
		},
	}
	c.Flags().BoolVar(&fraud, "fraud", false, "it was not me")
	c.Flags().BoolVar(&mistake, "mistake", false, "it was me, by mistake")
	c.Flags().StringVar(&txid, "txid", "", "which request, if several are open")
	d.completeRequests(c)
	return c
}

// whose asks what a denial means; it says what each answer comes to.
const whose = "Did you begin this login? y: yes, by mistake; n: it was not me (locks your account): "

// askWhose asks whether a login that is to be denied was somebody else's.
func (d *device) askWhose(in *bufio.Reader) (fraud bool, err error) {
	for range 3 {
		d.Printf(whose)
		line, err := in.ReadString('\n')
		if err != nil {
			return false, fmt.Errorf("read an answer: %w", err)
		}
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "y", "yes":
			return false, nil
		case "n", "no":
			return true, nil
		}
	}
	return false, cli.WithHint(errors.New("neither y nor n: nothing was answered"), "run it again, or give --mistake or --fraud")
}

// completeRequests completes --txid to the requests that are open.
func (d *device) completeRequests(c *cobra.Command) {
	completeFrom(c, "txid", func() []string {
		if d.needsPassphrase() {
			return nil // a completion cannot ask
		}
		ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
		defer cancel()
		_, requests, _ := d.allPending(ctx)
		var out []string
		for _, r := range requests {
			out = appendCompletion(out, r.TxID, r.Context.Username+", "+r.Context.Application)
		}
		return out
	})
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
