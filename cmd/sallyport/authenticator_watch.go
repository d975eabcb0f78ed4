// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	sys "golang.org/x/sys/unix"

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
	typed := d.replies()
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
				if err := d.handle(ctx, r, typed); err != nil {
					return err
				}
			}
		}
	}
}

// replies hands on what a person types while a question is open: one line to each.
// Whatever is typed otherwise is dropped, as it is no answer to what was not shown.
type replies struct {
	discard func() // what the terminal holds unread
	closed  chan struct{}

	mu   sync.Mutex
	open chan string // of the open question
}

// replies reads what the person types; nil, if nobody is asked. The reader is left
// behind by design: a read from a terminal cannot be interrupted, and the process
// ends soon after.
func (d *device) replies() *replies {
	if !d.Interactive || d.json {
		return nil
	}
	a := &replies{discard: func() { discardTyped(d.In) }, closed: make(chan struct{})}
	go a.read(d.In)
	return a
}

func (a *replies) read(from io.Reader) {
	defer close(a.closed)
	in := bufio.NewReader(from)
	for {
		line, err := in.ReadString('\n')
		if err != nil && !(errors.Is(err, io.EOF) && line != "") {
			return
		}
		a.mu.Lock()
		if a.open != nil {
			a.open <- strings.TrimSpace(line) // it has room for one
			a.open = nil
		}
		a.mu.Unlock()
	}
}

// ask opens a question, in the place of one that was open, and is called before it
// is shown. What was typed until then is forgotten, also half a line.
func (a *replies) ask() <-chan string {
	a.discard()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = make(chan string, 1)
	return a.open
}

// done closes the question that is open.
func (a *replies) done() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open = nil
}

// discardTyped empties the queue of a terminal (tcflush(3), TCIFLUSH). Of anything
// else there is nothing to discard.
func discardTyped(in io.Reader) {
	if f, ok := in.(*os.File); ok {
		_ = sys.IoctlSetInt(int(f.Fd()), sys.TCFLSH, sys.TCIFLUSH)
	}
}

func (d *device) handle(ctx context.Context, r request, typed *replies) error {
	if d.json {
		return d.JSONLine(r)
	}
	d.describe(r)
	if typed == nil {
		d.Printf("\n")
		return nil
	}
	return d.decide(ctx, r, typed)
}

// decide asks until the request is answered, left open or too old. A refusal
// is shown and ends only this request.
func (d *device) decide(ctx context.Context, r request, typed *replies) error {
	question := "Digits that the login shows to approve, d to deny, Enter to leave it: "
	if !r.Verified {
		question = "a to approve, d to deny, Enter to leave it: "
	}
	defer typed.done()
	expired := time.NewTimer(time.Unix(r.Expires, 0).Sub(d.Now()))
	defer expired.Stop()
	for denying := false; ; {
		lines := typed.ask()
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
		case <-typed.closed:
			return errors.New("the terminal is closed")
		case l := <-lines:
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
