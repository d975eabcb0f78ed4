// SPDX-License-Identifier: Apache-2.0

// Package audit makes the entries of the authentication log, and those of the
// administrator log about what the verifier did itself. It begins no update: an
// event goes into the store in the same one as the decision that it tells of.
package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Results of events.
const (
	Success = "success"
	Denied  = "denied"
	Fraud   = "fraud"
)

// Authentication is the type of the events of logins.
const Authentication = "authentication"

// Factors of events that no factor of package factor names.
const (
	NotAvailable = "not_available"
	SMSRefresh   = "sms_refresh"
	// RememberedDevice is the factor, and the reason, where a session answered.
	RememberedDevice = "remembered_device"
)

// Reasons of events.
const (
	UserApproved    = "user_approved"
	ValidPasscode   = "valid_passcode"
	BypassUser      = "bypass_user"
	AllowedByPolicy = "allowed_by_policy"
	TrustedNetwork  = "trusted_network"

	AllowUnenrolledUser        = "allow_unenrolled_user"
	AllowUnenrolledUserTrusted = "allow_unenrolled_user_on_trusted_network"

	DeniedByPolicy     = "denied_by_policy"
	DeniedNetwork      = "denied_network"
	NotInGroup         = "user_not_in_permitted_group"
	EndpointNotTrusted = "endpoint_is_not_trusted"
	EndpointUnknown    = "could_not_determine_if_endpoint_was_trusted"

	InvalidPasscode    = "invalid_passcode"
	LockedOut          = "locked_out"
	UserDisabled       = "user_disabled"
	DenyUnenrolledUser = "deny_unenrolled_user"
	FactorRestricted   = "factor_restricted"
	NoResponse         = "no_response"
	CallTimedOut       = "call_timed_out"
	NoKeysPressed      = "no_keys_pressed"
	UserMistake        = "user_mistake"
	UserCancelled      = "user_cancelled"
	UserMarkedFraud    = "user_marked_fraud"
	InvalidDevice      = "invalid_device"
	AnomalousPush      = "anomalous_push"
	Error              = "error"
)

// Actions of the administrator log that the verifier does itself.
const (
	UserLockout     = "user_lockout"
	UserFraudReport = "user_fraud_report"
	PushFatigue     = "push_fatigue"
	AnswerRefused   = "answer_refused" // to a login request, by an authenticator
)

// SystemName is who did what the verifier did itself.
const SystemName = "System"

// System writes an entry of the administrator log about what the verifier did
// itself. The description must hold no secret.
func System(w store.Writer, now time.Time, action, object string, description map[string]any) error {
	text, err := json.Marshal(description)
	if err != nil {
		return fmt.Errorf("encode administrator log entry: %w", err)
	}
	return w.AddAdminEvent(store.AdminEvent{Time: now, Username: SystemName, Action: action, Object: object, Description: text})
}

// Person writes an entry of the administrator log about what a person did to
// their own account. The description must hold no secret.
func Person(w store.Writer, now time.Time, username, action string, description map[string]any) error {
	text, err := json.Marshal(description)
	if err != nil {
		return fmt.Errorf("encode administrator log entry: %w", err)
	}
	return w.AddAdminEvent(store.AdminEvent{Time: now, Username: username, Action: action, Object: username, Description: text})
}

// Actions in the administrator log that tell whose offline codes a host takes.
// They begin alike and have a log of their own in the Admin API.
const (
	OfflineActions       = "o2fa_"
	OfflineProvisioned   = "o2fa_user_provisioned"
	OfflineReenrolled    = "o2fa_user_reenrolled" // the host had lost the key, or the authenticator is a new one
	OfflineDeprovisioned = "o2fa_user_deprovisioned"
)

// OfflineEvent is an entry of the offline enrolment log. The description must
// hold no secret.
func OfflineEvent(now time.Time, action string, u store.User, h store.Host, p store.Phone) (store.AdminEvent, error) {
	text, err := json.Marshal(map[string]string{
		"user_id": u.ID, "hostname": h.Name, "host_id": h.ID, "phone_id": p.ID, "factor": "duo_otp",
	})
	if err != nil {
		return store.AdminEvent{}, fmt.Errorf("encode offline enrolment: %w", err)
	}
	return store.AdminEvent{Time: now, Username: u.Username, Action: action, Object: h.Name, Description: text}, nil
}

// Request is what an event says of the request behind it.
type Request struct {
	Integration store.Integration
	User        store.User // without ID: nobody has that name
	Groups      []store.Group
	Name        string // as the client gave it
	IP          string
	Hostname    string
}

// New begins the event of an authentication. Outcome completes it.
func New(txID string, r Request) store.Event {
	e := store.Event{
		TxID:                  txID,
		EventType:             Authentication,
		Factor:                NotAvailable,
		User:                  store.EventUser{Key: r.User.ID, Name: r.User.Username, Groups: []string{}},
		Email:                 r.User.Email,
		Application:           store.EventApp{Key: r.Integration.Key, Name: r.Integration.Name},
		AccessDevice:          store.AccessDevice{IP: Printable(r.IP), Hostname: Printable(r.Hostname)},
		TrustedEndpointStatus: "unknown",
	}
	for _, g := range r.Groups {
		e.User.Groups = append(e.User.Groups, g.Name)
	}
	if r.User.ID == "" {
		e.User.Name = Printable(r.Name)
	} else if r.Name != "" && r.Name != r.User.Username {
		e.Alias = Printable(r.Name)
	}
	return e
}

// Outcome completes an event.
func Outcome(e store.Event, now time.Time, result, reason string) store.Event {
	e.Time = now
	e.Timestamp = now.Unix()
	e.ISOTimestamp = now.UTC().Format("2006-01-02T15:04:05.000000+00:00")
	e.Result, e.Reason = result, reason
	return e
}

// maxText bounds a string from a client in an event, in characters.
const maxText = 256

// Printable makes a string from a client fit for a log or a terminal: control
// and formatting characters become U+FFFD, and it is cut after 256 characters.
func Printable(s string) string {
	n := 0
	return strings.Map(func(r rune) rune {
		if n++; n > maxText {
			return -1
		}
		if !unicode.IsPrint(r) && r != ' ' {
			return '\uFFFD'
		}
		return r
	}, s)
}
