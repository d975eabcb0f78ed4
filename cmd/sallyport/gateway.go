// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/sshgw/control"
	"github.com/sallyport-mfa/sallyport/sshgw/roster"
)

const defaultControlSocket = "/run/sallyport/" + control.SocketName

// gatewayTimeout bounds each question to the gateway.
const gatewayTimeout = 10 * time.Second

// atGateway is the commands that talk to the SSH gateway of this machine.
type atGateway struct {
	*app
	socket string
}

func (a *app) gatewayCommand() *cobra.Command {
	g := &atGateway{app: a}
	c := &cobra.Command{
		Use: "gateway", Short: "Look after the SSH gateway of this machine",
		Long: `Look after the SSH gateway of this machine: who is connected and what they do, ending
a session, how the gateway is. It is for root and the group sallyport-sshgw. What the
gateway does with its files (check, explain, keys) is said by sallyport-sshgw itself.`,
	}
	c.PersistentFlags().StringVar(&g.socket, "socket", defaultControlSocket, "where the gateway answers")
	sessions := &cobra.Command{Use: "sessions", Short: "Who is connected"}
	sessions.AddCommand(g.sessionsList(), g.sessionsEnd())
	c.AddCommand(sessions, g.statusCommand(), g.reloadCommand())
	return c
}

func (g *atGateway) client() *control.Client { return &control.Client{Path: g.socket} }

// gatewayAsked says what to do where the gateway could not be asked.
func gatewayAsked(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return cli.WithHint(err, "it is for root and the group sallyport-sshgw")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return cli.WithHint(err, `no gateway runs here; start it with "systemctl start sallyport-sshgw", and see "journalctl -u sallyport-sshgw" if it does not stay`)
	}
	return err
}

func (g *atGateway) sessionsList() *cobra.Command {
	var user string
	var watch bool
	var every time.Duration
	c := &cobra.Command{
		Use: "list", Short: "List who is connected, from where, to which targets", Args: args(),
		Long: `List who is connected, from where, to which targets and since when, the oldest first.
With --watch the list is shown again and again until it is interrupted; with --json
it is then one line each time, and it names keys, rules, recordings and each channel.`,
		RunE: func(c *cobra.Command, _ []string) error {
			if !watch {
				return g.showSessions(c.Context(), user, g.JSON)
			}
			if every <= 0 {
				return cli.Usagef("--every %s is no time to wait", every)
			}
			return g.watchSessions(c.Context(), user, every)
		},
	}
	c.Flags().StringVar(&user, "user", "", "of one user")
	c.Flags().BoolVar(&watch, "watch", false, "show it again and again")
	c.Flags().DurationVar(&every, "every", 2*time.Second, "how often, with --watch")
	g.jsonFlag(c)
	g.completeUsers(c)
	return c
}

func (g *atGateway) watchSessions(ctx context.Context, user string, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if g.Rich && !g.json {
			_, _ = g.Out.Write([]byte("\x1b[H\x1b[2J"))
			g.Printf("%s\n\n", moment(g.Now()))
		}
		if err := g.showSessions(ctx, user, g.JSONLine); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (g *atGateway) showSessions(ctx context.Context, user string, asJSON func(any) error) error {
	ctx, cancel := context.WithTimeout(ctx, gatewayTimeout)
	defer cancel()
	list, err := g.client().Sessions(ctx, user)
	if err != nil {
		return gatewayAsked(err)
	}
	if g.json {
		return asJSON(list)
	}
	return g.sessionTable(list)
}

func (g *atGateway) sessionTable(list []roster.Connection) error {
	rows := make([][]string, 0, len(list))
	for _, s := range list {
		rows = append(rows, []string{s.ID, s.User, s.Source, strings.Join(s.Targets, ", "), doing(s), moment(s.Since),
			size(s.BytesIn), size(s.BytesOut), s.Factor, recorded(s)})
	}
	return g.Table([]string{"ID", "USER", "FROM", "TARGETS", "CHANNELS", "SINCE", "IN", "OUT", "FACTOR", "RECORDED"}, rows)
}

// doing is the kinds of the open channels, with how many there are of each.
func doing(s roster.Connection) string {
	var kinds []string
	count := map[string]int{}
	for _, c := range s.Channels {
		if count[c.Kind]++; count[c.Kind] == 1 {
			kinds = append(kinds, c.Kind)
		}
	}
	for i, k := range kinds {
		if n := count[k]; n > 1 {
			kinds[i] = k + "×" + strconv.Itoa(n)
		}
	}
	return strings.Join(kinds, ", ")
}

func recorded(s roster.Connection) string {
	n := 0
	for _, c := range s.Channels {
		if c.Recording != "" {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// size is a number of bytes for people.
func size(n int64) string {
	if n < 1024 {
		return strconv.FormatInt(n, 10)
	}
	value, unit := float64(n), ""
	for _, u := range []string{"K", "M", "G", "T", "P"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, u
	}
	return fmt.Sprintf("%.1f%s", value, unit)
}

func (g *atGateway) sessionsEnd() *cobra.Command {
	var user string
	c := &cobra.Command{
		Use: "end [ID]", Short: "End a session, or all of a user", Args: cobra.MaximumNArgs(1),
		Long: `End a session by its id in the list, or with --user all of a user: the connection is
closed at once, with everything that runs in it. The person may connect again unless
a rule or a removed key prevents it. The gateway's log says who ended it.`,
		ValidArgsFunction: g.completeIDs,
		RunE: func(c *cobra.Command, args []string) error {
			byUser := c.Flags().Changed("user")
			switch {
			case (len(args) == 1) == byUser:
				return cli.Usagef("name a session, or a user by --user")
			case byUser && user == "":
				return cli.Usagef("--user is empty: name the user whose sessions are to end")
			case !byUser && args[0] == "":
				return cli.Usagef("the id of the session is empty; \"sallyport gateway sessions list\" has the ids")
			}
			ctx, cancel := context.WithTimeout(c.Context(), gatewayTimeout)
			defer cancel()
			var list []roster.Connection
			var err error
			if user != "" {
				list, err = g.client().EndUser(ctx, user)
			} else {
				list, err = g.client().End(ctx, args[0])
			}
			if err != nil {
				return gatewayAsked(err)
			}
			if g.json {
				err = g.JSON(list)
			} else if len(list) > 0 {
				g.Printf("ended: %d\n", len(list))
			}
			if len(list) == 0 && err == nil {
				return cli.WithHint(fmt.Errorf("nobody by the name of %q is connected, and nothing was ended", user), `"sallyport gateway sessions list" has the names`)
			}
			return err
		},
	}
	c.Flags().StringVar(&user, "user", "", "end all of this user")
	g.jsonFlag(c)
	g.completeUsers(c)
	return c
}

// completeIDs offers the ids of who is connected, described.
func (g *atGateway) completeIDs(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var out []string
	if len(args) == 0 {
		for _, s := range g.connected(c.Context()) {
			out = append(out, s.ID+"\t"+cli.Escape(s.User+" from "+s.Source+" "+strings.Join(s.Targets, ", ")))
		}
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

func (g *atGateway) completeUsers(c *cobra.Command) {
	err := c.RegisterFlagCompletionFunc("user", func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		seen := map[string]bool{}
		var out []string
		for _, s := range g.connected(c.Context()) {
			if !seen[s.User] {
				seen[s.User] = true
				out = append(out, cli.Escape(s.User))
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag is defined by the caller
	}
}

// connected is who is connected, nobody where the gateway cannot be asked.
func (g *atGateway) connected(ctx context.Context) []roster.Connection {
	if ctx == nil {
		ctx = context.Background()
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	list, err := g.client().Sessions(ctx, "")
	if err != nil {
		return nil // completion has nowhere to say why
	}
	return list
}

func (g *atGateway) statusCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "status", Short: "Say how the gateway is", Args: args(),
		Long: `Say how the gateway is: since when it runs, whether a changed configuration is not in
force and why, how many are connected, and whether authd and the helper for passwords
answer. The exit code is 1 if something is wrong.`,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), gatewayTimeout)
			defer cancel()
			s, err := g.client().Status(ctx)
			if err != nil {
				return gatewayAsked(err)
			}
			return g.showStatus(s)
		},
	}
	g.jsonFlag(c)
	return c
}

func (g *atGateway) reloadCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "reload", Short: "Make the gateway read its configuration again", Args: args(),
		Long: `Make the gateway read its configuration again, and say what is wrong with it: then the
one before stays in force. Sessions go on; a channel that is opened from then on meets
the new rules.`,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(c.Context(), gatewayTimeout)
			defer cancel()
			s, err := g.client().Reload(ctx)
			if err != nil {
				return gatewayAsked(err)
			}
			return g.showStatus(s)
		},
	}
	g.jsonFlag(c)
	return c
}

func (g *atGateway) showStatus(s control.Status) error {
	if g.json {
		if err := g.JSON(s); err != nil {
			return err
		}
	} else if err := g.fields(gatewayRows(s)...); err != nil {
		return err
	}
	if s.Config.ReloadError != "" || s.Authd != "" || s.Password != nil && *s.Password != "" {
		return cli.ErrReported
	}
	return nil
}

func gatewayRows(s control.Status) []string {
	rows := []string{"WHAT", "STATE", "Version", s.Version + ", started " + moment(s.Started),
		"Listens at", strings.Join(s.Listen, ", "),
		"Configuration", fmt.Sprintf("%s, read %s: %s, %s", s.Config.File, moment(s.Config.Loaded), cli.Count(s.Config.Rules, "rule"), cli.Count(s.Config.Targets, "target"))}
	if s.Config.ReloadError != "" {
		rows = append(rows, "Reload", "failed "+moment(s.Config.ReloadFailed)+", what was in force before still is: "+s.Config.ReloadError)
	}
	if len(s.Config.Restart) > 0 {
		rows = append(rows, "Waits for a restart", strings.Join(s.Config.Restart, ", "))
	}
	for _, k := range s.HostKeys {
		rows = append(rows, "Host key", k)
	}
	rows = append(rows,
		"Connections", fmt.Sprintf("%d of %d, %d not authenticated yet", s.Connections, s.Limit, s.Handshakes),
		"Channels", fmt.Sprintf("%d, %d recorded", s.Channels, s.Recordings),
		"Carried", size(s.BytesIn)+" in, "+size(s.BytesOut)+" out",
		"authd", gatewayPart(s.Authd))
	if s.Password != nil {
		rows = append(rows, "Passwords", gatewayPart(*s.Password))
	}
	if !s.Draining.IsZero() {
		rows = append(rows, "Draining", "no new connections; those that are open may stay until "+moment(s.Draining))
	}
	return rows
}

func gatewayPart(err string) string {
	if err == "" {
		return up
	}
	return withReason(down, err)
}
