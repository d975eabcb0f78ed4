// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// RetentionWriter forgets what is too old to be kept.
type RetentionWriter interface {
	// PurgeLog deletes up to limit entries of one of Logs that are older than
	// before, the oldest first, and says how many. What a stream has not taken yet stays.
	PurgeLog(log string, before time.Time, limit int) (int, error)
}
