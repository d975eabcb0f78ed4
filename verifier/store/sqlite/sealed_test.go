// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// TestEachBlobIsKnown: a sealed column that key rotation does not know would be
// unreadable after it. So each column of bytes is either among those or named here.
func TestEachBlobIsKnown(t *testing.T) {
	known := []string{ // hashes, public bytes, and what is read without a key
		"join_tokens.hash", "activations.hash", "bypass_codes.hash", "sms_codes.hash", "transactions.code_hash",
		"transactions.context", "transactions.event", "sessions.binding", "requests.mark", "admin_activations.hash", "logo.png",
		"enroll_links.hash", "enroll_sessions.hash",
		"webauthn_credentials.aaguid", "webauthn_credentials.credential_id", "webauthn_credentials.public_key",
		"user_verifications.public_key", "verification_challenges.hash",
	}
	for _, c := range store.SealedColumns() {
		known = append(known, string(c))
	}
	db := open(t, filepath.Join(t.TempDir(), "store.db"))
	defer db.Close()
	rows, err := db.readers.QueryContext(t.Context(), `SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type = 'table' AND c.type = 'BYTEA' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var found []string
	for rows.Next() {
		var column string
		if err := rows.Scan(&column); err != nil {
			t.Fatal(err)
		}
		found = append(found, column)
		if !slices.Contains(known, column) {
			t.Errorf("%s: add it to store.SealedColumns if it is sealed, else to this test", column)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, column := range known {
		if !slices.Contains(found, column) {
			t.Errorf("%s is no column", column)
		}
	}
}
