// SPDX-License-Identifier: Apache-2.0

package session

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/menu"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
)

// gatewaySession serves a session at the gateway itself: its commands, and the list of targets.
func (c *connection) gatewaySession(ctx context.Context, ch ssh.NewChannel) error {
	return c.serveSession(ctx, ch)
}

// help is what `ssh USER@GATEWAY help` says.
func (c *connection) help() string {
	lines := [][2]string{
		{"ssh USER%TARGET@GATEWAY", "a session at a target; USER%LOGIN@TARGET@GATEWAY as LOGIN"},
		{"ssh -J USER@GATEWAY TARGET", "the same, by a jump"},
		{"ssh USER@GATEWAY list", "your targets; --json for programs"},
		{"ssh USER@GATEWAY mfa TARGET", "answer a target's second factor ahead; -t to type a passcode"},
		{"ssh USER@GATEWAY help", "this"},
	}
	name := c.config().Name
	width := 0
	for i := range lines {
		for j := range lines[i] {
			lines[i][j] = strings.ReplaceAll(lines[i][j], "GATEWAY", name)
		}
		width = max(width, len(lines[i][0]))
	}
	var b strings.Builder
	b.WriteString("Without a command, a list of your targets to choose from.\n\n")
	for _, l := range lines {
		fmt.Fprintf(&b, "  %-*s    %s\n", width, l[0], l[1])
	}
	return b.String()
}

// gateway runs a command of the gateway's own, or lets the person choose a target.
func (s *sessionChannel) gateway(ctx context.Context, p program, reply func(bool)) (name, login string, chosen bool) {
	reply(true)
	c := s.conn
	if c.id.Limits.Command != "" {
		s.refuse(c.denied(ctx, "", "", "key_options", "your key is for a command at a target: name the target"))
		return "", "", false
	}
	out := &cli.Terminal{Out: s.text(s.ch), Err: s.text(s.errs), Now: c.service.Now}
	words := strings.Fields(p.command)
	status := cli.ExitDone
	switch {
	case p.kind == "shell" && s.pty != nil:
		choice, err := s.choose(ctx)
		if err == nil {
			return choice.Name, choice.Login, true
		}
		if !errors.Is(err, menu.ErrLeft) {
			status = out.Fail("sallyport", err)
		}
	case p.kind == "shell":
		out.Notef("sallyport: there is no terminal to choose a target at; name one\n\n")
		_, _ = io.WriteString(out.Err, c.help())
		status = cli.ExitUsage
	case p.kind == "subsystem":
		s.refuse(c.denied(ctx, "", "", "no_target", "the gateway itself has no files: name a target", slog.String("command", short(p.command))))
		return "", "", false
	case len(words) == 1 && words[0] == "help":
		_, _ = io.WriteString(out.Out, c.help())
	case len(words) > 0 && words[0] == "list" && (len(words) == 1 || len(words) == 2 && words[1] == "--json"):
		status = s.list(ctx, out, len(words) == 2)
	case len(words) > 0 && len(words) <= 2 && words[0] == "mfa":
		status = s.mfa(ctx, out, words[1:])
	default:
		out.Notef("sallyport: the gateway has no command %s\n\n", short(p.command))
		_, _ = io.WriteString(out.Err, c.help())
		status = cli.ExitUsage
	}
	s.exit(uint32(status))
	return "", "", false
}

// text is a stream for lines of text, which a terminal that is raw wants to be told twice.
func (s *sessionChannel) text(w io.Writer) io.Writer {
	if s.pty == nil {
		return w
	}
	return &carriage{w}
}

// carriage ends lines the way of a terminal.
type carriage struct{ w io.Writer }

func (c *carriage) Write(p []byte) (int, error) {
	if _, err := c.w.Write(bytes.ReplaceAll(p, []byte("\n"), []byte("\r\n"))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// reachable is a target that a rule lets the person reach.
type reachable struct {
	target *inventory.Target
	logins []string
	grant  policy.Grant // of the first login
}

// reachable are the targets that a rule lets the person reach, by name.
func (c *connection) reachable(ctx context.Context) []reachable {
	cfg := c.config()
	var out []reachable
	for _, t := range cfg.Inventory().All() {
		if ctx.Err() != nil {
			break
		}
		logins := t.Logins
		if len(logins) == 0 {
			logins = []string{c.id.Account.Name}
		}
		r := reachable{target: t}
		for _, login := range logins {
			g := c.grant(ctx, cfg, t, login)
			if !g.Allowed {
				continue
			}
			if len(r.logins) == 0 {
				r.grant = g
			}
			r.logins = append(r.logins, login)
		}
		if len(r.logins) > 0 {
			out = append(out, r)
		}
	}
	return out
}

// choose lets the person choose a target.
func (s *sessionChannel) choose(ctx context.Context) (menu.Choice, error) {
	list := s.conn.reachable(ctx)
	if len(list) == 0 {
		return menu.Choice{}, errors.New(s.conn.contact("no rule lets you reach a target"))
	}
	m := &menu.Menu{
		Title: fmt.Sprintf("Where to, %s?", s.conn.id.Account.Name), In: s.ch, Out: s.ch, Size: s.size,
		Plain: s.pty.Term == "dumb" || s.pty.Term == "" || s.pty.Columns == 0 || s.pty.Rows == 0,
	}
	for _, r := range list {
		e := menu.Entry{Name: r.target.Name, Aliases: r.target.Aliases, Logins: r.logins, Description: r.target.Description}
		if r.grant.StepUp {
			e.Note = "asks for a second factor"
		}
		m.Entries = append(m.Entries, e)
	}
	return m.Choose()
}

// list writes the person's targets.
func (s *sessionChannel) list(ctx context.Context, out *cli.Terminal, asJSON bool) int {
	type line struct {
		Name        string            `json:"name"`
		Aliases     []string          `json:"aliases,omitempty"`
		Logins      []string          `json:"logins"`
		Description string            `json:"description,omitempty"`
		Labels      map[string]string `json:"labels,omitempty"`
		StepUp      bool              `json:"step_up"`
		Recorded    bool              `json:"recorded"`
		Raw         bool              `json:"raw"`
	}
	lines := []line{}
	var rows [][]string
	for _, r := range s.conn.reachable(ctx) {
		recorded := r.grant.Record == policy.RecordOn || r.grant.Record == policy.RecordRequired
		lines = append(lines, line{
			r.target.Name, r.target.Aliases, r.logins, r.target.Description, r.target.Labels, r.grant.StepUp, recorded, r.grant.Raw,
		})
		var notes []string
		if r.grant.StepUp {
			notes = append(notes, "second factor")
		}
		if recorded {
			notes = append(notes, "recorded")
		}
		rows = append(rows, []string{r.target.Name, strings.Join(r.logins, ","), strings.Join(notes, ", "), r.target.Description})
	}
	var err error
	if asJSON {
		err = out.JSON(lines)
	} else {
		err = out.Table([]string{"TARGET", "LOGINS", "NOTES", "DESCRIPTION"}, rows)
	}
	return out.Fail("sallyport", err)
}

// mfa asks for the second factor of a target, or of all that have one of their own, so that
// it is answered when they are opened from where nobody can be asked.
func (s *sessionChannel) mfa(ctx context.Context, out *cli.Terminal, names []string) int {
	c := s.conn
	var ways []*way
	if len(names) == 1 {
		login, name := "", names[0]
		if i := strings.LastIndexByte(name, '@'); i >= 0 {
			login, name = name[:i], name[i+1:]
		}
		w, err := c.decide(ctx, name, login)
		if err != nil {
			return out.Fail("sallyport", err)
		}
		ways = append(ways, w)
	} else {
		for _, r := range c.reachable(ctx) {
			if r.grant.StepUp {
				ways = append(ways, &way{target: r.target, login: r.logins[0], grant: r.grant})
			}
		}
	}
	asked := false
	for _, w := range ways {
		if !w.grant.StepUp {
			continue
		}
		asked = true
		if err := c.stepUp(ctx, w, companion{person: s.person(), reads: s.pty == nil}); err != nil {
			return out.Fail("sallyport", err)
		}
		out.Notef("%s: answered.\n", w.target.Name)
	}
	if !asked {
		out.Notef("No second factor of its own is asked for there.\n")
	}
	return cli.ExitDone
}
