// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"
)

// Beat implements store.HealthWriter.
func (t *Tx) Beat(now time.Time, reset bool) (time.Time, error) {
	latest, err := one(t, "heartbeat", func(s scanner) (n int64, err error) {
		err = s.Scan(&n)
		return n, err
	}, `SELECT at FROM heartbeat WHERE id = 1`)
	if err != nil {
		return time.Time{}, err
	}
	// The row is written even if the clock is behind: a store that takes no change must not pass for one that does.
	if err := t.set("heartbeat", `UPDATE heartbeat SET at = CASE WHEN at < $1 OR $2 = 1 THEN $1 ELSE at END WHERE id = 1`, micros(now), bit(reset)); err != nil {
		return time.Time{}, fmt.Errorf("note that the store works: %w", err)
	}
	return fromMicros(latest), nil
}
