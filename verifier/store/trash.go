// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// TrashReader reads the trash.
type TrashReader interface {
	// TrashedUsers lists up to limit users who went into the trash at the given
	// time or before, those first who went first.
	TrashedUsers(until time.Time, limit int) ([]User, error)
}

// TrashWriter moves users into the trash and out of it. A user in the trash keeps
// name, aliases and devices, and passes no login.
type TrashWriter interface {
	TrashReader
	// TrashUser moves a user into the trash. False: it is there, or there is no such user.
	TrashUser(id string, now time.Time) (bool, error)
	// RestoreUser takes a user out of the trash, in the status of before.
	// False: it is not there.
	RestoreUser(id string) (bool, error)
	// DeleteTrashed deletes a user who went into the trash at the given time or
	// before and is there still.
	DeleteTrashed(id string, until time.Time) (bool, error)
}
