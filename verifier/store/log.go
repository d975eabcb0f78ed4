// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// A log is read in the order in which its entries were committed, which is
// nearly, but with reports of hosts not quite, that of their times. An entry that
// comes while a client pages therefore stands behind all that it has read
// (oldest first), or in front of them (newest first): paging neither loses nor
// repeats one.

// LogReader reads the logs.
type LogReader interface {
	// Event is the entry of the authentication log with that id.
	Event(txID string) (Event, error)
	// Events lists the authentication log in the order of f.
	Events(f EventFilter) ([]Event, error)
	// CountEvents counts what Events would list without its place and limit.
	CountEvents(f EventFilter) (int, error)
	// EventCounts counts the authentications of a span by result.
	EventCounts(from, to time.Time) ([]EventCount, error)
	// AdminEvents lists the administrator log from since on, oldest first.
	AdminEvents(since time.Time, limit int) ([]AdminEvent, error)
	// AdminLog lists the administrator log in the order of f.
	AdminLog(f AdminEventFilter) ([]AdminEvent, error)
}

// LogWriter writes the logs. An entry whose time is a little before that of the
// one before it takes that one's time, so that who asks from a time on misses
// none of those that were written at once.
type LogWriter interface {
	AddEvent(Event) error
	AddAdminEvent(AdminEvent) error
}

// EventFilter selects authentication events. Empty fields do not narrow.
type EventFilter struct {
	From, To     time.Time // From inclusive, To exclusive
	Users        []string  // user ids
	Usernames    []string
	Groups       []string // groups of the user when it happened, as the event names them
	Integrations []string // integration keys
	Factors      []string
	Results      []string
	Reasons      []string
	EventTypes   []string
	Devices      []string // keys of what the person answered with
	Phones       []string // the same, and an event must match both
	// AfterTxID is the last event of the page before; if it is gone meanwhile,
	// AfterTime is where to go on. Empty: from the start.
	AfterTxID string
	AfterTime time.Time
	Newest    bool // newest first
	Limit     int  // 0: 100
}

// EventCount is how many authentications had a result, and of how many names.
type EventCount struct {
	Result   string
	Attempts int
	Users    int
}

// AdminEventFilter selects entries of the administrator log. Empty fields do not narrow.
type AdminEventFilter struct {
	From, To time.Time // From inclusive, To exclusive
	// Prefix is how the action begins; NotPrefix, how it does not.
	Prefix, NotPrefix string
	AfterID           string // as EventFilter.AfterTxID
	AfterTime         time.Time
	Newest            bool
	Limit             int // 0: 1000
}
