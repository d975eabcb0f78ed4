// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"
)

// LearnDrift implements store.Writer.
func (t *Tx) LearnDrift(tokenID string, step, drift int64) error {
	if _, err := t.conn.Exec(`UPDATE tokens SET drift = $3 WHERE id = $1 AND last_step = $2`, tokenID, step, drift); err != nil {
		return fmt.Errorf("note the drift of a token: %w", err)
	}
	return nil
}

// NoteResync implements store.Writer.
func (t *Tx) NoteResync(userID, tokenID string, next int64, until time.Time) (bool, error) {
	return t.won(`UPDATE tokens SET resync_next = $3, resync_until = $4 WHERE id = $2
		AND EXISTS (SELECT 1 FROM user_tokens WHERE user_id = $1 AND token_id = $2`+t.dialect.LockRow+`)
		AND `+t.activeUser("$1"), userID, tokenID, next, micros(until))
}

// UseResync implements store.Writer.
func (t *Tx) UseResync(userID, tokenID string, at, drift int64, now time.Time) (bool, error) {
	return t.won(`UPDATE tokens SET
			last_step = CASE WHEN type IN ('t6', 't8') THEN $3 ELSE last_step END,
			counter = CASE WHEN type IN ('h6', 'h8') THEN $3 + 1 ELSE counter END,
			drift = $4, resync_until = 0
		WHERE id = $2 AND resync_next = $3 AND resync_until > $5
		AND (type IN ('t6', 't8') AND last_step < $3 OR type IN ('h6', 'h8') AND counter <= $3)
		AND EXISTS (SELECT 1 FROM user_tokens WHERE user_id = $1 AND token_id = $2`+t.dialect.LockRow+`)
		AND `+t.activeUser("$1"), userID, tokenID, at, drift, micros(now))
}
