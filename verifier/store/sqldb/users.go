// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const userColumns = `u.id, u.username, u.aliases, u.real_name, u.first_name, u.last_name, u.email, u.notes,
	u.status, u.lockout_reason, u.locked_at, u.failures, u.next_attempt, u.pushes, u.pushes_since, u.next_push,
	u.created, u.last_login, u.trashed_at, u.attributes`

func scanUser(s scanner) (store.User, error) {
	var (
		u                                                  store.User
		aliases, attributes                                string
		locked, next, since, push, created, login, trashed int64
	)
	err := s.Scan(&u.ID, &u.Username, &aliases, &u.RealName, &u.FirstName, &u.LastName, &u.Email, &u.Notes,
		&u.Status, &u.LockoutReason, &locked, &u.Failures, &next, &u.Pushes, &since, &push, &created, &login, &trashed, &attributes)
	if err != nil {
		return u, err
	}
	u.LockedAt, u.NextAttempt, u.PushesSince, u.NextPush = fromMicros(locked), fromMicros(next), fromMicros(since), fromMicros(push)
	u.Created, u.LastLogin = fromMicros(created), fromMicros(login)
	if u.TrashedAt = fromMicros(trashed); trashed != 0 {
		u.Status = store.PendingDeletion
	}
	if u.Attributes, err = fromJSONMap(attributes); err != nil {
		return u, err
	}
	u.Aliases, err = fromJSONList(aliases)
	return u, err
}

// User implements store.Reader.
func (t *Tx) User(id string) (store.User, error) {
	return one(t, "user", scanUser, `SELECT `+userColumns+` FROM users u WHERE u.id = $1`, id)
}

// UserByName implements store.Reader.
func (t *Tx) UserByName(name string) (store.User, error) {
	return one(t, "user", scanUser, `SELECT `+userColumns+`
		FROM user_names n JOIN users u ON u.id = n.user_id WHERE n.name = $1`, name)
}

// Users implements store.Reader: by user name.
func (t *Tx) Users(f store.UserFilter, p store.Page) ([]store.User, int, error) {
	var w where
	if f.Username != "" {
		w.and("u.id IN (SELECT user_id FROM user_names WHERE name = ?)", f.Username)
	}
	if f.Email != "" {
		w.and("u.email = ?", f.Email)
	}
	if f.Trashed {
		w.and("u.trashed_at <> 0")
	}
	return page(t, "users", scanUser, userColumns, "users u", "u.username", w, p)
}

// AddUser implements store.Writer.
func (t *Tx) AddUser(u store.User) error {
	err := t.add("user", `INSERT INTO users (id, username, aliases, real_name, first_name, last_name, email, notes,
		status, lockout_reason, locked_at, failures, pushes, pushes_since, created, last_login, attributes)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, $13, $14, $15) ON CONFLICT DO NOTHING`,
		u.ID, u.Username, jsonList(u.Aliases), u.RealName, u.FirstName, u.LastName, u.Email, u.Notes,
		string(u.Status), u.LockoutReason, micros(u.LockedAt), u.Failures, micros(u.Created), micros(u.LastLogin),
		jsonMap(u.Attributes))
	if err != nil {
		return err
	}
	return t.addNames(u)
}

func (t *Tx) addNames(u store.User) error {
	names := append([]string{u.Username}, u.Aliases...)
	slices.Sort(names) // one order for all, so that no two writers wait for each other
	for _, name := range slices.Compact(names) {
		if name == "" { // a free place among the aliases
			continue
		}
		err := t.add(fmt.Sprintf("user name or alias %q", name),
			`INSERT INTO user_names (name, user_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, u.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// SetUser implements store.Writer.
func (t *Tx) SetUser(u store.User) error {
	// The name's own constraint: PostgreSQL would end the transaction on it.
	taken, err := count(t, `SELECT COUNT(*) FROM users WHERE username = $1 AND id <> $2`, u.Username, u.ID)
	if err != nil {
		return fmt.Errorf("change user: %w", err)
	}
	if taken > 0 {
		return fmt.Errorf("change user: name %q: %w", u.Username, store.ErrConflict)
	}
	err = t.set("user", `UPDATE users SET username = $2, aliases = $3, real_name = $4, first_name = $5, last_name = $6,
		email = $7, notes = $8, attributes = $9 WHERE id = $1`,
		u.ID, u.Username, jsonList(u.Aliases), u.RealName, u.FirstName, u.LastName, u.Email, u.Notes, jsonMap(u.Attributes))
	if err != nil {
		return err
	}
	if _, err := t.conn.Exec(`DELETE FROM user_names WHERE user_id = $1`, u.ID); err != nil {
		return fmt.Errorf("change user: %w", err)
	}
	return t.addNames(u)
}

// SetUserStatus implements store.Writer.
func (t *Tx) SetUserStatus(id string, status store.UserStatus, reason string, now time.Time) error {
	switch status {
	case store.LockedOut:
		return t.set("user", `UPDATE users SET status = 'locked out', lockout_reason = $2, locked_at = $3
			WHERE id = $1 AND trashed_at = 0`, id, reason, micros(now))
	case store.Active:
		return t.set("user", `UPDATE users SET status = 'active', lockout_reason = '', locked_at = 0,
			failures = CASE WHEN status = 'active' THEN failures ELSE 0 END,
			next_attempt = CASE WHEN status = 'active' THEN next_attempt ELSE 0 END,
			pushes = CASE WHEN status = 'active' THEN pushes ELSE 0 END,
			next_push = CASE WHEN status = 'active' THEN next_push ELSE 0 END WHERE id = $1 AND trashed_at = 0`, id)
	}
	return t.set("user", `UPDATE users SET status = $2, lockout_reason = '', locked_at = 0
		WHERE id = $1 AND trashed_at = 0`, id, string(status))
}

// DeleteUser implements store.Writer.
func (t *Tx) DeleteUser(id string) error {
	return t.set("user", `DELETE FROM users WHERE id = $1`, id)
}

// BeginAttempt implements store.Writer.
func (t *Tx) BeginAttempt(userID string, p store.AttemptPolicy, now time.Time) (bool, error) {
	if _, err := t.UnlockExpired(userID, p.LockFor, now); err != nil {
		return false, err
	}
	counted, err := t.won(`UPDATE users SET failures = failures + 1, next_attempt = CASE
			WHEN $4 = 0 OR failures + 1 < $3 THEN 0
			WHEN failures + 1 - $3 > 20 THEN $6
			WHEN (CAST($4 AS BIGINT) << CAST(failures + 1 - $3 AS INTEGER)) > $5 THEN $6
			ELSE $7 + (CAST($4 AS BIGINT) << CAST(failures + 1 - $3 AS INTEGER)) END
		WHERE id = $1 AND status = 'active' AND failures < $2 AND (next_attempt <= $7 OR $8 = 1)`,
		userID, max(p.Limit, 1), p.Free, p.Delay.Microseconds(), p.MaxDelay.Microseconds(),
		micros(now.Add(p.MaxDelay)), micros(now), bit(p.Made))
	if counted || err != nil {
		return counted, err
	}
	// An attempt that never came to its end may have left the failures at the limit.
	_, err = t.FailAttempt(userID, p, now)
	return false, err
}

// FailAttempt implements store.Writer.
func (t *Tx) FailAttempt(userID string, p store.AttemptPolicy, now time.Time) (bool, error) {
	return t.won(`UPDATE users SET status = 'locked out', lockout_reason = $2, locked_at = $3
		WHERE id = $1 AND status = 'active' AND failures >= $4`,
		userID, store.LockoutFailures, micros(now), max(p.Limit, 1))
}

// ForgiveAttempts implements store.Writer.
func (t *Tx) ForgiveAttempts(userID string, now time.Time) (bool, error) {
	return t.won(`UPDATE users SET failures = 0, next_attempt = 0, pushes = 0, pushes_since = 0, next_push = 0, last_login = $2
		WHERE id = $1 AND status = 'active'`, userID, micros(now))
}

// UnlockExpired implements store.Writer.
func (t *Tx) UnlockExpired(userID string, lockFor time.Duration, now time.Time) (bool, error) {
	if lockFor <= 0 {
		return false, nil
	}
	return t.won(`UPDATE users SET status = 'active', lockout_reason = '', locked_at = 0, failures = 0, next_attempt = 0
		WHERE id = $1 AND status = 'locked out' AND lockout_reason = $2 AND locked_at <= $3`,
		userID, store.LockoutFailures, micros(now.Add(-lockFor)))
}

// NoteBypass implements store.Writer.
func (t *Tx) NoteBypass(userID string, now time.Time) (bool, error) {
	return t.won(`UPDATE users SET last_login = $2 WHERE id = $1 AND status = 'bypass'`, userID, micros(now))
}

// LockUser implements store.Writer.
func (t *Tx) LockUser(userID, reason string, now time.Time) (bool, error) {
	if reason == store.LockoutFraud {
		// A link that somebody else may have made must not wait for the day of the unlock.
		if _, err := t.conn.Exec(`UPDATE activations SET expires = created WHERE user_id = $1 AND used_at = 0`, userID); err != nil {
			return false, fmt.Errorf("void the activations of a user: %w", err)
		}
	}
	// In the trash the lock waits in status_before, for the day that the user comes back.
	return t.won(`UPDATE users SET lockout_reason = $2, locked_at = $3,
			status = CASE WHEN trashed_at = 0 THEN 'locked out' ELSE status END,
			status_before = CASE WHEN trashed_at = 0 THEN status_before ELSE 'locked out' END
		WHERE id = $1 AND (CASE WHEN trashed_at = 0 THEN status ELSE status_before END = 'active'
			OR CASE WHEN trashed_at = 0 THEN status ELSE status_before END = 'locked out' AND lockout_reason = $4)`,
		userID, reason, micros(now), store.LockoutFailures)
}

// SpendPush implements store.Writer.
func (t *Tx) SpendPush(userID string, p store.PushPolicy, now time.Time) (bool, error) {
	const (
		made  = `CASE WHEN pushes_since <= $2 THEN 1 ELSE pushes + 1 END`
		pause = `(CAST($6 AS BIGINT) << CAST(` + made + ` - $5 AS INTEGER))`
	)
	return t.won(`UPDATE users SET
		pushes = `+made+`,
		pushes_since = CASE WHEN pushes_since <= $2 THEN $3 ELSE pushes_since END,
		next_push = CASE
			WHEN $6 = 0 OR `+made+` < $5 THEN 0
			WHEN `+made+` - $5 > 20 THEN $8
			WHEN `+pause+` > $7 THEN $8
			ELSE $3 + `+pause+` END
		WHERE id = $1 AND status = 'active' AND ((pushes_since <= $2 AND $4 > 0) OR pushes < $4) AND (next_push <= $3 OR $6 = 0)`,
		userID, micros(now.Add(-p.Window)), micros(now), p.Limit, max(p.Free, 1), p.Delay.Microseconds(), p.MaxDelay.Microseconds(),
		micros(now.Add(p.MaxDelay)))
}

// RaisePushAlarm implements store.Writer.
func (t *Tx) RaisePushAlarm(userID string, limit int, window time.Duration, now time.Time) (bool, error) {
	if limit <= 0 {
		return false, nil
	}
	// Locks the row first, so that of several prompts that end at once the one that
	// counts last sees them all.
	if _, err := t.conn.Exec(`UPDATE users SET push_alarmed = push_alarmed WHERE id = $1`, userID); err != nil {
		return false, fmt.Errorf("lock the user: %w", err)
	}
	return t.won(`UPDATE users SET push_alarmed = $2 WHERE id = $1 AND push_alarmed <= $3 AND (
			SELECT COUNT(*) FROM transactions WHERE user_id = $1 AND decided_at > $3
			AND factor IN ('push', 'phone') AND state IN ('denied', 'fraud', 'expired')) >= $4`,
		userID, micros(now), micros(now.Add(-window)), limit)
}
