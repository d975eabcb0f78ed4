// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// SetOfflineRoot implements store.Writer.
func (t *Tx) SetOfflineRoot(r store.OfflineRoot) error {
	return t.set("offline root", `INSERT INTO offline_roots (phone_id, generation, root) SELECT id, $2, $3 FROM phones WHERE id = $1
		ON CONFLICT (phone_id) DO UPDATE SET generation = excluded.generation, root = excluded.root`,
		r.PhoneID, r.Generation, blob(r.Sealed))
}

// OfflineRoot implements store.Reader.
func (t *Tx) OfflineRoot(phoneID string) (store.OfflineRoot, error) {
	return one(t, "offline root", func(s scanner) (r store.OfflineRoot, err error) {
		err = s.Scan(&r.PhoneID, &r.Generation, &r.Sealed)
		return r, err
	}, `SELECT phone_id, generation, root FROM offline_roots WHERE phone_id = $1`, phoneID)
}

// offlinePremises is what an offline key rests on, the rows locked.
func (t *Tx) offlinePremises(host, user, phone, generation string) string {
	return `EXISTS (SELECT 1 FROM hosts WHERE id = ` + host + ` AND revoked_at = 0` + t.dialect.LockRow + `)
		AND ` + t.activeUser(user) + ` AND ` + t.activePhone(user, phone, generation) + `
		AND EXISTS (SELECT 1 FROM offline_roots WHERE phone_id = ` + phone + ` AND generation = ` + generation + t.dialect.LockRow + `)`
}

// GrantOfflineKey implements store.Writer.
func (t *Tx) GrantOfflineKey(k store.OfflineKey, held bool, now time.Time) (store.OfflineKey, bool, error) {
	rows, err := t.conn.Query(`INSERT INTO offline_keys (host_id, user_id, phone_id, generation, edition, next, issued)
		SELECT h.id, u.id, p.id, $4, b.edition + 1, 0, $7 FROM hosts h, users u, phones p, offline_base b
		WHERE b.id = 1 AND h.id = $1 AND u.id = $2 AND p.id = $3 AND `+t.offlinePremises("$1", "$2", "$3", "$4")+`
		ON CONFLICT (host_id, user_id, phone_id) DO UPDATE SET generation = excluded.generation, issued = excluded.issued,
			next = CASE WHEN $6 = 1 AND offline_keys.generation = $4 AND offline_keys.edition = $5 THEN offline_keys.next ELSE 0 END,
			edition = CASE WHEN $6 = 1 AND offline_keys.generation = $4 AND offline_keys.edition = $5
				THEN offline_keys.edition ELSE offline_keys.edition + 1 END
		RETURNING edition, next`,
		k.HostID, k.UserID, k.PhoneID, k.Generation, k.Edition, bit(held), micros(now))
	k.Issued = now
	got, err := collect(rows, err, "offline keys", func(s scanner) (out store.OfflineKey, err error) {
		out = k
		err = s.Scan(&out.Edition, &out.Next)
		return out, err
	})
	if err != nil {
		return k, false, fmt.Errorf("grant an offline key: %w", err)
	}
	if len(got) == 0 {
		return k, false, nil
	}
	return got[0], true, nil
}

// UseOfflineCounter implements store.Writer.
func (t *Tx) UseOfflineCounter(k store.OfflineKey, counter int64) (bool, error) {
	return t.won(`UPDATE offline_keys SET next = $6 + 1 WHERE host_id = $1 AND user_id = $2 AND phone_id = $3
		AND generation = $4 AND edition = $5 AND next <= $6`, k.HostID, k.UserID, k.PhoneID, k.Generation, k.Edition, counter)
}

// HostOfflineKeys implements store.Reader.
func (t *Tx) HostOfflineKeys(hostID string) ([]store.OfflineKey, error) {
	return t.liveOfflineKeys("k.host_id = $1", hostID)
}

// PhoneOfflineKeys implements store.Reader.
func (t *Tx) PhoneOfflineKeys(phoneID string) ([]store.OfflineKey, error) {
	return t.liveOfflineKeys("k.phone_id = $1", phoneID)
}

// liveOfflineKeys lists keys whose premises hold.
func (t *Tx) liveOfflineKeys(cond string, args ...any) ([]store.OfflineKey, error) {
	return list(t, "offline keys", func(s scanner) (k store.OfflineKey, err error) {
		var issued int64
		err = s.Scan(&k.HostID, &k.UserID, &k.PhoneID, &k.Generation, &k.Edition, &k.Next, &issued)
		k.Issued = fromMicros(issued)
		return k, err
	}, `SELECT k.host_id, k.user_id, k.phone_id, k.generation, k.edition, k.next, k.issued
		FROM offline_keys k
		JOIN hosts h ON h.id = k.host_id AND h.revoked_at = 0
		JOIN users u ON u.id = k.user_id AND u.status = 'active'
		JOIN phones p ON p.id = k.phone_id AND p.generation = k.generation AND p.public_key <> ''
		JOIN user_phones a ON a.user_id = k.user_id AND a.phone_id = k.phone_id
		JOIN offline_roots r ON r.phone_id = k.phone_id AND r.generation = k.generation
		WHERE `+cond+` ORDER BY k.issued, k.host_id, k.user_id, k.phone_id`, args...)
}

// TakeReport implements store.Writer.
func (t *Tx) TakeReport(hostID, epoch string, seq int64, now time.Time) (bool, error) {
	return t.won(`INSERT INTO host_reports (host_id, epoch, seq, seen)
		SELECT id, $2, $3, $4 FROM hosts WHERE id = $1 AND revoked_at = 0`+t.dialect.LockRow+`
		ON CONFLICT (host_id, epoch) DO UPDATE SET seq = excluded.seq, seen = excluded.seen WHERE host_reports.seq < excluded.seq`,
		hostID, epoch, seq, micros(now))
}

// ReportedSeq implements store.Reader.
func (t *Tx) ReportedSeq(hostID, epoch string) (int64, error) {
	n, err := count(t, `SELECT COALESCE(MAX(seq), 0) FROM host_reports WHERE host_id = $1 AND epoch = $2`, hostID, epoch)
	return int64(n), err
}
