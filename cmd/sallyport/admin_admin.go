// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const (
	adminsPath      = "/admin/v1/admins"
	activationsPath = adminsPath + "/activations"
)

var adminRoles = []string{
	"Owner", "Administrator", "Application Manager", "User Manager", "Security Analyst", "Help Desk", "Billing", "Phishing Manager", "Read-only",
}

// administrator is what the commands read of an administrator of the Admin API.
type administrator struct {
	AdminID       string `json:"admin_id"`
	Name          string `json:"name"`
	Email         string `json:"email"`
	Phone         string `json:"phone"`
	Role          string `json:"role"`
	Status        string `json:"status"`
	ActivationURL string `json:"activation_url"`
	Expires       int64  `json:"expires"`
}

func (s *admin) adminCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "admin", Short: "People who administer",
		Long: `People who administer.

They are kept for the console, which is not there yet: nobody can log in as one.
"sallyport admin" itself goes on to use the integration of its profile.`,
	}
	c.AddCommand(s.adminAdd(), s.adminList(), s.adminShow(), s.adminSet(), s.adminRemove(), s.adminActivation())
	return c
}

func (s *admin) adminAdd() *cobra.Command {
	var name, role, phone string
	var days int
	c := &cobra.Command{
		Use: "add EMAIL", Short: "Add an administrator and show the activation link, once", Args: args("EMAIL"),
		Example: `  sallyport admin admin add olga@example.org --name "Olga Owner" --role Owner`,
		RunE: func(c *cobra.Command, args []string) error {
			params := url.Values{"email": {args[0]}, "name": {name}, "role": {role}, "valid_days": {strconv.Itoa(days)}}
			if phone != "" {
				params.Set("phone", phone)
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("add administrator %q", args[0]), http.MethodPost, adminsPath, params, &raw); err != nil {
				return err
			}
			return s.showAdministrator(raw)
		},
	}
	c.Flags().StringVar(&name, "name", "", "name (required)")
	c.Flags().StringVar(&role, "role", "Read-only", "one of "+strings.Join(adminRoles, ", "))
	c.Flags().StringVar(&phone, "phone", "", "number, such as +15551234567")
	c.Flags().IntVar(&days, "valid-days", 7, "how long the link is good, at most 31")
	complete(c, "role", adminRoles...)
	required(c, "name")
	return c
}

func (s *admin) showAdministrator(raw json.RawMessage) error {
	if s.json {
		return s.JSON(raw)
	}
	var a administrator
	if err := json.Unmarshal(raw, &a); err != nil {
		return fmt.Errorf("read the verifier's answer: %w", err)
	}
	pairs := []string{"ADMINISTRATOR", a.Email, "Id", a.AdminID, "Name", a.Name, "Phone", a.Phone, "Role", a.Role, "Status", a.Status}
	if a.ActivationURL != "" {
		pairs = append(pairs, "Activation link", a.ActivationURL, "Good until", unix(a.Expires))
	}
	return s.fields(pairs...)
}

func (s *admin) adminList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List administrators", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			found, err := s.list(c.Context(), "list administrators", adminsPath, nil)
			if err != nil {
				return err
			}
			return present(s.app, found, []string{"EMAIL", "NAME", "ROLE", "STATUS", "ID"}, func(a administrator) []string {
				return []string{a.Email, a.Name, a.Role, a.Status, a.AdminID}
			})
		},
	}
}

var errNoAdministrator = errors.New("there is no administrator")

// findAdministrator reads the administrator with that mail address or id.
func (s *admin) findAdministrator(ctx context.Context, who string) (json.RawMessage, administrator, error) {
	found, err := s.list(ctx, fmt.Sprintf("find administrator %q", who), adminsPath, nil)
	if err != nil {
		return nil, administrator{}, err
	}
	for _, raw := range found {
		var a administrator
		if err := json.Unmarshal(raw, &a); err != nil {
			return nil, a, fmt.Errorf("read the verifier's answer: %w", err)
		}
		if a.AdminID == who || strings.EqualFold(a.Email, who) {
			return raw, a, nil
		}
	}
	return nil, administrator{}, cli.WithHint(fmt.Errorf("%w %q", errNoAdministrator, who), "sallyport admin admin list shows them")
}

func (s *admin) adminShow() *cobra.Command {
	return &cobra.Command{
		Use: "show EMAIL", Short: "Show an administrator", Args: args("EMAIL"),
		RunE: func(c *cobra.Command, args []string) error {
			raw, _, err := s.findAdministrator(c.Context(), args[0])
			if err != nil {
				return err
			}
			return s.showAdministrator(raw)
		},
	}
}

func (s *admin) adminSet() *cobra.Command {
	values := map[string]*string{}
	c := &cobra.Command{
		Use: "set EMAIL", Short: "Change an administrator", Args: args("EMAIL"),
		RunE: func(c *cobra.Command, args []string) error {
			params := changedFlags(c, values)
			if len(params) == 0 {
				return cli.Usagef("nothing to change: give --name, --phone, --role or --status")
			}
			_, a, err := s.findAdministrator(c.Context(), args[0])
			if err != nil {
				return err
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("change administrator %q", args[0]), http.MethodPost, adminsPath+"/"+a.AdminID, params, &raw); err != nil {
				return err
			}
			return s.showAdministrator(raw)
		},
	}
	textFlags(c, values, map[string]string{
		"name": "name", "phone": "number, such as +15551234567", "role": "one of " + strings.Join(adminRoles, ", "),
		"status": "Active or Disabled",
	})
	complete(c, "role", adminRoles...)
	complete(c, "status", "Active", "Disabled")
	return c
}

// textFlags defines flags with text values, which stand for parameters of the
// same name with underscores.
func textFlags(c *cobra.Command, values map[string]*string, help map[string]string) {
	for name, text := range help {
		values[name] = c.Flags().String(name, "", text)
	}
}

// changedFlags are the parameters of the flags that were given.
func changedFlags(c *cobra.Command, values map[string]*string) url.Values {
	params := url.Values{}
	for name, value := range values {
		if c.Flags().Changed(name) {
			params.Set(strings.ReplaceAll(name, "-", "_"), *value)
		}
	}
	return params
}

func (s *admin) adminRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm EMAIL", Short: "Remove an administrator; the last Owner stays", Args: args("EMAIL"),
		RunE: func(c *cobra.Command, args []string) error {
			_, a, err := s.findAdministrator(c.Context(), args[0])
			if err != nil {
				return err
			}
			return s.remove(c.Context(), fmt.Sprintf("administrator %q", args[0]), adminsPath+"/"+a.AdminID)
		},
	}
}

// adminLink is what the commands read of an activation link.
type adminLink struct {
	ID      string `json:"admin_activation_id"`
	Email   string `json:"email"`
	Role    string `json:"admin_role"`
	Expires int64  `json:"expires"`
	Link    string `json:"link"`
}

func (s *admin) adminActivation() *cobra.Command {
	c := &cobra.Command{Use: "activation", Short: "Links by which people become administrators"}
	c.AddCommand(s.activationAdd(), s.activationList(), s.activationRemove())
	return c
}

func (s *admin) activationAdd() *cobra.Command {
	var role string
	var days int
	c := &cobra.Command{
		Use: "add EMAIL", Short: "Make a link, for an administrator who waits for one or for somebody new", Args: args("EMAIL"),
		RunE: func(c *cobra.Command, args []string) error {
			params := url.Values{"valid_days": {strconv.Itoa(days)}}
			path := activationsPath
			_, a, err := s.findAdministrator(c.Context(), args[0])
			switch {
			case err == nil:
				path = adminsPath + "/" + a.AdminID + "/activation_link"
			case errors.Is(err, errNoAdministrator):
				params.Set("email", args[0])
				params.Set("admin_role", role)
			default:
				return err
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("make a link for %q", args[0]), http.MethodPost, path, params, &raw); err != nil {
				return err
			}
			if s.json {
				return s.JSON(raw)
			}
			var l adminLink
			if err := json.Unmarshal(raw, &l); err != nil {
				return fmt.Errorf("read the verifier's answer: %w", err)
			}
			return s.fields("LINK", l.ID, "Email", l.Email, "Role", l.Role, "Good until", unix(l.Expires), "Activation link", l.Link)
		},
	}
	c.Flags().StringVar(&role, "role", "Read-only", "of somebody new: one of "+strings.Join(adminRoles, ", "))
	c.Flags().IntVar(&days, "valid-days", 7, "how long the link is good, at most 31")
	complete(c, "role", adminRoles...)
	return c
}

func (s *admin) activationList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List links that were not used", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			found, err := s.list(c.Context(), "list links", activationsPath, nil)
			if err != nil {
				return err
			}
			return present(s.app, found, []string{"LINK", "EMAIL", "ROLE", "GOOD UNTIL"}, func(l adminLink) []string {
				return []string{l.ID, l.Email, l.Role, unix(l.Expires)}
			})
		},
	}
}

func (s *admin) activationRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm LINK", Short: "Void a link by its id", Args: args("LINK"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.remove(c.Context(), fmt.Sprintf("link %q", args[0]), activationsPath+"/"+url.PathEscape(args[0]))
		},
	}
}
