// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// The logs, by the names that feed and retention know them by.
const (
	AuthenticationLog = "authentication"
	AdministratorLog  = "administrator"
	TelephonyLog      = "telephony"
)

// Logs lists the logs.
func Logs() []string { return []string{AuthenticationLog, AdministratorLog, TelephonyLog} }

// Stream is a receiver of all events and how far it has come.
type Stream struct {
	Name     string
	Position int64 // number of the last entry that it has taken
	Created  time.Time
}

// FeedEntry is an event on its way to the streams. Of the pointers the one for
// its log is set; none is, if the event was deleted meanwhile.
type FeedEntry struct {
	Seq            int64  // in the order in which the events were committed
	Log            string // one of Logs
	ID             string // of the event; never used twice
	Authentication *Event
	Administrator  *AdminEvent
	Telephony      *TelephonyEntry
}

// StreamReader reads the feed: the events that some stream has not taken yet.
type StreamReader interface {
	// Streams lists the streams by name.
	Streams() ([]Stream, error)
	// FeedEnd is the number of the last entry that was ever made.
	FeedEnd() (int64, error)
	// Feed lists the entries after a number, in order.
	Feed(after int64, limit int) ([]FeedEntry, error)
}

// StreamWriter moves the streams along the feed.
type StreamWriter interface {
	// KeepStreams makes these the streams. One that is new begins with what comes
	// next; of one that is no more, which it returns, the backlog is forgotten.
	KeepStreams(names []string, now time.Time) (gone []Stream, err error)
	// MoveStream moves a stream from one position forward to another and deletes
	// the entries that all streams have taken. False: it is not at from.
	MoveStream(name string, from, to int64) (bool, error)
}
