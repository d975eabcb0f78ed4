// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// RequestWriter keeps which signed requests were let through, so that none is
// carried out twice.
type RequestWriter interface {
	// TakeRequest keeps the mark of a request until expires. False: it was taken
	// before, and not purged since.
	TakeRequest(mark []byte, expires time.Time) (bool, error)
	// ForgetRequest gives a mark back.
	ForgetRequest(mark []byte) error
	// PurgeRequests forgets the marks that expired at or before now.
	PurgeRequests(now time.Time) error
}
