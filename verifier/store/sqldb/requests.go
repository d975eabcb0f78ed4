// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"
)

// TakeRequest implements store.RequestWriter.
func (t *Tx) TakeRequest(mark []byte, expires time.Time) (bool, error) {
	n, err := t.conn.Exec(`INSERT INTO requests (mark, expires) VALUES ($1, $2) ON CONFLICT (mark) DO NOTHING`, mark, micros(expires))
	if err != nil {
		return false, fmt.Errorf("take a request: %w", err)
	}
	return n == 1, nil
}

// ForgetRequest implements store.RequestWriter.
func (t *Tx) ForgetRequest(mark []byte) error {
	if _, err := t.conn.Exec(`DELETE FROM requests WHERE mark = $1`, mark); err != nil {
		return fmt.Errorf("forget a request: %w", err)
	}
	return nil
}

// PurgeRequests implements store.RequestWriter.
func (t *Tx) PurgeRequests(now time.Time) error {
	if _, err := t.conn.Exec(`DELETE FROM requests WHERE expires <= $1`, micros(now)); err != nil {
		return fmt.Errorf("purge requests: %w", err)
	}
	return nil
}
