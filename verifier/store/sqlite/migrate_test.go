// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqldb"
)

// before makes a store with the schema of an earlier release and runs the
// statements on it.
func before(t *testing.T, version int64, statements ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	if err := prepareFile(path); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", source(path, false))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	p, err := goose.NewProvider(goose.DialectSQLite3, db, sqldb.Migrations())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
	for _, s := range statements {
		if _, err := db.ExecContext(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return path
}

// The tables of tokens are made anew by a migration: what they held stays, and
// whose they are.
func TestTokensOutliveMigration(t *testing.T) {
	db := open(t, before(t, 3,
		`INSERT INTO users (id, username, aliases, real_name, first_name, last_name, email, notes, status, lockout_reason,
			locked_at, failures, pushes, pushes_since, created, last_login)
			VALUES ('DU1', 'alice', '[]', '', '', '', '', '', 'active', '', 0, 0, 0, 0, 1, 0)`,
		`INSERT INTO tokens (id, type, serial, secret, counter, last_step, step, created)
			VALUES ('DH1', 'h6', 's', x'01', 7, -1, 0, 1)`,
		`INSERT INTO user_tokens (user_id, token_id) VALUES ('DU1', 'DH1')`))
	defer db.Close()
	err := db.Update(context.Background(), func(w store.Writer) error {
		tokens, err := w.UserTokens("DU1")
		if err != nil || len(tokens) != 1 || tokens[0].Counter != 7 || tokens[0].Serial != "s" {
			t.Errorf("tokens %+v, %v", tokens, err)
		}
		if err := w.AddToken(store.Token{ID: "DH2", Type: store.YubiKey, Serial: "s", SecretSealed: []byte{1}}); err != nil {
			t.Error(err)
		}
		if err := w.DeleteToken("DH1"); err != nil {
			t.Error(err)
		}
		users, err := w.UserTokens("DU1")
		if len(users) != 0 {
			t.Errorf("the association of a deleted token stayed: %+v", users)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
