// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
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

func (d *device) watch() *cobra.Command {
	var bell bool
	c := &cobra.Command{
		Use: "watch", Short: "Show login requests as they come, and ask what to do", Args: args(),
		Long: `Show login requests as they come, to all accounts. On a terminal each is asked about:
the digits that the login shows approve it (or "a" where it shows none), "d" denies it,
after asking whether you began it ("f" denies it at once and says that it was not you);
Enter leaves it open. Elsewhere, and with --json (one object a line), requests are only
shown. What happens to the connection is said on standard error. Ends when interrupted.`,
		RunE: func(c *cobra.Command, _ []string) error {
			accounts, err := d.accounts()
			if err != nil {
				return err
			}
			return d.watchAll(c.Context(), accounts, bell)
		},
	}
	c.Flags().BoolVar(&bell, "bell", false, "ring the terminal's bell at each request")
	return c
}

// watchAll waits at every account at once and shows requests one by one.
func (d *device) watchAll(ctx context.Context, accounts []authenticator.Account, bell bool) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	box := newInbox()
	ends := make(chan error, len(accounts))
	var wait sync.WaitGroup
	defer wait.Wait()
	defer stop()
	for _, a := range accounts {
		client, err := d.clientOf(a)
		if err != nil {
			return err
		}
		d.Notef("waiting for login requests to %s at %s\n", a.Username, a.URL)
		f := &feed{
			account: a, client: client, note: d.Notef, now: d.Now, wait: pause,
			each: func(list []agentapi.Transaction) {
				for _, err := range box.update(a, client, list) {
					d.Notef("%v\n", err)
				}
			},
		}
		wait.Go(func() {
			// Nothing hangs on these now: the feed says what is wrong.
			_ = d.announce(ctx, client)
			_, _ = d.fetchHosts(ctx, a)
			ends <- f.run(ctx)
		})
	}
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
		case <-box.more:
			for r, ok := box.next(); ok; r, ok = box.next() {
				if bell && d.Rich {
					fmt.Fprint(d.Out, "\a")
				}
				if err := d.handle(ctx, r, lines); err != nil {
					return err
				}
			}
		}
	}
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
	question := "Digits that the login shows to approve, d to deny, Enter to leave it: "
	if !r.Verified {
		question = "a to approve, d to deny, Enter to leave it: "
	}
	// What was typed before the question was shown is no answer to it.
	drain(lines)
	expired := time.NewTimer(time.Unix(r.Expires, 0).Sub(d.Now()))
	defer expired.Stop()
	for denying := false; ; {
		if denying {
			d.Printf("%s", whose)
		} else {
			d.Printf("%s", question)
		}
		var line string
		select {
		case <-ctx.Done():
			return nil
		case <-expired.C:
			d.Printf("\ntoo late: the request has expired\n\n")
			return nil
		case <-r.gone:
			d.Printf("\nthe request is over: answered elsewhere, expired, or the login was given up\n\n")
			return nil
		case l, ok := <-lines:
			if !ok {
				return errors.New("the terminal is closed")
			}
			line = strings.ToLower(strings.ReplaceAll(l, " ", ""))
		}
		decision, digits := interpret(line, r.Verified, denying)
		switch {
		case line == "" && !denying:
			d.Printf("left open\n\n")
			return nil
		case decision == "":
			denying = line == "d" && !denying
			continue
		}
		err := d.answer(ctx, r, decision, digits)
		if err != nil {
			d.Notef("%v\n", err)
		}
		var refused *duoapi.Error
		if errors.As(err, &refused) && refused.Code == duoapi.CodeTxDigits && stillOpen(ctx, r) {
			denying = false
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

// interpret reads an answer at the prompt, or to the question whose login it is; no
// decision: ask on.
func interpret(line string, verified, denying bool) (decision, digits string) {
	switch {
	case denying && line == "y":
		return agentapi.Deny, ""
	case denying && line == "n", !denying && line == "f":
		return agentapi.Fraud, ""
	case denying:
		return "", ""
	case verified && agentapi.ValidDigits(line):
		return agentapi.Approve, line
	case !verified && line == "a":
		return agentapi.Approve, ""
	}
	return "", ""
}
