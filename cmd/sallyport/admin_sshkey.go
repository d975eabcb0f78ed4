// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-mfa/sallyport/internal/cli"
	"github.com/sallyport-mfa/sallyport/internal/sshkey"
)

const sshKeysPath = "/sallyport/v1/admin/ssh_keys"

// sshPublicKey is what the commands read of an SSH key of the API.
type sshPublicKey struct {
	SSHKeyID    string `json:"ssh_key_id"`
	Type        string `json:"type"`
	Fingerprint string `json:"fingerprint"`
	Comment     string `json:"comment"`
	Created     int64  `json:"created"`
	User        *owner `json:"user"`
}

func (s *admin) sshKeyCommand() *cobra.Command {
	c := &cobra.Command{Use: "ssh-key", Short: "SSH public keys of people, for the SSH gateway"}
	c.AddCommand(s.sshKeyAdd(), s.sshKeyList(), s.sshKeyRemove())
	return c
}

func (s *admin) sshKeyAdd() *cobra.Command {
	var file, comment string
	var stdin bool
	c := &cobra.Command{
		Use: "add NAME --key FILE", Short: "Give a user an SSH public key", Args: args("NAME"),
		Long: `Give a user an SSH public key.

The file holds one key, as ssh-keygen wrote it with .pub at the end of its name:
ed25519, ecdsa, rsa of 2048 bits at least, and keys of FIDO2 devices (sk-). Certificates,
DSA keys and options before a key are refused. A key is one user's only.`,
		RunE: func(c *cobra.Command, args []string) error {
			if stdin == (file != "") {
				return cli.Usagef("give --key FILE or --stdin, and not both")
			}
			key, err := s.readSSHKey(file)
			if err != nil {
				return err
			}
			_, u, err := s.findUser(c.Context(), args[0])
			if err != nil {
				return err
			}
			params := url.Values{"key": {key}}
			if c.Flags().Changed("comment") {
				params.Set("comment", comment)
			}
			var raw json.RawMessage
			path := "/sallyport/v1/admin/users/" + u.UserID + "/ssh_keys"
			if err := s.call(c.Context(), fmt.Sprintf("add an SSH key for %q", args[0]), http.MethodPost, path, params, &raw); err != nil {
				return err
			}
			if s.json {
				return s.JSON(raw)
			}
			return s.sshKeyTable([]json.RawMessage{raw}, args[0])
		},
	}
	c.Flags().StringVar(&file, "key", "", "file with the public key, such as id_ed25519.pub")
	c.Flags().BoolVar(&stdin, "stdin", false, "read the public key from standard input")
	c.Flags().StringVar(&comment, "comment", "", "what to write beside it (default: what the file says)")
	if err := c.MarkFlagFilename("key", "pub"); err != nil {
		panic(err) // the flag is defined above
	}
	return c
}

// readSSHKey reads one key from a file, or from standard input for "", and refuses
// what the verifier would: a private key must not even be sent there.
func (s *admin) readSSHKey(file string) (string, error) {
	in, what := s.In, "standard input"
	if file != "" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("read the key: %w", err)
		}
		defer f.Close()
		in, what = f, file
	}
	text, err := io.ReadAll(io.LimitReader(in, sshkey.MaxLine+2))
	if err != nil {
		return "", fmt.Errorf("read the key from %s: %w", what, err)
	}
	k, err := sshkey.Parse(string(text))
	if err != nil {
		return "", cli.Usagef("%s: %s", what, err)
	}
	return strings.TrimSpace(k.Text + " " + k.Comment), nil
}

func (s *admin) sshKeyTable(keys []json.RawMessage, name string) error {
	return present(s.app, keys, []string{"KEY", "USER", "TYPE", "FINGERPRINT", "COMMENT", "CREATED"}, func(k sshPublicKey) []string {
		who := name
		if k.User != nil {
			who = k.User.Username
		}
		return []string{k.SSHKeyID, who, k.Type, k.Fingerprint, k.Comment, unix(k.Created)}
	})
}

func (s *admin) sshKeyList() *cobra.Command {
	return &cobra.Command{
		Use: "list [NAME]", Short: "List SSH public keys, of a user or of all", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			name, path := strings.Join(args, ""), sshKeysPath
			if name != "" {
				_, u, err := s.findUser(c.Context(), name)
				if err != nil {
					return err
				}
				path = "/sallyport/v1/admin/users/" + u.UserID + "/ssh_keys"
			}
			keys, err := s.list(c.Context(), "list SSH keys", path, nil)
			if err != nil {
				return err
			}
			return s.sshKeyTable(keys, name)
		},
	}
}

func (s *admin) sshKeyRemove() *cobra.Command {
	return &cobra.Command{
		Use: "rm KEY...", Short: "Remove SSH public keys by their ids", Args: cobra.MinimumNArgs(1),
		Long: `Remove SSH public keys by their ids.

A gateway takes a key for up to a minute longer; while no verifier answers it, for
keys_max_age of its authd. Connections that are open stay open.`,
		RunE: func(c *cobra.Command, args []string) error {
			for _, id := range slices.Compact(args) {
				if err := s.remove(c.Context(), fmt.Sprintf("SSH key %q", id), sshKeysPath+"/"+url.PathEscape(id)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
