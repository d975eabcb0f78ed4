// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// EnrollLink is a one-time link by which a person adds factors without having any.
type EnrollLink struct {
	Hash    []byte // of the code
	UserID  string
	Created time.Time
	Expires time.Time
	UsedAt  time.Time // zero: not used
}

// EnrollSession is what a link was spent for: a browser that adds factors for one
// person, for a while.
type EnrollSession struct {
	ID      string
	Hash    []byte // of the token in the browser's cookie
	UserID  string
	Created time.Time
	Expires time.Time
	EndedAt time.Time // zero: it goes on
	// PhoneID is the phone that the session has made; empty: none. It is the
	// person's, and waits for its activation or has had it.
	PhoneID string
	// TokenID is the token that waits for its first code, or with TokenDone has had
	// it; empty: none.
	TokenID   string
	TokenDone bool
	Tries     int // wrong first codes for the token that waits
	// Sealed is what the pages of the session show again after a reload, under
	// identity "enroll session", ID; empty: nothing.
	Sealed    []byte
	CodesMade time.Time // of the recovery codes; zero: not yet
}

// EnrollCount is something that a session can make again and again.
type EnrollCount string

// What sessions make.
const (
	EnrollPhoneLinks   EnrollCount = "phone_links"
	EnrollTokenSecrets EnrollCount = "token_secrets"
	EnrollCodeSets     EnrollCount = "code_sets"
)

// EnrollReader finds links and sessions.
type EnrollReader interface {
	// EnrollLinkByHash is a link that could be used now, of a user who may enrol; else
	// ErrNotFound. It decides nothing, but keeps links that are made up from the writer.
	EnrollLinkByHash(hash []byte, now time.Time) (EnrollLink, error)
	// OpenEnrollLink is the link of a user that can be used; else ErrNotFound.
	OpenEnrollLink(userID string, now time.Time) (EnrollLink, error)
	// EnrollByHash finds a session by the hash of its token, also one that is over.
	EnrollByHash(hash []byte) (EnrollSession, error)
	// LiveEnrollSessions lists a user's sessions that have not ended.
	LiveEnrollSessions(userID string) ([]EnrollSession, error)
	// OverdueEnrollSessions lists up to limit sessions that have not ended, but expired,
	// or whose user may not enrol any more.
	OverdueEnrollSessions(now time.Time, limit int) ([]EnrollSession, error)
}

// EnrollWriter keeps links and sessions. The premise that a person may enrol is
// that the user is in status active or bypass.
type EnrollWriter interface {
	// AddEnrollLink adds a link. The user's unused links before it are void, and
	// their live sessions end.
	AddEnrollLink(l EnrollLink, now time.Time) error
	// VoidEnrollLinks does what AddEnrollLink does to the links and sessions
	// before it, and says how many of them there were.
	VoidEnrollLinks(userID string, now time.Time) (int, error)
	// BeginEnroll spends an unused, unexpired link of a user who may enrol, and
	// opens the session, whose UserID it sets. False: a premise did not hold.
	BeginEnroll(linkHash []byte, s EnrollSession, now time.Time) (EnrollSession, bool, error)
	// HoldEnroll finds the live session of that token whose user may enrol, and
	// keeps it and the user as they are until the Update ends. False: there is none.
	HoldEnroll(hash []byte, now time.Time) (EnrollSession, bool, error)
	// CountEnroll counts one more that a live session makes, if it has made fewer than
	// limit. False: it has made so many, or has ended.
	CountEnroll(id string, what EnrollCount, limit int) (bool, error)
	// SetEnroll writes phone, token, tries, sealed and codes of a live session that
	// the Update holds.
	SetEnroll(s EnrollSession) error
	// EndEnroll ends a live session. False: it had ended.
	EndEnroll(id string, now time.Time) (bool, error)
}
