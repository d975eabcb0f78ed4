// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"context"
	"net/http"
	"net/url"
)

// SSHKeys are the public keys of a person: TYPE BASE64 each, as in authorized_keys.
type SSHKeys struct {
	UserID string   `json:"user_id"`
	Keys   []string `json:"keys"`
}

// SSHKeys calls GET /sallyport/v1/hosts/ssh_keys. Who is not known, or may not log
// in, has no keys to be asked for: that is duoapi.CodeNotFound.
func (c *Client) SSHKeys(ctx context.Context, username string) (SSHKeys, error) {
	var out SSHKeys
	err := c.call(ctx, http.MethodGet, "/sallyport/v1/hosts/ssh_keys", url.Values{"username": {username}}, nil, &out)
	return out, err
}
