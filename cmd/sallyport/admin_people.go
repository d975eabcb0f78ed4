// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
)

const webauthnPath = "/admin/v1/webauthncredentials"

// bulkSize is how many users one call of the API takes.
const bulkSize = 100

// bulkColumns are the columns of a CSV file of users: parameters of the Admin API.
var bulkColumns = []string{
	"username", "realname", "firstname", "lastname", "email", "notes", "status", "alias1", "alias2", "alias3", "alias4",
}

func (s *admin) userBulkAdd() *cobra.Command {
	return &cobra.Command{
		Use: "bulk-add FILE", Short: "Add the users of a CSV file; - reads standard input", Args: args("FILE"),
		Long: `Add the users of a CSV file; - reads standard input.

The first line names the columns: username, and any of realname, firstname, lastname,
email, notes, status and alias1 to alias4. Users are added a hundred at a time: those
of one hundred all or none, and after an error no further ones.`,
		RunE: func(c *cobra.Command, args []string) error {
			in := s.In
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return fmt.Errorf("read users: %w", err)
				}
				defer f.Close()
				in = f
			}
			users, err := readUsers(in)
			if err != nil {
				return fmt.Errorf("read users from %s: %w", args[0], err)
			}
			return s.bulkAdd(c.Context(), users)
		},
	}
}

func readUsers(in io.Reader) ([]map[string]string, error) {
	rows := csv.NewReader(in)
	head, err := rows.Read()
	if err != nil {
		return nil, err
	}
	for _, column := range head {
		if !slices.Contains(bulkColumns, column) {
			return nil, cli.Usagef("column %q is none of %v", column, bulkColumns)
		}
	}
	var users []map[string]string
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return users, nil
		}
		if err != nil {
			return nil, err
		}
		user := map[string]string{}
		for i, value := range row {
			if value != "" {
				user[head[i]] = value
			}
		}
		users = append(users, user)
	}
}

func (s *admin) bulkAdd(ctx context.Context, users []map[string]string) error {
	made := []json.RawMessage{}
	for part := range slices.Chunk(users, bulkSize) {
		text, err := json.Marshal(part)
		if err != nil {
			return fmt.Errorf("encode users: %w", err)
		}
		var got []json.RawMessage
		what := fmt.Sprintf("add users %d to %d of %d", len(made)+1, len(made)+len(part), len(users))
		if err := s.call(ctx, what, http.MethodPost, usersPath+"/bulk_create", url.Values{"users": {string(text)}}, &got); err != nil {
			return err
		}
		made = append(made, got...)
		s.Notef("added %d of %d users\n", len(made), len(users))
	}
	if s.json {
		return s.JSON(made)
	}
	return nil
}

// userMove is a command that moves users into the trash or out of it.
func (s *admin) userMove(use, short, path, done string) *cobra.Command {
	return &cobra.Command{
		Use: use + " NAME...", Short: short, Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ids := make([]string, 0, len(args))
			for _, name := range args {
				_, u, err := s.findUser(c.Context(), name)
				if err != nil {
					return err
				}
				ids = append(ids, u.UserID)
			}
			text, err := json.Marshal(ids)
			if err != nil {
				return fmt.Errorf("encode ids: %w", err)
			}
			var moved []json.RawMessage
			err = s.call(c.Context(), use+" users", http.MethodPost, usersPath+"/"+path, url.Values{"user_id_list": {string(text)}}, &moved)
			if err != nil {
				return err
			}
			if s.json {
				return s.JSON(moved)
			}
			for _, name := range args {
				s.Notef("%s %s\n", done, name)
			}
			return nil
		},
	}
}

func (s *admin) phoneSendSMS() *cobra.Command {
	kinds := []string{"activation", "installation", "passcodes"}
	return &cobra.Command{
		Use: "send-sms PHONE activation|installation|passcodes", Short: "Send a message to a phone", Args: args("PHONE", "MESSAGE"), ValidArgs: kinds,
		RunE: func(c *cobra.Command, args []string) error {
			if !slices.Contains(kinds, args[1]) {
				return cli.Usagef("%q is none of activation, installation, passcodes", args[1])
			}
			path := phonesPath + "/" + url.PathEscape(args[0]) + "/send_sms_" + args[1]
			var raw json.RawMessage
			if err := s.call(c.Context(), fmt.Sprintf("send %s to phone %q", args[1], args[0]), http.MethodPost, path, nil, &raw); err != nil {
				return err
			}
			if s.json {
				return s.JSON(raw)
			}
			s.Notef("sent %s to phone %s\n", args[1], args[0])
			return nil
		},
	}
}

// webauthn is what the commands read of a WebAuthn credential.
type webauthn struct {
	Key   string `json:"webauthnkey"`
	Name  string `json:"credential_name"`
	Label string `json:"label"`
	Added int64  `json:"date_added"`
	User  *owner `json:"user"`
}

func (s *admin) webauthnCommand() *cobra.Command {
	c := &cobra.Command{Use: "webauthn", Short: "Security keys and platform authenticators"}
	c.AddCommand(s.webauthnList(), s.webauthnRemove())
	return c
}

func (s *admin) webauthnList() *cobra.Command {
	var name string
	c := &cobra.Command{
		Use: "list", Short: "List WebAuthn credentials", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := s.pathFor(c.Context(), name, webauthnPath, "webauthncredentials")
			if err != nil {
				return err
			}
			list, err := s.list(c.Context(), "list WebAuthn credentials", path, nil)
			if err != nil {
				return err
			}
			return present(s.app, list, []string{"KEY", "NAME", "LABEL", "ADDED", "USER"}, func(w webauthn) []string {
				who := name
				if w.User != nil {
					who = w.User.Username
				}
				return []string{w.Key, w.Name, w.Label, unix(w.Added), who}
			})
		},
	}
	c.Flags().StringVar(&name, "user", "", "only those of that user")
	return c
}

func (s *admin) webauthnRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm KEY", Short: "Remove a WebAuthn credential by its key", Args: args("KEY"),
		RunE: func(c *cobra.Command, args []string) error {
			return s.remove(c.Context(), fmt.Sprintf("WebAuthn credential %q", args[0]), webauthnPath+"/"+url.PathEscape(args[0]))
		},
	}
}
