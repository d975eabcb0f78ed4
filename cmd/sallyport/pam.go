// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sallyport-mfa/sallyport/authd/breakglass"
	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/pamswitch"
	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/pam"
)

// pamSwitch is what the commands of `sallyport pam` share.
type pamSwitch struct {
	*app
	root, config string
}

// pamChange are the flags of enable and disable.
type pamChange struct {
	*pamSwitch
	yes, force bool
	within     time.Duration
	try        string
}

// defaultWithin is how long a change waits for its confirmation.
const defaultWithin = 5 * time.Minute

func (a *app) pamCommand() *cobra.Command {
	s := &pamSwitch{app: a}
	c := &cobra.Command{
		Use: "pam", Short: "Switch the second factor of this host's services on and off, with a way back",
		Long: `Switch the second factor of this host's services on and off. A change is shown,
tried, put in place at once, and taken back by itself unless it is confirmed in time,
also when the terminal is gone or the machine starts anew meanwhile.`,
	}
	c.PersistentFlags().StringVar(&s.root, "root", "", "change the system below this folder, which does not run: nothing is tried and sshd is not told")
	c.PersistentFlags().StringVar(&s.config, "config", config.DefaultPath, "authd.toml")
	c.AddCommand(s.change(pamswitch.Enable), s.change(pamswitch.Disable), s.status(), s.confirm(), s.rollback(), s.attempt())
	return c
}

func (s *pamSwitch) change(action pamswitch.Action) *cobra.Command {
	f := pamChange{pamSwitch: s}
	c := &cobra.Command{
		Use: string(action) + " SERVICE...",
		Args: func(_ *cobra.Command, got []string) error {
			if len(got) == 0 {
				return cli.Usagef("SERVICE is missing")
			}
			return nil
		},
		RunE: func(c *cobra.Command, services []string) error {
			if f.within != 0 && (f.within < time.Second || f.within > 24*time.Hour) {
				return cli.Usagef("--confirm-within is %s; it may be 1s to 24h, or 0", f.within)
			}
			return f.run(c.Context(), action, services)
		},
	}
	if action == pamswitch.Enable {
		c.Short = "Ask for a second factor in services: sshd, sudo, su, login, ..."
		c.Long = `Ask for a second factor in services: sshd, sudo, su, login, ...

Shows what changes in /etc/pam.d and, for sshd, in sshd_config.d; tries the new stacks;
asks; keeps a backup; puts all in place; and takes it back by itself unless you
confirm it in time, here or with "sallyport pam confirm". A stack that does not load,
that anybody could pass without the second factor, or that is too unusual is refused,
with what to do by hand.`
		c.Flags().StringVar(&f.try, "try", "", "let this user log in through the new stacks, at this terminal, before they are put in place")
	} else {
		c.Short = "Ask for no second factor in services any more"
		c.Long = `Ask for no second factor in services any more: take out the module's lines and, for
sshd, the drop-in, with the same safety as enable.`
	}
	c.Flags().BoolVar(&f.yes, "yes", false, "do not ask whether to go on; it still has to be confirmed")
	c.Flags().BoolVar(&f.force, "force", false, "go on although authd, the module or the verifier are not in order; never with a stack that is not")
	c.Flags().DurationVar(&f.within, "confirm-within", defaultWithin, "take the change back after this time unless it is confirmed; 0: keep it")
	return c
}

func (s *pamSwitch) planner() *pamswitch.Planner {
	p := &pamswitch.Planner{Root: s.root, Doctor: s.doctor()}
	if c, err := pamswitch.LoadConfig(s.config); err == nil {
		p.Config = c
	}
	return p
}

func (s *pamSwitch) doctor() *doctor.Host {
	return &doctor.Host{
		Root: s.root, Config: s.config, Users: s.ordinaryUsers(), SSHD: sshdProgram,
		Run: runCommand, Load: doctor.Load, Probe: pam.Probe, HTTP: doctor.HTTP, Now: s.Now,
	}
}

const sshdProgram = "/usr/sbin/sshd"

func (s *pamSwitch) host() (*pamswitch.Host, error) {
	if s.root == "" && os.Geteuid() != 0 {
		return nil, cli.WithHint(errors.New("only root can change how people log in"), "run it with sudo")
	}
	program, err := pamswitch.Program()
	if err != nil {
		return nil, err
	}
	h := &pamswitch.Host{Root: s.root, Store: pamswitch.Store{Dir: filepath.Join(s.root, pamswitch.DefaultDir)}, Now: s.Now}
	switch {
	case s.root != "":
		root, err := filepath.Abs(s.root)
		if err != nil {
			return nil, fmt.Errorf("find --root: %w", err)
		}
		h.Clock = &pamswitch.ProcessClock{Program: program, Args: []string{"--root", root}}
		return h, nil
	case pamswitch.Systemd():
		h.Clock = &pamswitch.SystemdClock{Program: program, Run: runCommand}
	default:
		h.Clock = &pamswitch.ProcessClock{Program: program}
	}
	if _, err := os.Stat(sshdProgram); err == nil {
		h.SSHD = &pamswitch.SSHD{Program: sshdProgram, Run: runCommand, Systemd: pamswitch.Systemd(), PIDFiles: pamswitch.PIDFiles}
	}
	return h, nil
}

func (f *pamChange) run(ctx context.Context, action pamswitch.Action, services []string) error {
	h, err := f.host()
	if err != nil {
		return err
	}
	if err := f.nothingPending(h); err != nil {
		return err
	}
	if action == pamswitch.Enable && f.root == "" {
		if err := f.inOrder(ctx); err != nil {
			return err
		}
	}
	planner := f.planner()
	plan, err := planner.Plan(action, services)
	if err != nil {
		return err
	}
	if plan.Empty() {
		f.Printf("nothing to do: %s\n", already(action, services))
		return nil
	}
	f.show(plan)
	if action == pamswitch.Enable && f.root == "" {
		f.warnOfNoBreakglass(plan.Services)
	}
	if f.root == "" {
		if err := f.tryOut(ctx, planner, plan); err != nil {
			return err
		}
	}
	if ok, err := f.goOn(ctx); err != nil || !ok {
		return err
	}
	change, err := h.Apply(ctx, plan, f.within, func(ctx context.Context) error { return f.checkSSHD(ctx, h, planner, action) })
	if err != nil {
		return err
	}
	return f.await(ctx, h, change)
}

func already(action pamswitch.Action, services []string) string {
	state := "on"
	if action == pamswitch.Disable {
		state = "off"
	}
	return strings.Join(services, ", ") + ": already " + state
}

func (f *pamChange) nothingPending(h *pamswitch.Host) error {
	c, err := h.Store.Pending()
	if errors.Is(err, pamswitch.ErrNothingPending) {
		return nil
	}
	if err != nil {
		return err
	}
	return cli.WithHint(fmt.Errorf("%s of %s waits for its confirmation", c.Action, strings.Join(c.Services, ", ")), "first: sallyport pam confirm, or: sallyport pam rollback")
}

// inOrder asks doctor about what every login will depend on.
func (f *pamChange) inOrder(ctx context.Context) error {
	var errs []error
	for _, found := range f.doctor().ExamineFoundations(ctx) {
		if found.Status != doctor.Fail {
			continue
		}
		err := fmt.Errorf("%s: %s (%s)", found.Subject, found.Message, found.Fix)
		if f.force {
			f.Notef("warning: %s\n", err)
			continue
		}
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return cli.WithHint(fmt.Errorf("nothing was changed, because people would be locked out: %w", errors.Join(errs...)), "correct that, or pass --force")
	}
	return nil
}

// warnOfNoBreakglass names the services that nobody gets into without a code while
// authd or the verifier is away.
func (f *pamChange) warnOfNoBreakglass(services []string) {
	codes, err := breakglass.Open(breakglass.DefaultDir).List()
	if err != nil {
		f.Notef("warning: whether there are break-glass codes is not known: %s\n", err)
		return
	}
	for _, service := range services {
		if !slices.ContainsFunc(codes, func(e breakglass.Entry) bool {
			return e.State == breakglass.Unused && (slices.Contains(e.Services, service) || slices.Contains(e.Services, breakglass.AllServices))
		}) {
			f.Notef("warning: no break-glass code is left for %s, for when authd or the verifier is away: sallyport breakglass generate --user root --service %s\n", service, service)
		}
	}
}

func (f *pamChange) show(plan *pamswitch.Plan) {
	for line := range strings.Lines(plan.Diff()) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		for n, cell := range cells {
			cells[n] = cli.Escape(cell)
		}
		fmt.Fprintln(f.Out, strings.Join(cells, "\t"))
	}
	for _, note := range plan.Notes {
		f.Notef("note: %s\n", note)
	}
}

func (f *pamChange) tryOut(ctx context.Context, planner *pamswitch.Planner, plan *pamswitch.Plan) error {
	program, err := pamswitch.Program()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sallyport-trial-")
	if err != nil {
		return fmt.Errorf("make a folder for the trial: %w", err)
	}
	t := &pamswitch.Trial{Config: planner.Config, Doctor: planner.Doctor, Program: program, Dir: dir, Away: f.force}
	notes, err := t.Unattended(ctx, plan)
	if err != nil {
		return cli.WithHint(err, "nothing was changed")
	}
	for _, n := range notes {
		f.Notef("note: %s\n", n)
	}
	if plan.Action == pamswitch.Enable && !f.force {
		f.Notef("tried: the new stacks load, and authd answers through them\n")
	} else {
		f.Notef("tried: the new stacks load\n")
	}
	if f.try == "" {
		return nil
	}
	if !f.Interactive {
		return cli.Usagef("--try needs a terminal")
	}
	return t.Attended(ctx, plan, f.try, func(service string) {
		f.Notef("%s: log in now, as %s\n", service, f.try)
	})
}

// goOn asks the person.
func (f *pamChange) goOn(ctx context.Context) (bool, error) {
	if f.yes {
		return true, nil
	}
	if !f.Interactive {
		return false, cli.WithHint(errors.New("nobody can be asked whether to go on, and nothing was changed"), "pass --yes")
	}
	f.Printf("Put this in place? [y/N] ")
	answer, err := f.answer(ctx, nil)
	if err != nil {
		return false, err
	}
	if answer != "y" && answer != "yes" {
		f.Printf("nothing was changed\n")
		return false, cli.ErrReported
	}
	return true, nil
}

// errNoAnswer says that nobody answered in time.
var errNoAnswer = errors.New("no answer")

// answer reads a line, unless time is over first.
func (s *pamSwitch) answer(ctx context.Context, over <-chan time.Time) (string, error) {
	type read struct {
		line string
		err  error
	}
	lines := make(chan read, 1)
	go func() {
		line, err := readLine(s.In)
		lines <- read{line, err}
	}()
	select {
	case r := <-lines:
		if r.err != nil {
			return "", errNoAnswer
		}
		return strings.ToLower(strings.TrimSpace(r.line)), nil
	case <-over:
		return "", errNoAnswer
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// checkSSHD asks sshd whether it takes its new configuration, and whether that holds.
func (f *pamChange) checkSSHD(ctx context.Context, h *pamswitch.Host, planner *pamswitch.Planner, action pamswitch.Action) error {
	if err := h.SSHD.Test(ctx); err != nil {
		return err
	}
	if action == pamswitch.Disable {
		return nil
	}
	return h.SSHD.Effective(ctx, planner.FirstFactor())
}

// await tells how to confirm, and asks where somebody can answer.
func (f *pamChange) await(ctx context.Context, h *pamswitch.Host, c *pamswitch.Change) error {
	f.Printf("in place: %s of %s; the old files are in %s\n", c.Action, strings.Join(c.Services, ", "), filepath.Join(h.Store.Dir, c.ID))
	if f.within == 0 {
		return nil
	}
	f.Printf("It is taken back at %s unless you confirm it: sallyport pam confirm\n", c.Until().Format(time.TimeOnly))
	if f.yes || !f.Interactive {
		return nil
	}
	f.Printf("Leave this open and log in once, in another terminal. Does it work? [keep/undo] ")
	over := time.NewTimer(f.within)
	defer over.Stop()
	for {
		answer, err := f.answer(ctx, over.C)
		switch {
		case err != nil:
			f.Printf("\nnot confirmed: it is taken back at %s unless you do: sallyport pam confirm\n", c.Until().Format(time.TimeOnly))
			return cli.ErrReported
		case answer == "keep":
			return f.settled(h.Confirm(ctx, c.ID))
		case answer == "undo":
			return f.settled(h.TakeBack(ctx, c.ID))
		}
		f.Printf("Type keep or undo: ")
	}
}

func (s *pamSwitch) settled(c *pamswitch.Change, err error) error {
	if errors.Is(err, pamswitch.ErrNothingPending) {
		return cli.WithHint(err, "it may have been taken back: sallyport pam status")
	}
	if err != nil {
		return err
	}
	s.Printf("%s: %s of %s\n", string(c.State), string(c.Action), strings.Join(c.Services, ", "))
	return nil
}

func (s *pamSwitch) confirm() *cobra.Command {
	return &cobra.Command{
		Use: "confirm", Short: "Keep the change that waits for its confirmation", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			h, err := s.host()
			if err != nil {
				return err
			}
			return s.settled(h.Confirm(c.Context(), ""))
		},
	}
}

func (s *pamSwitch) rollback() *cobra.Command {
	var after time.Duration
	var boot, ready bool
	c := &cobra.Command{
		Use: "rollback [ID]", Short: "Take back the change that waits for its confirmation",
		Long: `Take back the change that waits for its confirmation. The timer runs this with the
change's ID, and the system when it starts with --pending, which is content if
nothing waits.`,
		Args: func(_ *cobra.Command, got []string) error {
			if len(got) > 1 || len(got) == 1 && !pamswitch.ValidID(got[0]) {
				return cli.Usagef("at most one ID of a change is taken")
			}
			return nil
		},
		RunE: func(c *cobra.Command, ids []string) error {
			h, err := s.host()
			if err != nil {
				return err
			}
			id := strings.Join(ids, "")
			ctx := c.Context()
			if ready {
				// Signals are heeded by now, see run.
				if err := pamswitch.SayReady(); err != nil {
					return err
				}
			}
			if after > 0 {
				err := h.Store.Wait(ctx, id, after)
				if errors.Is(err, pamswitch.ErrNothingPending) {
					return nil
				}
				// Told to end, as all programs are when the system stops: it is time.
				ctx = context.WithoutCancel(ctx)
			}
			change, err := h.TakeBack(ctx, id)
			if errors.Is(err, pamswitch.ErrNothingPending) && (boot || id != "") {
				return nil
			}
			return s.settled(change, err)
		},
	}
	c.Flags().DurationVar(&after, "after", 0, "wait so long first")
	c.Flags().BoolVar(&boot, "pending", false, "if there is one; for when the system starts")
	c.Flags().BoolVar(&ready, "ready", false, "say on descriptor 3 that it waits")
	for _, flag := range []string{"after", "ready"} {
		if err := c.Flags().MarkHidden(flag); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return c
}

func (s *pamSwitch) status() *cobra.Command {
	c := &cobra.Command{
		Use: "status [SERVICE...]", Short: "Say which services ask for a second factor, and by which lines",
		Args: func(*cobra.Command, []string) error { return nil },
		RunE: func(_ *cobra.Command, names []string) error {
			pending, err := pamswitch.Store{Dir: filepath.Join(s.root, pamswitch.DefaultDir)}.Pending()
			if errors.Is(err, os.ErrPermission) {
				err = nil // the folder is root's; the stacks are for everybody to see
			}
			if err != nil && !errors.Is(err, pamswitch.ErrNothingPending) {
				return err
			}
			list, err := s.planner().Status(names, pending)
			if err != nil {
				return err
			}
			return s.showStatuses(list)
		},
	}
	s.jsonFlag(c)
	return c
}

func (s *pamSwitch) showStatuses(list []pamswitch.ServiceStatus) error {
	if s.json {
		return s.JSON(list)
	}
	var rows [][]string
	for _, st := range list {
		until := ""
		if st.Until != nil {
			until = "until " + st.Until.Format(time.TimeOnly)
		}
		rows = append(rows, []string{st.Service, st.State, until, strconv.Itoa(len(st.Problems))})
	}
	if err := s.Table([]string{"SERVICE", "STATE", "UNCONFIRMED", "PROBLEMS"}, rows); err != nil {
		return err
	}
	for _, st := range list {
		for _, l := range st.Lines {
			s.Printf("%s: %s:%d: %s\n", st.Service, l.File, l.Line, l.Text)
		}
		for _, p := range st.Problems {
			s.Printf("%s: %s: %s; %s\n", st.Service, string(p.Status), p.Message, p.Fix)
		}
	}
	return nil
}

// attempt is what a trial runs in a process of its own.
func (s *pamSwitch) attempt() *cobra.Command {
	return &cobra.Command{
		Use: "attempt", Short: "Make one PAM transaction", Args: args("ORDER"), Hidden: true,
		RunE: func(_ *cobra.Command, order []string) error {
			var a pamswitch.Attempt
			if err := json.Unmarshal([]byte(order[0]), &a); err != nil {
				return &cli.UsageError{Err: fmt.Errorf("read the order: %w", err)}
			}
			report := pamswitch.ReportTo()
			defer report.Close()
			if !a.Asks {
				return a.Make(nil, nil).Report(report)
			}
			return a.Make(s.ask, func(text string) { s.Printf("%s\n", text) }).Report(report)
		},
	}
}

// ask puts a module's question to the person at the terminal.
func (s *pamSwitch) ask(echo bool, question string) (string, error) {
	lines := strings.Split(question, "\n")
	for n, line := range lines {
		if s.Printf("%s", line); n < len(lines)-1 {
			s.Printf("\n")
		}
	}
	if echo {
		return readLine(s.In)
	}
	secret, err := term.ReadPassword(int(os.Stdin.Fd()))
	s.Printf("\n")
	if err != nil {
		return "", fmt.Errorf("read an answer: %w", err)
	}
	return string(secret), nil
}
