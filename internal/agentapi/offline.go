// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"context"
	"net/http"
)

// OfflineKeyID names a key for offline codes among those of one host.
type OfflineKeyID struct {
	UserID     string `json:"user_id"`
	PhoneID    string `json:"authenticator_id"`
	Generation int64  `json:"generation"` // of the authenticator
	Edition    int64  `json:"edition"`    // counts the hand-overs to a host that had lost it
}

// OfflineRequest asks for the keys of whoever has just logged in by TxID. Have
// names the keys that the host holds of that person.
type OfflineRequest struct {
	TxID string         `json:"txid"`
	Have []OfflineKeyID `json:"have"`
}

// OfflineKey is a key as a host gets it.
type OfflineKey struct {
	OfflineKeyID
	Name string `json:"name"` // of the authenticator
	Key  []byte `json:"key"`  // base64 in JSON
}

// OfflineGrant is what a host gets.
type OfflineGrant struct {
	UserID  string       `json:"user_id"`
	Label   string       `json:"label"` // of this host, as authenticators show it
	Time    int64        `json:"time"`  // the verifier's, Unix seconds
	MaxUses int          `json:"max_uses"`
	MaxDays int          `json:"max_days"`
	Keys    []OfflineKey `json:"keys"`
}

// OfflineKeys calls POST /sallyport/v1/offline/keys.
func (c *Client) OfflineKeys(ctx context.Context, r OfflineRequest) (OfflineGrant, error) {
	var out OfflineGrant
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/offline/keys", nil, r, &out)
	return out, err
}

// LiveKey is a key that a host may go on to use.
type LiveKey struct {
	OfflineKeyID
	// Next is above every counter whose use was reported.
	Next int64 `json:"next"`
}

// LiveKeys are all keys that a host may go on to use.
type LiveKeys struct {
	Time int64     `json:"time"` // the verifier's, Unix seconds
	Keys []LiveKey `json:"keys"`
}

// LiveOfflineKeys calls GET /sallyport/v1/offline/keys.
func (c *Client) LiveOfflineKeys(ctx context.Context) (LiveKeys, error) {
	var out LiveKeys
	err := c.call(ctx, http.MethodGet, "/sallyport/v1/offline/keys", nil, nil, &out)
	return out, err
}

// OfflineHost is a host that takes offline codes of an authenticator.
type OfflineHost struct {
	HostID     string `json:"host_id"`
	Name       string `json:"name"`
	Label      string `json:"label"`
	UserID     string `json:"user_id"`
	Username   string `json:"username"`
	Generation int64  `json:"generation"`
	Edition    int64  `json:"edition"`
	Next       int64  `json:"next"` // above every number whose use was reported
	Issued     int64  `json:"issued"`
	Until      int64  `json:"until"` // Unix seconds; the host may have had it renewed since
}

// OfflineHosts calls GET /sallyport/v1/authenticator/hosts.
func (c *Client) OfflineHosts(ctx context.Context) ([]OfflineHost, error) {
	var out struct {
		Hosts []OfflineHost `json:"hosts"`
	}
	err := c.call(ctx, http.MethodGet, "/sallyport/v1/authenticator/hosts", nil, nil, &out)
	return out.Hosts, err
}
