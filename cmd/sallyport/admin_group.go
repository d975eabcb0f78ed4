// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const groupsPath = "/admin/v1/groups"

// group is what the commands read of a group of the Admin API.
type group struct {
	GroupID string `json:"group_id"`
	Name    string `json:"name"`
	Desc    string `json:"desc"`
	Status  string `json:"status"`
}

type groupFlags struct{ desc, status string }

func (f *groupFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.desc, "desc", "", "what the group is for")
	c.Flags().StringVar(&f.status, "status", "", "active, bypass (its members are not asked for a second factor) or disabled (they are refused)")
	complete(c, "status", "active", "bypass", "disabled")
}

func (f *groupFlags) params(c *cobra.Command) (url.Values, error) {
	params := url.Values{}
	for flag, value := range map[string]string{"desc": f.desc, "status": f.status} {
		if c.Flags().Changed(flag) {
			params.Set(flag, value)
		}
	}
	if c.Flags().Changed("status") && !slices.Contains([]string{"active", "bypass", "disabled"}, f.status) {
		return nil, cli.Usagef("--status %q is none of active, bypass, disabled", f.status)
	}
	return params, nil
}

func (s *admin) groupCommand() *cobra.Command {
	c := &cobra.Command{Use: "group", Short: "Groups of users and their status"}
	c.AddCommand(s.groupAdd(), s.groupList(), s.groupShow(), s.groupSet(), s.groupRemove(), s.groupAddUser(), s.groupRemoveUser())
	return c
}

func (s *admin) groupAdd() *cobra.Command {
	var f groupFlags
	c := &cobra.Command{
		Use: "add NAME", Short: "Add a group", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			params, err := f.params(c)
			if err != nil {
				return err
			}
			params.Set("name", args[0])
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("add group %q", args[0]), http.MethodPost, groupsPath, params, &raw); err != nil {
				return err
			}
			return s.showGroup(raw, nil)
		},
	}
	f.define(c)
	return c
}

func (s *admin) groupList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List groups", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			groups, err := s.list(c.Context(), "list groups", groupsPath, nil)
			if err != nil {
				return err
			}
			return present(s.app, groups, []string{"NAME", "STATUS", "DESCRIPTION", "ID"}, func(g group) []string {
				return []string{g.Name, g.Status, g.Desc, g.GroupID}
			})
		},
	}
}

func (s *admin) groupShow() *cobra.Command {
	return &cobra.Command{
		Use: "show NAME", Short: "Show a group with its users", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			raw, g, err := s.findGroup(c.Context(), args[0])
			if err != nil {
				return err
			}
			users, err := s.list(c.Context(), "list the users of the group", "/admin/v2/groups/"+g.GroupID+"/users", nil)
			if err != nil {
				return err
			}
			return s.showGroup(raw, users)
		},
	}
}

// showGroup shows a group; users is nil where nobody asked for them.
func (s *admin) showGroup(raw json.RawMessage, users []json.RawMessage) error {
	if s.json {
		if users == nil {
			return s.JSON(raw)
		}
		var members map[string]any
		if err := json.Unmarshal(raw, &members); err != nil {
			return fmt.Errorf("read the verifier's answer: %w", err)
		}
		members["users"] = users
		return s.JSON(members)
	}
	var g group
	if err := json.Unmarshal(raw, &g); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	pairs := []string{"NAME", g.Name, "Id", g.GroupID, "Status", g.Status, "Description", g.Desc}
	for _, raw := range users {
		var u user
		if err := json.Unmarshal(raw, &u); err != nil {
			return fmt.Errorf("read the verifier's answer: %w", err)
		}
		pairs = append(pairs, "User "+u.UserID, u.Username)
	}
	return s.fields(pairs...)
}

func (s *admin) groupSet() *cobra.Command {
	var f groupFlags
	var rename string
	c := &cobra.Command{
		Use: "set NAME", Short: "Change a group", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			params, err := f.params(c)
			if err != nil {
				return err
			}
			if c.Flags().Changed("rename") {
				params.Set("name", rename)
			}
			if len(params) == 0 {
				return cli.Usagef("nothing to change: give --status, --desc or --rename")
			}
			_, g, err := s.findGroup(c.Context(), args[0])
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("change group %q", args[0]), http.MethodPost, groupsPath+"/"+g.GroupID, params, &raw); err != nil {
				return err
			}
			return s.showGroup(raw, nil)
		},
	}
	f.define(c)
	c.Flags().StringVar(&rename, "rename", "", "new name of the group")
	return c
}

func (s *admin) groupRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME", Short: "Remove a group; its users stay", Args: args("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			_, g, err := s.findGroup(c.Context(), args[0])
			if err != nil {
				return err
			}
			return s.remove(c.Context(), fmt.Sprintf("group %q", g.Name), groupsPath+"/"+g.GroupID)
		},
	}
}

func (s *admin) groupAddUser() *cobra.Command {
	return &cobra.Command{
		Use: "add-user GROUP USER...", Short: "Put users into a group", Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return s.eachMember(c.Context(), args, func(g group, u user) error {
				what := fmt.Sprintf("put user %q into group %q", u.Username, g.Name)
				return s.call(c.Context(), what, http.MethodPost, usersPath+"/"+u.UserID+"/groups", url.Values{"group_id": {g.GroupID}}, nil)
			})
		},
	}
}

func (s *admin) groupRemoveUser() *cobra.Command {
	return &cobra.Command{
		Use: "remove-user GROUP USER...", Short: "Take users out of a group", Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			return s.eachMember(c.Context(), args, func(g group, u user) error {
				what := fmt.Sprintf("take user %q out of group %q", u.Username, g.Name)
				return s.call(c.Context(), what, http.MethodDelete, usersPath+"/"+u.UserID+"/groups/"+g.GroupID, nil, nil)
			})
		},
	}
}

// eachMember calls f with the group args[0] and each of the users behind it.
func (s *admin) eachMember(ctx context.Context, args []string, f func(group, user) error) error {
	_, g, err := s.findGroup(ctx, args[0])
	if err != nil {
		return err
	}
	for _, name := range args[1:] {
		_, u, err := s.findUser(ctx, name)
		if err != nil {
			return err
		}
		if err := f(g, u); err != nil {
			return err
		}
	}
	return nil
}

// findGroup reads the group of that name or id.
func (s *admin) findGroup(ctx context.Context, name string) (json.RawMessage, group, error) {
	all, err := s.list(ctx, fmt.Sprintf("find group %q", name), groupsPath, nil)
	if err != nil {
		return nil, group{}, err
	}
	for _, raw := range all {
		var g group
		if err := json.Unmarshal(raw, &g); err != nil {
			return nil, g, fmt.Errorf("read the verifier's answer: %w", err)
		}
		if g.Name == name || g.GroupID == name {
			return raw, g, nil
		}
	}
	return nil, group{}, cli.WithHint(fmt.Errorf("no group is named %q", name), "sallyport admin group list shows what there is")
}
