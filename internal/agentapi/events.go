// SPDX-License-Identifier: Apache-2.0

package agentapi

import (
	"context"
	"encoding/json"
	"net/http"
)

// Limits of a report of events.
const (
	MaxReportEvents = 64
	MaxReportBytes  = 12 << 10 // of all events together, as JSON
	MaxEventBytes   = 4 << 10
)

// Factors of a HostEvent that the verifier does not know from its own log.
const (
	FactorOffline    = "offline_code"
	FactorBreakGlass = "breakglass_code"
)

// HostEvent is a decision that a host made without the verifier. All texts are
// data from a peer.
type HostEvent struct {
	Time     int64  `json:"time"` // Unix milliseconds, by the host's clock
	ID       string `json:"id"`   // joins the event with the lines of the host's own log
	Hook     string `json:"hook"`
	Service  string `json:"service"`
	User     string `json:"user"`               // Unix name on the host
	Username string `json:"username,omitempty"` // at the verifier
	Target   string `json:"target,omitempty"`
	Result   string `json:"result"`
	Reason   string `json:"reason"`
	Setting  string `json:"setting,omitempty"`
	Rule     string `json:"rule,omitempty"`
	Factor   string `json:"factor,omitempty"`
	Source   string `json:"source,omitempty"`
	TTY      string `json:"tty,omitempty"`
	// Offline is the use of an offline code.
	Offline *OfflineUse `json:"offline,omitempty"`
}

// OfflineUse names the offline code that a host has accepted.
type OfflineUse struct {
	OfflineKeyID
	Counter int64 `json:"counter"`
}

// HostEvents is a report: events in their order, of one epoch of the host's log.
// The first has the sequence number First.
type HostEvents struct {
	Epoch  string            `json:"epoch"` // 32 hexadecimal digits
	First  uint64            `json:"first"` // from 1
	Events []json.RawMessage `json:"events"`
}

// HostEventsTaken says up to which sequence number of the epoch the verifier has the events.
type HostEventsTaken struct {
	Seq uint64 `json:"seq"`
}

// Report calls POST /sallyport/v1/hosts/events. To report the same again does no harm.
func (c *Client) Report(ctx context.Context, r HostEvents) (HostEventsTaken, error) {
	var out HostEventsTaken
	err := c.call(ctx, http.MethodPost, "/sallyport/v1/hosts/events", nil, r, &out)
	return out, err
}
