// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const usersPath = "/admin/v1/users"

// maxAliases is what the Admin API has parameters for: alias1 to alias8.
const maxAliases = 8

// user is what the commands read of a user of the Admin API.
type user struct {
	UserID        string            `json:"user_id"`
	Username      string            `json:"username"`
	RealName      string            `json:"realname"`
	Email         string            `json:"email"`
	Notes         string            `json:"notes"`
	Status        string            `json:"status"`
	LockoutReason string            `json:"lockout_reason"`
	Aliases       map[string]string `json:"aliases"`
	IsEnrolled    bool              `json:"is_enrolled"`
	Created       int64             `json:"created"`
	LastLogin     int64             `json:"last_login"`
	Phones        []phone           `json:"phones"`
	Tokens        []token           `json:"tokens"`
	RecoveryLeft  int               `json:"recovery_codes_left"`
}

func (u user) aliases() string {
	names := make([]string, 0, len(u.Aliases))
	for _, name := range u.Aliases {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ",")
}

func (u user) status() string {
	if u.LockoutReason != "" {
		return u.Status + " (" + u.LockoutReason + ")"
	}
	return u.Status
}

// recovery says how many recovery codes are left; blank: none.
func (u user) recovery() string {
	switch u.RecoveryLeft {
	case 0:
		return ""
	case 1:
		return "1 code left"
	}
	return strconv.Itoa(u.RecoveryLeft) + " codes left"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// userFlags are what user add and user set share.
type userFlags struct {
	aliases                        []string
	status, realName, email, notes string
}

func (f *userFlags) define(c *cobra.Command) {
	c.Flags().StringArrayVar(&f.aliases, "alias", nil, "another name of the user; may repeat, at most "+strconv.Itoa(maxAliases)+" (set: replaces all; an empty one removes all)")
	c.Flags().StringVar(&f.status, "status", "", "active, bypass (no second factor) or disabled; active also unlocks")
	c.Flags().StringVar(&f.realName, "realname", "", "full name")
	c.Flags().StringVar(&f.email, "email", "", "mail address")
	c.Flags().StringVar(&f.notes, "notes", "", "notes")
	complete(c, "status", "active", "bypass", "disabled")
}

// complete offers values of a flag to the shell.
func complete(c *cobra.Command, flag string, values ...string) {
	if err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is defined by the caller
	}
}

func (f *userFlags) params(c *cobra.Command) (url.Values, error) {
	params := url.Values{}
	for flag, value := range map[string]string{"status": f.status, "realname": f.realName, "email": f.email, "notes": f.notes} {
		if c.Flags().Changed(flag) {
			params.Set(flag, value)
		}
	}
	if f.status != "" && !slices.Contains([]string{"active", "bypass", "disabled"}, f.status) {
		return nil, cli.Usagef("--status %q is none of active, bypass, disabled", f.status)
	}
	if c.Flags().Changed("alias") {
		aliases := slices.DeleteFunc(slices.Clone(f.aliases), func(s string) bool { return s == "" })
		if len(aliases) > maxAliases {
			return nil, cli.Usagef("%d aliases given, a user has at most %d", len(aliases), maxAliases)
		}
		for i := range maxAliases {
			value := ""
			if i < len(aliases) {
				value = aliases[i]
			}
			params.Set("alias"+strconv.Itoa(i+1), value)
		}
	}
	return params, nil
}

func (s *admin) userCommand() *cobra.Command {
	c := &cobra.Command{Use: "user", Short: "People and their status"}
	c.AddCommand(s.userAdd(), s.userList(), s.userShow(), s.userSet(), s.userRemove(), s.userBulkAdd(), s.userEnroll(),
		s.userMove("trash", "Move users into the trash: they pass no login and can be restored", "bulk_send_to_trash", "moved into the trash:"),
		s.userMove("restore", "Take users out of the trash, in the status of before", "bulk_restore", "restored"))
	return c
}

func (s *admin) userAdd() *cobra.Command {
	var f userFlags
	c := &cobra.Command{
		Use: "add NAME", Short: "Add a user", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			params, err := f.params(c)
			if err != nil {
				return err
			}
			params.Set("username", args[0])
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("add user %q", args[0]), http.MethodPost, usersPath, params, &raw); err != nil {
				return err
			}
			return s.showUser(raw)
		},
	}
	f.define(c)
	return c
}

func (s *admin) userList() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "list", Short: "List users", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			params := url.Values{}
			if name != "" {
				params.Set("username", name)
			}
			users, err := s.list(c.Context(), "list users", usersPath, params)
			if err != nil {
				return err
			}
			return present(s.app, users, []string{"NAME", "STATUS", "ENROLLED", "ALIASES", "REAL NAME", "LAST LOGIN", "ID"}, func(u user) []string {
				return []string{u.Username, u.status(), yesNo(u.IsEnrolled), u.aliases(), u.RealName, unix(u.LastLogin), u.UserID}
			})
		},
	}
	c.Flags().StringVar(&name, "name", "", "only the user of that name or alias")
	return c
}

func (s *admin) userShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a user with phones and tokens", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			raw, _, err := s.findUser(c.Context(), args[0])
			if err != nil {
				return err
			}
			return s.showUser(raw)
		},
	}
}

func (s *admin) showUser(raw json.RawMessage) error {
	if s.json {
		return s.JSON(raw)
	}
	var u user
	if err := json.Unmarshal(raw, &u); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	pairs := []string{
		"NAME", u.Username, "Id", u.UserID, "Status", u.status(), "Aliases", u.aliases(),
		"Real name", u.RealName, "Mail", u.Email, "Notes", u.Notes, "Enrolled", yesNo(u.IsEnrolled),
		"Created", unix(u.Created), "Last login", unix(u.LastLogin), "Recovery", u.recovery(),
	}
	for _, p := range u.Phones {
		pairs = append(pairs, "Phone "+p.PhoneID, p.summary())
	}
	for _, t := range u.Tokens {
		pairs = append(pairs, "Token "+t.TokenID, t.kind()+", serial "+t.Serial)
	}
	return s.fields(pairs...)
}

func (s *admin) userSet() *cobra.Command {
	var f userFlags
	var rename string
	c := &cobra.Command{
		Use: "set NAME", Short: "Change a user; --status active also unlocks", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			params, err := f.params(c)
			if err != nil {
				return err
			}
			if c.Flags().Changed("rename") {
				params.Set("username", rename)
			}
			if len(params) == 0 {
				return cli.Usagef("nothing to change: give --status, --alias, --realname, --email, --notes or --rename")
			}
			_, u, err := s.findUser(c.Context(), args[0])
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("change user %q", args[0]), http.MethodPost, usersPath+"/"+u.UserID, params, &raw); err != nil {
				return err
			}
			return s.showUser(raw)
		},
	}
	f.define(c)
	c.Flags().StringVar(&rename, "rename", "", "new name of the user")
	return c
}

func (s *admin) userRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a user", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			_, u, err := s.findUser(c.Context(), args[0])
			if err != nil {
				return err
			}
			return s.remove(c.Context(), fmt.Sprintf("user %q", u.Username), usersPath+"/"+u.UserID)
		},
	}
}

// remove deletes an object and says so, on a terminal's error stream, so that
// the output of a script stays empty.
func (s *admin) remove(ctx context.Context, what, path string) error {
	if err := s.call(ctx, "remove "+what, http.MethodDelete, path, nil, nil); err != nil {
		return err
	}
	s.Notef("removed %s\n", what)
	return nil
}

// findUser reads the user of that name or alias.
func (s *admin) findUser(ctx context.Context, name string) (json.RawMessage, user, error) {
	var u user
	found, err := s.list(ctx, fmt.Sprintf("find user %q", name), usersPath, url.Values{"username": {name}})
	if err != nil {
		return nil, u, err
	}
	if len(found) != 1 {
		return nil, u, cli.WithHint(fmt.Errorf("no user is named %q", name), "sallyport admin user list shows who there is")
	}
	if err := json.Unmarshal(found[0], &u); err != nil || u.UserID == "" {
		return nil, u, fmt.Errorf("read the verifier's answer: it is no user")
	}
	return found[0], u, nil
}
