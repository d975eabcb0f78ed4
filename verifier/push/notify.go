// SPDX-License-Identifier: Apache-2.0

package push

import "context"

// Outcome is what became of a notification.
type Outcome string

// The outcomes of a notification.
const (
	// Taken: a push service has taken it, and delivers it when it can.
	Taken Outcome = "taken"
	// Unsubscribed: the authenticator has named no push service.
	Unsubscribed Outcome = "unsubscribed"
	// Gone: the push service does not know the authenticator any more, so that
	// its subscription was deleted.
	Gone Outcome = "gone"
	// Failed: the push service did not take it in time, or refused it.
	Failed Outcome = "failed"
)

// Notifier tells an authenticator outside of its own connections that a login
// request waits for it. It is safe for concurrent use.
type Notifier interface {
	// Notify returns when the push service has answered, or ctx ends. The
	// notification names neither person nor request. err explains Failed.
	Notify(ctx context.Context, phoneID string) (Outcome, error)
}
