// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// PurgeLog implements store.RetentionWriter.
func (t *Tx) PurgeLog(log string, before time.Time, limit int) (int, error) {
	var query string
	switch log {
	case store.AuthenticationLog:
		query = `DELETE FROM auth_events WHERE txid IN (SELECT e.txid FROM auth_events e WHERE e.at < $1
			AND NOT EXISTS (SELECT 1 FROM feed f WHERE f.kind = $3 AND f.id = e.txid) ORDER BY e.at, e.txid LIMIT $2)`
	case store.AdministratorLog:
		query = `DELETE FROM admin_events WHERE id IN (SELECT e.id FROM admin_events e WHERE e.at < $1
			AND NOT EXISTS (SELECT 1 FROM feed f WHERE f.kind = $3 AND f.id = e.id) ORDER BY e.at, e.id LIMIT $2)`
	case store.TelephonyLog:
		query = `DELETE FROM telephony_log WHERE id IN (SELECT e.id FROM telephony_log e WHERE e.at < $1
			AND NOT EXISTS (SELECT 1 FROM feed f WHERE f.kind = $3 AND f.id = e.id) ORDER BY e.at, e.id LIMIT $2)`
	default:
		return 0, fmt.Errorf("purge log %q: there is none of that name", log)
	}
	n, err := t.conn.Exec(query, micros(before), limit, log)
	if err != nil {
		return 0, fmt.Errorf("purge %s log: %w", log, err)
	}
	return int(n), nil
}
