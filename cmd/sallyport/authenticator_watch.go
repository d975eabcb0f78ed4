// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/agentapi"
	"github.com/sallyport-mfa/sallyport/internal/authenticator"
	"github.com/sallyport-mfa/sallyport/internal/duoapi"
)

// Pauses between calls that fail, doubled each time.
const (
	firstPause = time.Second
	longPause  = 30 * time.Second
)

func (d *device) watch() *cobra.Command {
	return &cobra.Command{
		Use: "watch", Short: "Show login requests as they come, and ask what to do", Args: args(),
		Long: `Show login requests as they come. On a terminal each is asked about: the six digits
that the login shows approve it (or "a" where it shows none), "d" denies it, "f"
denies it and says that it was not you; Enter leaves it open. Elsewhere, and with
--json (one object a line), requests are only shown. Ends when interrupted.`,
		RunE: func(c *cobra.Command, _ []string) error {
			accounts, err := d.accounts()
			if err != nil {
				return err
			}
			return d.watchAll(c.Context(), accounts)
		},
	}
}

// watchAll waits at every account at once and shows requests one by one.
func (d *device) watchAll(ctx context.Context, accounts []authenticator.Account) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	requests := make(chan request)
	ends := make(chan error, len(accounts))
	var wait sync.WaitGroup
	for _, a := range accounts {
		client, err := d.clientOf(a)
		if err != nil {
			return err
		}
		d.Notef("waiting for login requests to %s at %s\n", a.Username, a.URL)
		wait.Go(func() { ends <- d.poll(ctx, a, client, requests) })
	}
	defer wait.Wait()
	defer stop()
	lines := d.lines(ctx)
	for watched := len(accounts); ; {
		select {
		case <-ctx.Done():
			return nil
		case err := <-ends:
			if watched--; watched == 0 || err == nil {
				return err
			}
			d.Notef("%v\n", err) // the other accounts go on
		case r := <-requests:
			if err := d.handle(ctx, r, lines); err != nil {
				return err
			}
		}
	}
}

// poll sends each request of one account once. Outages are waited out;
// refusals end it.
func (d *device) poll(ctx context.Context, a authenticator.Account, client *agentapi.Client, out chan<- request) error {
	var seen []string
	pause := firstPause
	for ctx.Err() == nil {
		found, err := pending(ctx, a, client, agentapi.MaxWait, seen)
		if err != nil && ctx.Err() == nil {
			if isRefusal(err) {
				return err
			}
			d.Notef("%v; trying again in %s\n", err, pause.String())
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
			pause = min(2*pause, longPause)
			continue
		}
		pause = firstPause
		before := map[string]bool{}
		for _, id := range seen {
			before[id] = true
		}
		seen = seen[:0]
		for _, r := range found {
			seen = append(seen, r.TxID)
			if before[r.TxID] {
				continue
			}
			select {
			case <-ctx.Done():
				return nil
			case out <- r:
			}
		}
	}
	return nil
}

// lines reads what the person types. The reader outlives ctx by design: a read
// from a terminal cannot be interrupted, and the process ends soon after.
func (d *device) lines(ctx context.Context) <-chan string {
	if !d.Interactive || d.json {
		return nil
	}
	out := make(chan string)
	go func() {
		defer close(out)
		in := bufio.NewReader(d.In)
		for {
			line, err := in.ReadString('\n')
			if err != nil && !(errors.Is(err, io.EOF) && line != "") {
				return
			}
			select {
			case out <- strings.TrimSpace(line):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

func (d *device) handle(ctx context.Context, r request, lines <-chan string) error {
	if d.json {
		return d.JSONLine(r)
	}
	d.describe(r)
	if lines == nil {
		d.Printf("\n")
		return nil
	}
	return d.decide(ctx, r, lines)
}

// decide asks until the request is answered, left open or too old. A refusal
// is shown and ends only this request.
func (d *device) decide(ctx context.Context, r request, lines <-chan string) error {
	question := "Digits that the login shows to approve, d to deny, f if it was not you, Enter to leave it: "
	if !r.Verified {
		question = "a to approve, d to deny, f if it was not you, Enter to leave it: "
	}
	// What was typed before the question was shown is no answer to it.
	drain(lines)
	expired := time.NewTimer(time.Unix(r.Expires, 0).Sub(d.Now()))
	defer expired.Stop()
	for {
		d.Printf("%s", question)
		var line string
		select {
		case <-ctx.Done():
			return nil
		case <-expired.C:
			d.Printf("\ntoo late: the request has expired\n\n")
			return nil
		case l, ok := <-lines:
			if !ok {
				return errors.New("the terminal is closed")
			}
			line = strings.ReplaceAll(l, " ", "")
		}
		decision, digits, done := interpret(line, r.Verified)
		if done {
			d.Printf("left open\n\n")
			return nil
		}
		if decision == "" {
			continue
		}
		err := d.answer(ctx, r, decision, digits)
		if err != nil {
			d.Notef("%v\n", err)
		}
		var refused *duoapi.Error
		if errors.As(err, &refused) && refused.Code == duoapi.CodeTxDigits && stillOpen(ctx, r) {
			continue // tries are left
		}
		d.Printf("\n")
		return nil
	}
}

// stillOpen asks whether a request can still be answered.
func stillOpen(ctx context.Context, r request) bool {
	open, err := r.client.Transactions(ctx, 0, nil)
	return err == nil && slices.ContainsFunc(open, func(tx agentapi.Transaction) bool { return tx.TxID == r.TxID })
}

func drain(lines <-chan string) {
	for {
		select {
		case _, ok := <-lines:
			if !ok {
				return
			}
		default:
			return
		}
	}
}

// interpret reads an answer at the prompt; done says to leave the request open.
func interpret(line string, verified bool) (decision, digits string, done bool) {
	switch {
	case line == "":
		return "", "", true
	case line == "d":
		return agentapi.Deny, "", false
	case line == "f":
		return agentapi.Fraud, "", false
	case verified && agentapi.ValidDigits(line):
		return agentapi.Approve, line, false
	case !verified && line == "a":
		return agentapi.Approve, "", false
	}
	return "", "", false
}
