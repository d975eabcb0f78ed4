// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// Context is what a person is told about a login request: Transaction.Context as
// JSON. All of it is data from a peer: escape it before showing it.
type Context struct {
	Version         int               `json:"v"` // 1
	TxID            string            `json:"txid"`
	Username        string            `json:"username"`
	DisplayUsername string            `json:"display_username,omitempty"`
	Type            string            `json:"type,omitempty"`        // what asks
	Application     string            `json:"application,omitempty"` // the integration's name
	Hostname        string            `json:"hostname,omitempty"`
	IPAddr          string            `json:"ipaddr,omitempty"`
	PushInfo        map[string]string `json:"pushinfo,omitempty"`
	Created         int64             `json:"created"` // Unix seconds
	Expires         int64             `json:"expires"` // Unix seconds
}

// ParseContext reads the context of the transaction txid. One that is for
// another transaction is an error: it must not be shown for this one.
func ParseContext(text, txid string) (Context, error) {
	var c Context
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return c, fmt.Errorf("read what the request says about itself: %w", err)
	}
	if c.Version != 1 {
		return c, fmt.Errorf("read what the request says about itself: version %d is not known here", c.Version)
	}
	if c.TxID != txid {
		return c, errors.New("the request describes another one: do not approve it")
	}
	return c, nil
}

var digits = regexp.MustCompile(`^[0-9]{3,6}$`)

// ValidDigits says whether s can be the code of a verified push: six digits, or as
// few as three where policy says so.
func ValidDigits(s string) bool { return digits.MatchString(s) }
