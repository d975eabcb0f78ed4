// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/sallyport-mfa/sallyport/verifier/audit"
	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// gravity is a severity of syslog.
type gravity uint8

const (
	warning       gravity = 4
	notice        gravity = 5
	informational gravity = 6
)

// administrator is an entry of the administrator log as the Admin API gives it.
type administrator struct {
	Timestamp   int64           `json:"timestamp"`
	Username    string          `json:"username"`
	Action      string          `json:"action"`
	Object      string          `json:"object"`
	Description json.RawMessage `json:"description"`
}

// telephone is an entry of the telephony log as it was written: a later refund
// is not in it.
type telephone struct {
	Timestamp int64  `json:"timestamp"`
	Context   string `json:"context"`
	Type      string `json:"type"`
	Phone     string `json:"phone"`
	Credits   int64  `json:"credits"`
	TxID      string `json:"txid"`
	UserID    string `json:"user_id"`
}

// message makes the form that is sent; false: the event is gone.
func message(e store.FeedEntry) (m Message, ok bool, err error) {
	m = Message{Seq: e.Seq, Log: e.Log, ID: e.ID, grave: informational}
	var body any
	switch {
	case e.Authentication != nil:
		v := e.Authentication
		m.Time, body = v.Time, v
		m.fields = map[string]string{
			"result": v.Result, "reason": v.Reason, "factor": v.Factor, "user": v.User.Name,
			"integration": v.Application.Key, "ip": v.AccessDevice.IP, "host": v.AccessDevice.Hostname,
		}
		switch v.Result {
		case audit.Denied:
			m.grave = notice
		case audit.Fraud:
			m.grave = warning
		}
	case e.Administrator != nil:
		v := e.Administrator
		m.Time, m.grave = v.Time, notice
		body = administrator{v.Time.Unix(), v.Username, v.Action, v.Object, v.Description}
		m.fields = map[string]string{"user": v.Username, "action": v.Action, "object": v.Object}
	case e.Telephony != nil:
		v := e.Telephony
		m.Time = v.Time
		body = telephone{v.Time.Unix(), v.Context, v.Type, v.Phone, v.Credits, v.TxID, v.UserID}
		m.fields = map[string]string{"context": v.Context, "type": v.Type, "phone": v.Phone, "txid": v.TxID}
	default:
		return m, false, nil
	}
	if m.Body, err = json.Marshal(body); err != nil {
		return m, false, fmt.Errorf("encode event %s: %w", e.ID, err)
	}
	m.fields["seq"], m.fields["id"] = strconv.FormatInt(e.Seq, 10), e.ID
	return m, true, nil
}
