// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// TrashedUsers implements store.TrashReader.
func (t *Tx) TrashedUsers(until time.Time, limit int) ([]store.User, error) {
	return list(t, "users", scanUser, `SELECT `+userColumns+` FROM users u
		WHERE u.trashed_at <> 0 AND u.trashed_at <= $1 ORDER BY u.trashed_at, u.id LIMIT $2`, micros(until), limit)
}

// TrashUser implements store.TrashWriter.
func (t *Tx) TrashUser(id string, now time.Time) (bool, error) {
	return t.won(`UPDATE users SET trashed_at = $2, status_before = status, status = 'disabled'
		WHERE id = $1 AND trashed_at = 0`, id, micros(now))
}

// RestoreUser implements store.TrashWriter.
func (t *Tx) RestoreUser(id string) (bool, error) {
	return t.won(`UPDATE users SET trashed_at = 0, status = status_before, status_before = ''
		WHERE id = $1 AND trashed_at <> 0`, id)
}

// DeleteTrashed implements store.TrashWriter.
func (t *Tx) DeleteTrashed(id string, until time.Time) (bool, error) {
	return t.won(`DELETE FROM users WHERE id = $1 AND trashed_at <> 0 AND trashed_at <= $2`, id, micros(until))
}

func jsonMap(m map[string]string) string {
	if len(m) == 0 {
		return "{}"
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(b)
}

func fromJSONMap(s string) (map[string]string, error) {
	if s == "{}" {
		return nil, nil
	}
	var m map[string]string
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return nil, fmt.Errorf("decode attributes: %w", err)
	}
	return m, nil
}
