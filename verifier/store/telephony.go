// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// Uncounted is the number of credits where calls and messages are not counted.
const Uncounted = -1

// Credits is what is left for calls and text messages.
type Credits struct {
	Left      int64 // Uncounted: no limit
	Warned    bool  // WarnCredits won since SetCredits
	Exhausted bool  // ExhaustCredits won since SetCredits
}

// Types of a TelephonyEntry, by their names on the wire.
const (
	TelephonyCall = "phone"
	TelephonySMS  = "sms"
)

// Contexts of a TelephonyEntry, by their names on the wire.
const (
	ContextAuthentication = "authentication"
	ContextEnrollment     = "enrollment"
)

// TelephonyEntry is an entry of the telephony log: a call or a message that the
// provider was asked for.
type TelephonyEntry struct {
	ID      string
	Time    time.Time
	Context string
	Type    string
	Phone   string // the number, E.164
	TxID    string // of the login; empty: for none
	UserID  string
	Credits int64 // 0 after a refund
	Counted bool  // they were taken from the account
}

// TelephonyFilter selects entries. Empty fields do not narrow.
type TelephonyFilter struct {
	From, To  time.Time // From inclusive, To exclusive
	AfterTime time.Time // go on after that entry
	AfterID   string
	Newest    bool // newest first
	Limit     int  // 0: 100
}

// TelephonyReader reads credits and the telephony log.
type TelephonyReader interface {
	Credits() (Credits, error)
	TelephonyEntries(f TelephonyFilter) ([]TelephonyEntry, error)
	// CreditsUsed sums the credits of the entries from inclusive to exclusive.
	CreditsUsed(from, to time.Time) (int64, error)
}

// TelephonyWriter changes credits and writes the telephony log.
type TelephonyWriter interface {
	// SetCredits sets what is left, or Uncounted; warnings may come anew.
	SetCredits(left int64) error
	// SpendCredits takes cost, unless less is left. Uncounted credits always pay.
	SpendCredits(cost int64) (bool, error)
	// WarnCredits and ExhaustCredits note that at most low, or less than cost, is
	// left. Each is true once after SetCredits, however many ask.
	WarnCredits(low int64) (bool, error)
	ExhaustCredits(cost int64) (bool, error)
	AddTelephonyEntry(TelephonyEntry) error
	// RefundEntry gives the credits of an entry back, once.
	RefundEntry(id string) (bool, error)
	// PurgeTelephony deletes entries from before that time.
	PurgeTelephony(before time.Time) error
}
