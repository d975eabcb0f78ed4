// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// PushKey implements store.PushReader.
func (t *Tx) PushKey() ([]byte, error) {
	return one(t, "push key", func(s scanner) (sealed []byte, err error) {
		err = s.Scan(&sealed)
		return sealed, err
	}, `SELECT secret FROM push_keys WHERE id = $1`, store.PushKeyID)
}

// AddPushKey implements store.PushWriter.
func (t *Tx) AddPushKey(sealed []byte, now time.Time) (bool, error) {
	return t.won(`INSERT INTO push_keys (id, secret, created) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		store.PushKeyID, blob(sealed), micros(now))
}

// PushSubscription implements store.PushReader.
func (t *Tx) PushSubscription(phoneID string) (store.PushSubscription, error) {
	return one(t, "push subscription", func(s scanner) (p store.PushSubscription, err error) {
		var created int64
		err = s.Scan(&p.PhoneID, &p.Generation, &p.Edition, &p.Sealed, &created)
		p.Created = fromMicros(created)
		return p, err
	}, `SELECT s.phone_id, s.generation, s.edition, s.subscription, s.created FROM push_subscriptions s
		JOIN phones p ON p.id = s.phone_id AND p.generation = s.generation AND p.public_key <> '' WHERE s.phone_id = $1`, phoneID)
}

// SetPushSubscription implements store.PushWriter.
func (t *Tx) SetPushSubscription(p store.PushSubscription) (bool, error) {
	return t.won(`INSERT INTO push_subscriptions (phone_id, generation, edition, subscription, created)
		SELECT id, $2, $3, $4, $5 FROM phones WHERE id = $1 AND generation = $2 AND public_key <> ''`+t.dialect.LockRow+`
		ON CONFLICT (phone_id) DO UPDATE SET generation = excluded.generation, edition = excluded.edition,
			subscription = excluded.subscription, created = excluded.created`,
		p.PhoneID, p.Generation, p.Edition, blob(p.Sealed), micros(p.Created))
}

// DeletePushSubscription implements store.PushWriter.
func (t *Tx) DeletePushSubscription(phoneID string, generation int64, edition string) (bool, error) {
	return t.won(`DELETE FROM push_subscriptions WHERE phone_id = $1 AND generation = $2 AND ($3 = '' OR edition = $3)`,
		phoneID, generation, edition)
}

// purgePush deletes subscriptions that count no more.
func (t *Tx) purgePush() error {
	_, err := t.conn.Exec(`DELETE FROM push_subscriptions WHERE NOT EXISTS (SELECT 1 FROM phones p
		WHERE p.id = push_subscriptions.phone_id AND p.generation = push_subscriptions.generation)`)
	if err != nil {
		return fmt.Errorf("purge push subscriptions: %w", err)
	}
	return nil
}
