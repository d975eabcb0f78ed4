// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// HoldEnrollable implements store.Writer. That it writes locks the user's row.
func (t *Tx) HoldEnrollable(userID string) (bool, error) {
	return t.won(`UPDATE users SET status = status WHERE id = $1 AND status IN ('active', 'bypass')`, userID)
}

// mayEnroll is the premise that the user $n may add factors, the row locked. A
// user in the trash is disabled.
func (t *Tx) mayEnroll(placeholder string) string {
	return `EXISTS (SELECT 1 FROM users WHERE id = ` + placeholder + ` AND status IN ('active', 'bypass')` + t.dialect.LockRow + `)`
}

const enrollLinkColumns = `hash, user_id, created, expires, used_at`

func scanEnrollLink(s scanner) (store.EnrollLink, error) {
	var (
		l                      store.EnrollLink
		created, expires, used int64
	)
	err := s.Scan(&l.Hash, &l.UserID, &created, &expires, &used)
	l.Created, l.Expires, l.UsedAt = fromMicros(created), fromMicros(expires), fromMicros(used)
	return l, err
}

// OpenEnrollLink implements store.EnrollReader.
func (t *Tx) OpenEnrollLink(userID string, now time.Time) (store.EnrollLink, error) {
	return one(t, "enrolment link", scanEnrollLink, `SELECT `+enrollLinkColumns+` FROM enroll_links
		WHERE user_id = $1 AND used_at = 0 AND expires > $2`, userID, micros(now))
}

// EnrollLinkByHash implements store.EnrollReader.
func (t *Tx) EnrollLinkByHash(hash []byte, now time.Time) (store.EnrollLink, error) {
	return one(t, "enrolment link", scanEnrollLink, `SELECT `+enrollLinkColumns+` FROM enroll_links
		WHERE hash = $1 AND used_at = 0 AND expires > $2
			AND EXISTS (SELECT 1 FROM users WHERE id = enroll_links.user_id AND status IN ('active', 'bypass'))`, blob(hash), micros(now))
}

// AddEnrollLink implements store.EnrollWriter.
func (t *Tx) AddEnrollLink(l store.EnrollLink, now time.Time) error {
	if _, err := t.VoidEnrollLinks(l.UserID, now); err != nil {
		return err
	}
	return t.add("enrolment link", `INSERT INTO enroll_links (`+enrollLinkColumns+`) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		blob(l.Hash), l.UserID, micros(l.Created), micros(l.Expires), micros(l.UsedAt))
}

// VoidEnrollLinks implements store.EnrollWriter.
func (t *Tx) VoidEnrollLinks(userID string, now time.Time) (int, error) {
	links, err := t.conn.Exec(`DELETE FROM enroll_links WHERE user_id = $1 AND used_at = 0`, userID)
	if err != nil {
		return 0, fmt.Errorf("void enrolment links: %w", err)
	}
	sessions, err := t.endEnrollOf(userID, now)
	return int(links) + sessions, err
}

func (t *Tx) endEnrollOf(userID string, now time.Time) (int, error) {
	n, err := t.conn.Exec(`UPDATE enroll_sessions SET ended_at = $2, sealed = $3 WHERE user_id = $1 AND ended_at = 0`,
		userID, micros(now), blob(nil))
	if err != nil {
		return 0, fmt.Errorf("end enrolments: %w", err)
	}
	return int(n), nil
}

const enrollColumns = `id, hash, user_id, created, expires, ended_at, phone_id, token_id, token_done, tries, sealed, codes_made`

func scanEnroll(s scanner) (store.EnrollSession, error) {
	var (
		e                                      store.EnrollSession
		created, expires, ended, done, codesAt int64
	)
	err := s.Scan(&e.ID, &e.Hash, &e.UserID, &created, &expires, &ended, &e.PhoneID, &e.TokenID, &done, &e.Tries, &e.Sealed, &codesAt)
	e.Created, e.Expires, e.EndedAt, e.CodesMade = fromMicros(created), fromMicros(expires), fromMicros(ended), fromMicros(codesAt)
	e.TokenDone = done == 1
	if len(e.Sealed) == 0 {
		e.Sealed = nil
	}
	return e, err
}

// EnrollByHash implements store.EnrollReader.
func (t *Tx) EnrollByHash(hash []byte) (store.EnrollSession, error) {
	return one(t, "enrolment", scanEnroll, `SELECT `+enrollColumns+` FROM enroll_sessions WHERE hash = $1`, blob(hash))
}

// BeginEnroll implements store.EnrollWriter.
func (t *Tx) BeginEnroll(linkHash []byte, s store.EnrollSession, now time.Time) (store.EnrollSession, bool, error) {
	used, err := list(t, "enrolment links", scanEnrollLink, `UPDATE enroll_links SET used_at = $2
		WHERE hash = $1 AND used_at = 0 AND expires > $2 AND `+t.mayEnroll("enroll_links.user_id")+`
		RETURNING `+enrollLinkColumns, blob(linkHash), micros(now))
	if err != nil || len(used) == 0 {
		return s, false, err
	}
	s.UserID = used[0].UserID
	if _, err := t.endEnrollOf(s.UserID, now); err != nil {
		return s, false, err
	}
	err = t.add("enrolment", `INSERT INTO enroll_sessions (`+enrollColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING`,
		s.ID, blob(s.Hash), s.UserID, micros(s.Created), micros(s.Expires), micros(s.EndedAt), s.PhoneID, s.TokenID,
		bit(s.TokenDone), s.Tries, blob(s.Sealed), micros(s.CodesMade))
	return s, err == nil, err
}

// HoldEnroll implements store.EnrollWriter. That it writes locks the session's row.
func (t *Tx) HoldEnroll(hash []byte, now time.Time) (store.EnrollSession, bool, error) {
	held, err := list(t, "enrolments", scanEnroll, `UPDATE enroll_sessions SET tries = tries
		WHERE hash = $1 AND ended_at = 0 AND expires > $2 AND `+t.mayEnroll("enroll_sessions.user_id")+`
		RETURNING `+enrollColumns, blob(hash), micros(now))
	if err != nil || len(held) == 0 {
		return store.EnrollSession{}, false, err
	}
	return held[0], true, nil
}

// CountEnroll implements store.EnrollWriter.
func (t *Tx) CountEnroll(id string, what store.EnrollCount, limit int) (bool, error) {
	switch what {
	case store.EnrollPhoneLinks, store.EnrollTokenSecrets, store.EnrollCodeSets:
	default:
		return false, fmt.Errorf("count in an enrolment: no column %q", what)
	}
	column := string(what)
	return t.won(`UPDATE enroll_sessions SET `+column+` = `+column+` + 1 WHERE id = $1 AND ended_at = 0 AND `+column+` < $2`, id, limit)
}

// SetEnroll implements store.EnrollWriter.
func (t *Tx) SetEnroll(s store.EnrollSession) error {
	return t.set("enrolment", `UPDATE enroll_sessions SET phone_id = $2, token_id = $3, token_done = $4, tries = $5, sealed = $6, codes_made = $7
		WHERE id = $1 AND ended_at = 0`,
		s.ID, s.PhoneID, s.TokenID, bit(s.TokenDone), s.Tries, blob(s.Sealed), micros(s.CodesMade))
}

// EndEnroll implements store.EnrollWriter.
func (t *Tx) EndEnroll(id string, now time.Time) (bool, error) {
	return t.won(`UPDATE enroll_sessions SET ended_at = $2, sealed = $3 WHERE id = $1 AND ended_at = 0`, id, micros(now), blob(nil))
}

// OverdueEnrollSessions implements store.EnrollReader.
func (t *Tx) OverdueEnrollSessions(now time.Time, limit int) ([]store.EnrollSession, error) {
	return list(t, "enrolments", scanEnroll, `SELECT `+enrollColumns+` FROM enroll_sessions
		WHERE ended_at = 0 AND (expires <= $1 OR NOT EXISTS
			(SELECT 1 FROM users WHERE id = enroll_sessions.user_id AND status IN ('active', 'bypass')))
		ORDER BY expires, id LIMIT $2`, micros(now), limit)
}

// LiveEnrollSessions implements store.EnrollReader.
func (t *Tx) LiveEnrollSessions(userID string) ([]store.EnrollSession, error) {
	return list(t, "enrolments", scanEnroll, `SELECT `+enrollColumns+` FROM enroll_sessions
		WHERE user_id = $1 AND ended_at = 0 ORDER BY created, id`, userID)
}
