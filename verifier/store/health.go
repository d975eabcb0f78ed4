// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// HealthWriter shows that the store takes changes.
type HealthWriter interface {
	// Beat notes that the store took a change now, and returns the latest time
	// that was noted before. That one goes back only with reset.
	Beat(now time.Time, reset bool) (latest time.Time, err error)
}
