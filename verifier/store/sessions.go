// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// RememberedDevices is the policy for logins that are remembered.
type RememberedDevices struct {
	Enabled    bool     `json:"enabled"`
	MaxSeconds int      `json:"max_seconds"`
	UserChoice bool     `json:"user_choice"` // the person is asked; else it is done
	Factors    []string `json:"factors"`     // names of the authentication log
}

// Session is a login on a host that is remembered: a person, proved by a factor,
// bound to one login. It is live until it expires or is ended.
type Session struct {
	ID         string // DS and 18 characters
	UserID     string
	HostID     string
	Binding    []byte // SHA-256; docs/explanation/passport.md says of what
	Factor     string // name in the authentication log
	DeviceID   string // phone or token that proved it; empty: none that could be taken away
	Generation int64  // of the phone then
	TxID       string // of the event that proved it
	Service    string // PAM service of the login, as the host says
	TTY        string // the same
	Created    time.Time
	Expires    time.Time
	LastUsed   time.Time // zero: never
	Uses       int
	EndedAt    time.Time // zero: not ended
	EndedWhy   string
}

// Why a session has ended.
const (
	EndedLogout = "logout"
	EndedAdmin  = "admin"
	EndedPolicy = "policy"
)

// SessionFilter narrows Sessions; empty fields do not. LiveAt keeps those that
// were neither ended nor expired at that time.
type SessionFilter struct {
	UserID string
	HostID string
	LiveAt time.Time
}

// SessionUse is a use of a session: by whom, from where, in which login.
type SessionUse struct {
	ID      string
	UserID  string
	HostID  string
	Binding []byte
	Now     time.Time
}

// SessionEnd says which live sessions end: those that fit all that is set, of
// ID, UserID, and HostID with Binding. With nothing set, none.
type SessionEnd struct {
	ID      string
	UserID  string
	HostID  string
	Binding []byte
	Why     string
	Now     time.Time
}
