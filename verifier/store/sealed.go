// SPDX-License-Identifier: Apache-2.0

package store

import "strconv"

// SealedColumn is a place where sealed values are kept.
type SealedColumn string

// The sealed columns. A value that is sealed must be in one of them: key
// rotation reaches no other.
const (
	SealedIntegration    SealedColumn = "integrations.secret"
	SealedOldIntegration SealedColumn = "integrations.old_secret" // before the last rotation
	SealedToken          SealedColumn = "tokens.secret"
	SealedOfflineRoot    SealedColumn = "offline_roots.root"
	SealedEnrollSession  SealedColumn = "enroll_sessions.sealed"
	SealedMail           SealedColumn = "mails.body"
	SealedPushKey        SealedColumn = "push_keys.secret"
	SealedSubscription   SealedColumn = "push_subscriptions.subscription"
)

// SealedColumns lists them.
func SealedColumns() []SealedColumn {
	return []SealedColumn{
		SealedIntegration, SealedOldIntegration, SealedToken, SealedOfflineRoot, SealedEnrollSession, SealedMail,
		SealedPushKey, SealedSubscription,
	}
}

// SealedRow is one sealed value.
type SealedRow struct {
	Column     SealedColumn
	ID         string // of the row
	Generation int64  // of an offline root or a push subscription
	Value      []byte
}

// Identity is what the value is bound to.
func (r SealedRow) Identity() []string {
	switch r.Column {
	case SealedIntegration, SealedOldIntegration:
		return []string{"integration", r.ID}
	case SealedToken:
		return []string{"token", r.ID}
	case SealedEnrollSession:
		return []string{"enroll session", r.ID}
	case SealedMail:
		return []string{"mail", r.ID}
	case SealedOfflineRoot:
		return []string{"offline root", r.ID, strconv.FormatInt(r.Generation, 10)}
	case SealedPushKey:
		return []string{"push key", r.ID}
	case SealedSubscription:
		return []string{"push subscription", r.ID, strconv.FormatInt(r.Generation, 10)}
	}
	return nil
}

// SealedReader finds sealed values by their key.
type SealedReader interface {
	// SealedUnder lists up to limit values of a column whose key is (or, with
	// other, is not) the given one, in the order of ids, after an id.
	SealedUnder(c SealedColumn, key uint32, other bool, after string, limit int) ([]SealedRow, error)
}

// SealedWriter seals anew.
type SealedWriter interface {
	// Reseal puts another sealing of the same value in the place of row.Value.
	// False: the row holds something else by now, or is gone.
	Reseal(row SealedRow, value []byte) (bool, error)
}
