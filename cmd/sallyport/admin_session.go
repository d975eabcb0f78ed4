// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const (
	sessionsPath         = "/sallyport/v1/admin/sessions"
	rememberedPolicyPath = "/sallyport/v1/admin/policy/remembered_devices"
)

// rememberedSession is a remembered login as the verifier lists it.
type rememberedSession struct {
	SessionID string                    `json:"session_id"`
	Status    string                    `json:"status"`
	User      struct{ Username string } `json:"user"`
	Host      struct{ Name string }     `json:"host"`
	Factor    string                    `json:"factor"`
	Service   string                    `json:"service"`
	Created   int64                     `json:"created"`
	Expires   int64                     `json:"expires"`
	Uses      int                       `json:"uses"`
}

func (s *admin) sessionCommand() *cobra.Command {
	c := &cobra.Command{Use: "session", Short: "Remembered logins"}
	c.AddCommand(s.sessionList(), s.sessionEnd())
	return c
}

func (s *admin) sessionList() *cobra.Command {
	var user, host string
	var all bool
	c := &cobra.Command{
		Use: "list", Short: "List remembered logins, newest first", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			params := url.Values{}
			for name, value := range map[string]string{"username": user, "host_id": host} {
				if value != "" {
					params.Set(name, value)
				}
			}
			if all {
				params.Set("all", flagged(all))
			}
			sessions, err := s.list(c.Context(), "list remembered logins", sessionsPath, params)
			if err != nil {
				return err
			}
			head := []string{"SESSION", "USER", "HOST", "SERVICE", "FACTOR", "STATUS", "SINCE", "UNTIL", "USES"}
			return present(s.app, sessions, head, func(r rememberedSession) []string {
				return []string{r.SessionID, r.User.Username, r.Host.Name, r.Service, r.Factor, r.Status,
					unix(r.Created), unix(r.Expires), fmt.Sprint(r.Uses)}
			})
		},
	}
	c.Flags().StringVar(&user, "user", "", "of one person")
	c.Flags().StringVar(&host, "host", "", "on one host, by its id")
	c.Flags().BoolVar(&all, "all", false, "also those that are over")
	return c
}

func (s *admin) sessionEnd() *cobra.Command {
	var user string
	c := &cobra.Command{
		Use: "end [SESSION]", Short: "End a remembered login, or all of a person; the next sudo asks again", Args: cobra.MaximumNArgs(1),
		Long: `End a remembered login by its id, or with --user all of a person.

The login itself goes on: sudo and su in it ask for the second factor again.`,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case (len(args) == 1) == (user != ""):
				return cli.Usagef("name a session, or a person by --user")
			case user != "":
				return s.endSessionsOf(c.Context(), user)
			}
			return s.remove(c.Context(), fmt.Sprintf("session %q", args[0]), sessionsPath+"/"+url.PathEscape(args[0]))
		},
	}
	c.Flags().StringVar(&user, "user", "", "end all of this person")
	return c
}

func (s *admin) endSessionsOf(ctx context.Context, name string) error {
	_, u, err := s.findUser(ctx, name)
	if err != nil {
		return err
	}
	var raw json.RawMessage
	path := "/sallyport/v1/admin/users/" + url.PathEscape(u.UserID) + "/sessions"
	if err := s.call(ctx, "end the remembered logins of "+name, http.MethodDelete, path, nil, &raw); err != nil {
		return err
	}
	if s.json {
		return s.JSON(raw)
	}
	var out struct{ Ended int }
	if err := json.Unmarshal(raw, &out); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	s.Printf("ended: %d\n", out.Ended)
	return nil
}

func (s *admin) policyRememberedDevices() *cobra.Command {
	var on, off, ask, silent bool
	var valid span
	var factors []string
	c := &cobra.Command{
		Use: "remembered-devices", Short: "Show or set how long a login is remembered for sudo and su", Args: args(),
		Long: `Show the policy for remembered logins, or set what is named.

Where it is on, somebody who has proved a second factor at sshd or at the console
is not asked again by sudo and su in that login. --off and a shorter --for hold
for the logins that are remembered already.`,
		RunE: func(c *cobra.Command, _ []string) error {
			params := url.Values{}
			if on || off {
				params.Set("enabled", flagged(on))
			}
			if ask || silent {
				params.Set("user_choice", flagged(ask))
			}
			if valid != 0 {
				params.Set("max_seconds", valid.seconds())
			}
			if len(factors) > 0 {
				params.Set("factors", strings.Join(factors, ","))
			}
			return s.rememberedPolicy(c.Context(), params)
		},
	}
	c.Flags().BoolVar(&on, "on", false, "remember logins")
	c.Flags().BoolVar(&off, "off", false, "remember none, and end those that are")
	c.Flags().BoolVar(&ask, "ask", false, "ask the person at each login (the default)")
	c.Flags().BoolVar(&silent, "silent", false, "remember without asking")
	spanFlag(c, &valid, "for", 0, "how long, 1s to 30d (at first 8h)")
	c.Flags().StringSliceVar(&factors, "factor", nil, "factors that may be remembered, by their names in the log; may repeat")
	c.MarkFlagsMutuallyExclusive("on", "off")
	c.MarkFlagsMutuallyExclusive("ask", "silent")
	return c
}

func (s *admin) rememberedPolicy(ctx context.Context, params url.Values) error {
	method, what := http.MethodGet, "read the policy for remembered logins"
	if len(params) > 0 {
		method, what = http.MethodPost, "set the policy for remembered logins"
	}
	var raw json.RawMessage
	if err := s.call(ctx, what, method, rememberedPolicyPath, params, &raw); err != nil {
		return err
	}
	if s.json {
		return s.JSON(raw)
	}
	var p struct {
		Enabled    bool     `json:"enabled"`
		MaxSeconds int      `json:"max_seconds"`
		UserChoice bool     `json:"user_choice"`
		Factors    []string `json:"factors"`
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	valid := span(time.Duration(p.MaxSeconds) * time.Second)
	return s.fields("POLICY", "remembered_devices", "enabled", yesNo(p.Enabled),
		"for", valid.String(), "the person is asked", yesNo(p.UserChoice),
		"factors", strings.Join(p.Factors, ", "))
}
