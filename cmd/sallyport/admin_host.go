// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

const (
	hostsPath      = "/sallyport/v1/admin/hosts"
	hostTokensPath = "/sallyport/v1/admin/host_tokens"
)

// joinToken is the answer of host_tokens.
type joinToken struct {
	Token      string `json:"token"`
	Expiration int64  `json:"expiration"`
	URL        string `json:"url"`
}

// knownHost is a host as the verifier lists it.
type knownHost struct {
	HostID         string `json:"host_id"`
	Name           string `json:"name"`
	IntegrationKey string `json:"integration_key"`
	Status         string `json:"status"`
	Created        int64  `json:"created"`
	LastSeen       *int64 `json:"last_seen"`
}

func (s *admin) hostCommand() *cobra.Command {
	c := &cobra.Command{Use: "host", Short: "Hosts that joined, and tokens to join with"}
	c.AddCommand(s.hostToken(), s.hostList(), s.hostRevoke())
	return c
}

func (s *admin) hostToken() *cobra.Command {
	var name string
	var valid span
	c := &cobra.Command{
		Use: "token", Short: "Make a one-time token by which a host joins", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			params := url.Values{}
			if name != "" {
				params.Set("name", name)
			}
			if valid != 0 {
				params.Set("valid_secs", valid.seconds())
			}
			var raw json.RawMessage
			if err := s.call(c.Context(), "make a join token", http.MethodPost, hostTokensPath, params, &raw); err != nil {
				return err
			}
			if s.json {
				return s.JSON(raw)
			}
			var out joinToken
			if err := json.Unmarshal(raw, &out); err != nil {
				return fmt.Errorf("read the verifier's answer: %w", err)
			}
			s.Printf("%s\n", out.Token)
			s.Notef("valid until %s, once; on the host, as root: sallyport host join %s --token TOKEN\n", unix(out.Expiration), out.URL)
			return nil
		},
	}
	c.Flags().StringVar(&name, "name", "", "only a host of that name may use it")
	spanFlag(c, &valid, "valid", 0, "how long the token lives, 1m to 7d (default 1h)")
	return c
}

func (s *admin) hostList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List hosts", Args: args(),
		RunE: func(c *cobra.Command, _ []string) error {
			hosts, err := s.list(c.Context(), "list hosts", hostsPath, nil)
			if err != nil {
				return err
			}
			return present(s.app, hosts, []string{"HOST", "NAME", "STATUS", "INTEGRATION", "JOINED", "LAST SEEN"}, func(h knownHost) []string {
				seen := "never"
				if h.LastSeen != nil {
					seen = unix(*h.LastSeen)
				}
				return []string{h.HostID, h.Name, h.Status, h.IntegrationKey, unix(h.Created), seen}
			})
		},
	}
}

func (s *admin) hostRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke HOST", Short: "Shut a host out by its id; it must join again", Args: args("HOST"),
		Long: `Shut a host out by its id.

The verifier answers the host's next call with 401, and its logins are denied in
every fail mode. To take it in again, make a token and join with --force.`,
		RunE: func(c *cobra.Command, args []string) error {
			return s.remove(c.Context(), fmt.Sprintf("host %q", args[0]), hostsPath+"/"+url.PathEscape(args[0]))
		},
	}
}
