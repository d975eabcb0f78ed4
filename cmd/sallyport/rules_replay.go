// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"

	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/authd/rules"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/loginlog"
	"github.com/sallyport-mfa/sallyport/internal/cli"
)

func (a *app) rulesReplay(path *string) *cobra.Command {
	var byRule bool
	c := &cobra.Command{
		Use: "replay LOG", Short: "Say which logins in a log the rules would now decide otherwise", Args: args("LOG"),
		Long: `Say which logins in authd's log the present rule files would decide otherwise: change
the files (or a copy, with --config), replay, then reload. Only differences are printed.

LOG is a file of authd's log, as text, JSON lines or the output of journalctl -o json;
- is standard input. What the log does not say is unknown to the rules, and said so:
commands of sudo, and groups of the directory. Unix groups are looked up now.

The exit code is 0 if nothing would change, and 1 if something would.`,
		RunE: func(c *cobra.Command, args []string) error {
			conf, err := loadConfig(*path)
			if err != nil {
				return err
			}
			in, err := a.open(args[0])
			if err != nil {
				return fmt.Errorf("read log: %w", err)
			}
			defer in.Close()
			r := &replay{set: conf.RuleSet(), byRule: byRule, unknown: map[string]int{}, groups: map[[2]string]rules.Truth{}, Differences: []difference{}}
			for l, err := range loginlog.Read(in) {
				if err != nil {
					return fmt.Errorf("read log: %w", err)
				}
				r.add(c.Context(), l)
			}
			return a.showReplay(r)
		},
	}
	c.Flags().BoolVar(&byRule, "rules", false, "also print logins that another rule would decide the same way")
	a.jsonFlag(c)
	return c
}

// open opens a file, or standard input for "-".
func (a *app) open(name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(a.In), nil
	}
	return os.Open(name)
}

// replay is what came out, and what --json prints.
type replay struct {
	Logins      int          `json:"logins"`  // that the rules decided about
	Skipped     int          `json:"skipped"` // that ended before the rules were asked
	Differences []difference `json:"differences"`
	Unknown     []string     `json:"unknown"` // facts that were unknown for at least one login

	set     *rules.Set
	byRule  bool
	unknown map[string]int
	groups  map[[2]string]rules.Truth
	asked   bool // a Unix group was looked up
}

type difference struct {
	Time    *time.Time `json:"time"` // null: not in the log
	ID      string     `json:"id"`
	Service string     `json:"service"`
	User    string     `json:"user"`
	Source  string     `json:"source"`
	Before  decided    `json:"before"`
	After   decision   `json:"after"`
}

type decided struct {
	Action rules.Action `json:"action"`
	Rule   string       `json:"rule"` // "": no rule
}

func (r *replay) add(ctx context.Context, l loginlog.Login) {
	if l.Action == "" {
		r.Skipped++
		return
	}
	r.Logins++
	f := l.Facts
	f.InGroup = func(_ context.Context, group string) rules.Truth { return r.inGroup(f.User, group) }
	d := r.set.Decide(ctx, f)
	for name, unknown := range map[string]bool{
		"source": f.SourceUnknown, "keys": f.KeysUnknown, "certificates": f.CertificatesUnknown,
		"targets": f.TargetUnknown, "commands": f.CommandUnknown, "time": f.Time.IsZero(),
	} {
		if unknown {
			r.unknown[name]++
		}
	}
	if d.Action == l.Action && (!r.byRule || d.RuleName() == l.Rule) {
		return
	}
	diff := difference{ID: l.ID, Service: f.Service, User: f.User, Source: l.Source, Before: decided{l.Action, l.Rule}, After: decisionJSON(d)}
	if !f.Time.IsZero() {
		diff.Time = &f.Time
	}
	r.Differences = append(r.Differences, diff)
}

func (r *replay) inGroup(user, group string) rules.Truth {
	r.asked = true
	key := [2]string{user, group}
	t, known := r.groups[key]
	if !known {
		t = inGroup(user, group)
		r.groups[key] = t
	}
	return t
}

// replayOrder is the order in which unknown facts are named.
var replayOrder = []string{"source", "keys", "certificates", "targets", "commands", "time"}

func (a *app) showReplay(r *replay) error {
	r.Unknown = []string{}
	for _, name := range replayOrder {
		if r.unknown[name] > 0 {
			r.Unknown = append(r.Unknown, name)
		}
	}
	if a.json {
		if err := a.JSON(r); err != nil {
			return err
		}
	} else {
		a.printReplay(r)
	}
	if len(r.Differences) > 0 {
		return cli.ErrReported
	}
	return nil
}

func (a *app) printReplay(r *replay) {
	for _, d := range r.Differences {
		when := "at an unknown time"
		if d.Time != nil {
			when = d.Time.UTC().Format(time.RFC3339)
		}
		from := ""
		if d.Source != "" {
			from = " from " + d.Source
		}
		a.Printf("%s %s %s%s: %s -> %s", when, d.Service, d.User, from, inWords(d.Before.Action, d.Before.Rule), inWords(d.After.Action, ruleName(d.After)))
		if !d.After.Certain {
			a.Printf(" (not certain: something is unknown)")
		}
		a.Printf("\n")
	}
	a.Notef("%d logins, %d would be decided otherwise; %d ended before the rules were asked\n", r.Logins, len(r.Differences), r.Skipped)
	for _, name := range r.Unknown {
		a.Notef("not in the log, and so unknown to the rules: %s of %d logins\n", name, r.unknown[name])
	}
	if r.asked {
		a.Notef("Unix groups are those of now\n")
	}
}

func ruleName(d decision) string {
	if d.Rule == nil {
		return ""
	}
	return *d.Rule
}

func inWords(action rules.Action, rule string) string {
	if rule == "" {
		return string(action) + " by no rule"
	}
	return fmt.Sprintf("%s by %q", action, rule)
}
