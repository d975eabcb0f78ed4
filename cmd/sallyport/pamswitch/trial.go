// SPDX-License-Identifier: Apache-2.0

package pamswitch

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/authd/config"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/doctor"
	"github.com/sallyport-mfa/sallyport/cmd/sallyport/pamstack"
)

const (
	// trialUser is who tries to log in with nobody there: an account that does not
	// exist, so that authd refuses it before it asks the verifier or anyone.
	trialUser = "sallyport-trial"

	// trialTime bounds a trial with nobody there. libpam itself waits for some
	// seconds after a failure.
	trialTime = 45 * time.Second

	// nowhere is a folder without authd's socket.
	nowhere = "/nonexistent"
)

// Attempt is one PAM transaction, which a process of its own makes: a module that
// crashes or hangs takes only that with it.
type Attempt struct {
	Dir     string   `json:"dir"` // of service files, instead of /etc/pam.d
	Service string   `json:"service"`
	User    string   `json:"user"`
	RUser   string   `json:"ruser,omitempty"` // who runs sudo
	Caller  string   `json:"caller,omitempty"`
	Key     bool     `json:"key,omitempty"`     // as if sshd had checked a key
	Asks    bool     `json:"asks,omitempty"`    // a person is at the terminal
	Modules []string `json:"modules,omitempty"` // to be loaded first
}

// Outcome is how an attempt ended, by the names of libpam without PAM_.
type Outcome struct {
	Fault   string `json:"fault,omitempty"` // the stack could not be tried
	Auth    string `json:"auth"`
	Account string `json:"account,omitempty"`
}

// Trial tries the services of a plan.
type Trial struct {
	Root    string
	Config  *config.Config
	Doctor  *doctor.Host
	Program string        // path of sallyport, which makes the attempts
	Dir     string        // where the folders of service files go: root's alone
	Away    bool          // authd may be away: it is not asked for a decision
	Limit   time.Duration // of an attempt with nobody there; 0: trialTime
}

// Unattended shows what can be shown with nobody there: all modules of the stacks
// load, a login of an account that does not exist ends in time and in a refusal,
// and, for a plan that enables, that this refusal comes from authd. Notes say
// what could not be shown.
func (t *Trial) Unattended(ctx context.Context, plan *Plan) (notes []string, err error) {
	err = t.inFolders(plan, func(real, cut string) error {
		for _, name := range plan.Services {
			note, err := t.unattended(ctx, plan, name, real, cut)
			if err != nil {
				return fmt.Errorf("%s: the new stack was tried and not put in place: %w", name, err)
			}
			if note != "" {
				notes = append(notes, name+": "+note)
			}
		}
		return nil
	})
	return notes, err
}

func (t *Trial) unattended(ctx context.Context, plan *Plan, name, real, cut string) (note string, err error) {
	a := t.attempt(name, trialUser)
	a.Dir = real
	if a.Modules, err = t.modules(plan, name); err != nil {
		return "", err
	}
	got, err := t.run(ctx, a)
	if err != nil {
		return "", err
	}
	if err := got.refuses(); err != nil {
		return "", err
	}
	if plan.Action != Enable || t.Away {
		return "", nil
	}
	if got.Auth == "authinfo_unavail" {
		return "", errors.New("authd made no decision: journalctl -u sallyport-authd -n 20 says why")
	}
	// The same stack with authd out of reach: if nothing is different, it was not
	// authd that refused.
	a.Dir, a.Modules = cut, nil
	without, err := t.run(ctx, a)
	if err != nil {
		return "", err
	}
	if without.Auth == got.Auth {
		return fmt.Sprintf("it refuses an unknown account (%s) before the module is asked, so the trial says nothing of the module; --try USER logs in for real", got.Auth), nil
	}
	return "", nil
}

// refuses says whether an attempt ended in a clean refusal.
func (o Outcome) refuses() error {
	if o.Fault != "" {
		return errors.New(o.Fault)
	}
	for step, code := range map[string]string{"authenticate": o.Auth, "acct_mgmt": o.Account} {
		switch code {
		case "open_err", "symbol_err", "service_err", "system_err", "buf_err", "abort", "module_unknown":
			return fmt.Errorf("%s ended with PAM_%s: a module is missing, or has wrong arguments; the system's log says which", step, strings.ToUpper(code))
		}
	}
	if o.Auth == success {
		return errors.New("it let an account in that does not exist")
	}
	return nil
}

const success = "success"

// Attended lets a person log in through the new stack of each service, at this
// terminal.
func (t *Trial) Attended(ctx context.Context, plan *Plan, user string, say func(service string)) error {
	return t.inFolders(plan, func(string, string) error {
		for _, name := range plan.Services {
			say(name)
			a := t.attempt(name, user)
			a.Dir, a.Asks = filepath.Join(t.Dir, "whole"), true
			got, err := t.run(ctx, a)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if got.Fault != "" || got.Auth != success || got.Account != success {
				return fmt.Errorf("%s: %s did not get in through the new stack: authenticate %s, account %s %s", name, user, got.Auth, orDash(got.Account), got.Fault)
			}
		}
		return nil
	})
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// attempt is a login as the service's program would begin it.
func (t *Trial) attempt(name, user string) Attempt {
	a := Attempt{Service: name, User: user}
	conf := t.Config
	if conf == nil {
		conf = &config.Config{} // the built-in settings
	}
	switch s := conf.Service(name, false); s.Person {
	case config.PersonCaller:
		a.User, a.Caller = "root", user
	case config.PersonInvoking:
		a.RUser = user
	default:
		a.Key = name == sshd && s.FirstFactor == config.FirstFactorSSH && user != trialUser
	}
	return a
}

// modules are the files of all modules of a service's stacks, without which
// libpam would refuse somebody.
func (t *Trial) modules(plan *Plan, name string) ([]string, error) {
	s, err := t.loader(plan).Load(name)
	if err != nil {
		return nil, err
	}
	if len(s.Faults) > 0 {
		return nil, errors.New(s.Faults[0])
	}
	var paths []string
	for _, typ := range []pamstack.Type{pamstack.Auth, pamstack.Account, pamstack.Session} {
		for _, l := range s.Lines(typ) {
			found := []string{l.Module}
			if !filepath.IsAbs(l.Module) {
				found = t.Doctor.FindModule(l.Module)
			}
			if len(found) == 0 {
				if l.Tolerates("module_unknown") {
					continue
				}
				return nil, fmt.Errorf("%s names %s, which is not installed: libpam would refuse everyone", l.At(), l.Module)
			}
			paths = append(paths, found[0])
		}
	}
	slices.Sort(paths)
	return slices.Compact(paths), nil
}

func (t *Trial) loader(plan *Plan) pamstack.Loader {
	l := pamstack.Loader{Root: t.Root, Instead: map[string]string{}}
	for _, f := range plan.Files {
		if f.After != nil {
			l.Instead[f.Path] = *f.After
		}
	}
	return l
}

// inFolders makes folders with all service files as the plan leaves them:
// "whole" as they are, "real" with the modules that check first factors
// replaced by ones that are content, so that what comes after them is reached
// with nobody there, "cut" the same with authd out of reach.
func (t *Trial) inFolders(plan *Plan, do func(real, cut string) error) error {
	defer os.RemoveAll(t.Dir)
	loader := t.loader(plan)
	names, err := loader.Services()
	if err != nil {
		return err
	}
	names = slices.Compact(slices.Sorted(slices.Values(append(names, plan.Services...))))
	content, cut := asIs, asIs
	if plan.Action == Enable {
		content = firstFactorGiven
		cut = func(l pamstack.Line) pamstack.Line { return authdAway(firstFactorGiven(l)) }
	}
	for folder, change := range map[string]func(pamstack.Line) pamstack.Line{"whole": asIs, "real": content, "cut": cut} {
		dir := filepath.Join(t.Dir, folder)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make a folder for the trial: %w", err)
		}
		for _, name := range names {
			text, err := loader.Text(name)
			if err != nil {
				continue // what cannot be read is not part of these stacks, or Load says so
			}
			lines, _ := pamstack.Parse(name, text)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(write(lines, dir, change)), 0o600); err != nil {
				return fmt.Errorf("write a stack for the trial: %w", err)
			}
		}
	}
	return do(filepath.Join(t.Dir, "real"), filepath.Join(t.Dir, "cut"))
}

func asIs(l pamstack.Line) pamstack.Line { return l }

func firstFactorGiven(l pamstack.Line) pamstack.Line {
	if (l.Type == pamstack.Auth || l.Type == pamstack.Account) && slices.Contains(doctor.FirstFactors, l.Name()) {
		l.Module, l.Args = "pam_permit.so", nil
	}
	return l
}

func authdAway(l pamstack.Line) pamstack.Line {
	if l.Name() == doctor.Module {
		l.Args = append(slices.Clone(l.Args), "socket_dir="+nowhere)
	}
	return l
}

// write is the text of a service file in dir with its lines changed. What it
// includes is named by its path: libpam looks for other names in /etc/pam.d.
func write(lines []pamstack.Line, dir string, change func(pamstack.Line) pamstack.Line) string {
	var b strings.Builder
	for _, l := range lines {
		if l.Includes() && !filepath.IsAbs(l.Module) {
			l.Module = filepath.Join(dir, l.Module)
		}
		if l.Control == "@include" {
			b.WriteString("@include " + l.Module + "\n")
			continue
		}
		l = change(l)
		kind := string(l.Type)
		if l.Silent {
			kind = "-" + kind
		}
		b.WriteString(strings.Join(append([]string{kind, l.Control, l.Module}, l.Args...), " ") + "\n")
	}
	return b.String()
}

// maxOutcome bounds what an attempt says, in bytes.
const maxOutcome = 64 << 10

// run makes an attempt in a process of its own.
func (t *Trial) run(ctx context.Context, a Attempt) (Outcome, error) {
	var out Outcome
	order, err := json.Marshal(a)
	if err != nil {
		return out, fmt.Errorf("try the stack: %w", err)
	}
	limit := cmp.Or(t.Limit, trialTime)
	if a.Asks {
		limit = 10 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.Program, "pam", "attempt", string(order))
	cmd.WaitDelay = time.Second
	var stdout, stderr bytes.Buffer
	cmd.Stderr = &stderr
	read, write, err := os.Pipe()
	if err != nil {
		return out, fmt.Errorf("try the stack: %w", err)
	}
	defer read.Close()
	cmd.ExtraFiles = []*os.File{write}
	if a.Asks {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	}
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return out, fmt.Errorf("try the stack: %w", err)
	}
	// What a module leaves running may hold the pipe.
	if deadline, ok := ctx.Deadline(); ok {
		err = read.SetReadDeadline(deadline)
	}
	if err == nil {
		_, err = io.Copy(&stdout, io.LimitReader(read, maxOutcome))
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		cancel()
	}
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return out, fmt.Errorf("the transaction did not end within %s", limit)
	case err != nil:
		return out, fmt.Errorf("the transaction crashed: %w: %s", err, lastLine(stderr.String()))
	}
	if err := json.Unmarshal(stdout.Bytes(), &out); err != nil {
		return out, fmt.Errorf("the transaction said nothing: %w", err)
	}
	return out, nil
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
