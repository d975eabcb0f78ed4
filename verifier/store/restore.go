// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// EndedRestore is why a session has ended that was live in a backup.
const EndedRestore = "restore"

// Restored says what to do with a store that has gone back in time.
type Restored struct {
	Now         time.Time
	TOTPAhead   int64 // how many steps ahead of now a TOTP code may have been used
	HOTPAdvance int64 // how far the counters of HOTP tokens move
	KeepBypass  bool  // keep bypass codes whose uses are counted; recovery codes go in any case
}

// RestoredCounts is how much was made void.
type RestoredCounts struct {
	TOTP         int `json:"totp_tokens"`
	HOTP         int `json:"hotp_tokens"`
	YubiKeys     int `json:"yubikeys"`
	Bypass       int `json:"bypass_codes"`
	SMS          int `json:"sms_codes"`
	Transactions int `json:"transactions"`
	Sessions     int `json:"sessions"`
	Activations  int `json:"activations"`
	AdminLinks   int `json:"admin_activations"`
	EnrollLinks  int `json:"enrollment_links"`
	JoinTokens   int `json:"join_tokens"`
	OfflineKeys  int `json:"offline_keys"`
}

// RestoreWriter makes a store fit to serve that was restored from a backup.
type RestoreWriter interface {
	// AfterRestore makes void what may have been used between the backup and now:
	// one-time codes, steps and counters, transactions under way, sessions, keys
	// for offline codes. It is part of no decision; no server runs meanwhile.
	AfterRestore(r Restored) (RestoredCounts, error)
}
