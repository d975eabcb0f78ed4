// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/directory"
	"github.com/sallyport-mfa/sallyport/internal/match"
	"github.com/sallyport-mfa/sallyport/sshgw/config"
	"github.com/sallyport-mfa/sallyport/sshgw/inventory"
	"github.com/sallyport-mfa/sallyport/sshgw/policy"
	"github.com/sallyport-mfa/sallyport/sshgw/route"
)

// asked is what explain is told.
type asked struct {
	user, target, login, key, source, at         string
	groups                                       []string
	jump, shell, agent, x11, asJSON              bool
	exec, subsystem, read, write, env            string
	forward, forwardUnix, listenAt, listenAtUnix string
}

// explainCommand says which rule decides, and why.
func explainCommand(path *string) *cobra.Command {
	var q asked
	c := &cobra.Command{
		Use:   "explain --user NAME --target NAME",
		Short: "Say which rule decides, and why",
		Long: `Say which rule decides whether a user reaches a target, what it permits there, and
why each rule before it does not decide. Nobody logs in and no target is asked.

Without --login it is the login of who names none; with --jump it is not known, as in
ssh -J. Without --group the user's groups are those that this machine knows. Without
--source the source is not known. Exit code 0 is a yes to all that was asked, 1 a no.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if q.user == "" {
				return cli.Usagef("--user is missing: who is to reach the target")
			}
			if q.target == "" {
				return cli.Usagef("--target is missing: its name, an alias or its address")
			}
			conf, err := config.LoadWithoutTrust(*path)
			if err != nil {
				return failed(err)
			}
			query, err := q.query(conf, cmd.Flags().Changed("group"))
			if err != nil {
				return err
			}
			return failed(q.answer(terminal(cmd), conf.Rules().Explain(cmd.Context(), query), query))
		},
	}
	f := c.Flags()
	f.StringVar(&q.user, "user", "", "user, by the name that the gateway's machine knows (required)")
	f.StringVar(&q.target, "target", "", "target, by name, alias or address (required)")
	f.StringVar(&q.login, "login", "", "account at the target")
	f.StringVar(&q.key, "key", "", "fingerprint of the key that was proven, SHA256:...")
	f.StringVar(&q.source, "source", "", "address that the connection comes from")
	f.StringVar(&q.at, "time", "", "time, such as \"2026-12-31 23:30\" or RFC 3339 (default now)")
	f.StringSliceVar(&q.groups, "group", nil, "group of the user, in place of what this machine knows; may repeat")
	f.BoolVar(&q.jump, "jump", false, "what a jump meets: the login is not known")
	f.BoolVar(&q.shell, "shell", false, "may there be a shell?")
	f.BoolVar(&q.agent, "agent", false, "may the agent be forwarded?")
	f.BoolVar(&q.x11, "x11", false, "may X11 be forwarded?")
	f.StringVar(&q.exec, "exec", "", "may this `command` run?")
	f.StringVar(&q.subsystem, "subsystem", "", "may this subsystem run?")
	f.StringVar(&q.read, "sftp-read", "", "may the file at this `path` be read by sftp?")
	f.StringVar(&q.write, "sftp-write", "", "may the file at this `path` be written by sftp?")
	f.StringVar(&q.forward, "forward", "", "may `host:port` be reached from the target?")
	f.StringVar(&q.forwardUnix, "forward-unix", "", "may the Unix socket at this `path` be reached?")
	f.StringVar(&q.listenAt, "listen", "", "may the target listen at `host:port`?")
	f.StringVar(&q.listenAtUnix, "listen-unix", "", "may the target listen at the Unix socket at this `path`?")
	f.StringVar(&q.env, "env", "", "may this `variable` be passed?")
	f.BoolVar(&q.asJSON, "json", false, "print JSON")
	completeTargets(c, "target", path)
	return c
}

func (q *asked) query(conf *config.Config, groupsGiven bool) (policy.Query, error) {
	out := policy.Query{Account: directory.Account{Name: q.user}, Time: time.Now(), Key: q.key}
	t, err := route.Named(conf.Inventory(), q.target)
	if err != nil {
		return out, failed(cli.WithHint(err, "targets.files of "+conf.Path+" names the files of targets"))
	}
	out.Target = t
	switch {
	case q.jump && q.login != "":
		return out, cli.Usagef("--jump and --login exclude each other: a jump does not say its login")
	case q.jump:
	case q.login == "":
		out.Login = route.LoginAt(t, q.user)
	case !inventory.Login(q.login):
		return out, cli.Usagef("--login %q is no name of an account", q.login)
	default:
		out.Login = q.login
	}
	if q.key != "" {
		if out.Key, err = match.ParseFingerprint(q.key); err != nil {
			return out, cli.Usagef("--key: %v", err)
		}
	}
	if q.source != "" {
		if out.Source, err = netip.ParseAddr(q.source); err != nil {
			return out, cli.Usagef("--source %q is no IP address", q.source)
		}
	}
	if q.at != "" {
		if out.Time, err = parseTime(q.at); err != nil {
			return out, err
		}
	}
	if groupsGiven {
		out.InGroup = func(_ context.Context, g string) (bool, error) { return slices.Contains(q.groups, g), nil }
		return out, nil
	}
	people, err := directory.NewNSS()
	if err != nil {
		return out, failed(err)
	}
	out.InGroup = func(ctx context.Context, group string) (bool, error) {
		account, err := people.ByName(ctx, q.user)
		if errors.Is(err, directory.ErrNoSuchUser) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		return people.InGroup(ctx, account, group)
	}
	return out, nil
}

// parseTime reads a time; without a zone it is this machine's.
func parseTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05", "2006-01-02 15:04", "2006-01-02T15:04:05", "2006-01-02T15:04", time.DateOnly} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, cli.Usagef("--time %q is no time such as \"2026-12-31 23:30\"", s)
}

// detail is one thing that was asked about beside the target.
type detail struct {
	What    string `json:"what"`
	Value   string `json:"value,omitempty"`
	Allowed bool   `json:"allowed"`
	Exact   bool   `json:"exact,omitempty"`
}

func (q *asked) details(g *policy.Grant) ([]detail, error) {
	var out []detail
	add := func(asked bool, what, value string, allowed, exact bool) {
		if asked {
			out = append(out, detail{what, value, allowed, exact})
		}
	}
	add(q.shell, "shell", "", g.Shell, false)
	add(q.agent, "agent", "", g.Agent, false)
	add(q.x11, "x11", "", g.X11, false)
	add(q.exec != "", "exec", q.exec, g.MayExec(q.exec), false)
	add(q.subsystem != "", "subsystem", q.subsystem, g.MaySubsystem(q.subsystem), false)
	add(q.read != "", "sftp_read", q.read, g.MayRead(q.read), false)
	add(q.write != "", "sftp_write", q.write, g.MayWrite(q.write), false)
	add(q.env != "", "env", q.env, g.MayEnv(q.env), false)
	if q.forward != "" {
		host, port, err := hostPort("--forward", q.forward, "")
		if err != nil {
			return nil, err
		}
		may, exact := g.MayForward(host, port)
		// What is recorded goes only where the rule says so by name.
		add(true, "forward", q.forward, may && (exact || g.Record != policy.RecordRequired), exact)
	}
	may, exact := g.MayForwardUnix(q.forwardUnix)
	add(q.forwardUnix != "", "forward_unix", q.forwardUnix, may && (exact || g.Record != policy.RecordRequired), exact)
	if q.listenAt != "" {
		host, port, err := hostPort("--listen", q.listenAt, "localhost")
		if err != nil {
			return nil, err
		}
		add(true, "listen", q.listenAt, g.MayListen(host, port), false)
	}
	add(q.listenAtUnix != "", "listen_unix", q.listenAtUnix, g.MayListenUnix(q.listenAtUnix), false)
	return out, nil
}

func hostPort(flag, s, bare string) (string, uint16, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil && bare != "" && !strings.Contains(s, ":") {
		host, port, err = bare, s, nil
	}
	n, errPort := strconv.ParseUint(port, 10, 16)
	if err != nil || errPort != nil {
		return "", 0, cli.Usagef("%s %q is not of the form host:port", flag, s)
	}
	return host, uint16(n), nil
}

func (q *asked) answer(t *cli.Terminal, e policy.Explanation, query policy.Query) error {
	details, err := q.details(&e.Grant)
	if err != nil {
		return err
	}
	yes := e.Grant.Allowed
	for _, d := range details {
		yes = yes && d.Allowed
	}
	if q.asJSON {
		err = t.JSON(explanationJSON(e, query, details))
	} else {
		for line := range strings.Lines(e.Text()) {
			t.Printf("%s\n", strings.TrimSuffix(line, "\n"))
		}
		for _, d := range details {
			verdict := "refused"
			if d.Allowed {
				verdict = "permitted"
			}
			t.Printf("%s %s: %s\n", d.What, d.Value, verdict)
		}
	}
	if err != nil {
		return err
	}
	if !yes {
		return cli.ErrReported
	}
	return nil
}

// explanationJSON is what explain --json prints.
func explanationJSON(e policy.Explanation, q policy.Query, details []detail) any {
	type condition struct {
		Name  string   `json:"name"`
		Want  []string `json:"want"`
		Have  string   `json:"have"`
		Truth string   `json:"truth"`
	}
	type step struct {
		Index      int         `json:"index"`
		Name       string      `json:"name"`
		At         string      `json:"at"`
		Action     string      `json:"action"`
		Truth      string      `json:"truth"`
		Matched    bool        `json:"matched"`
		Verdict    string      `json:"verdict"`
		Conditions []condition `json:"conditions"`
	}
	steps := []step{}
	for _, s := range e.Steps {
		conditions := []condition{}
		for _, c := range s.Conditions {
			conditions = append(conditions, condition{c.Name, c.Want, c.Have, c.Truth.String()})
		}
		steps = append(steps, step{s.Index + 1, s.Rule.Name, s.Rule.At(), string(s.Rule.Action), s.Truth.String(), s.Matched, s.Verdict(), conditions})
	}
	if details == nil {
		details = []detail{}
	}
	g := e.Grant
	return struct {
		User      string   `json:"user"`
		Target    string   `json:"target"`
		Host      string   `json:"host"`
		Login     string   `json:"login,omitempty"`
		Allowed   bool     `json:"allowed"`
		Rule      string   `json:"rule,omitempty"`
		Reason    string   `json:"reason"`
		Outcome   string   `json:"outcome"`
		Raw       bool     `json:"raw"`
		Unsettled bool     `json:"unsettled"`
		Record    string   `json:"record,omitempty"`
		StepUp    bool     `json:"step_up"`
		Steps     []step   `json:"steps"`
		Details   []detail `json:"details"`
	}{q.Account.Name, q.Target.Name, net.JoinHostPort(q.Target.Host, fmt.Sprint(q.Target.Port)), q.Login, g.Allowed, g.Rule, g.Reason, e.Outcome(),
		g.Raw, g.Unsettled, string(g.Record), g.StepUp, steps, details}
}
