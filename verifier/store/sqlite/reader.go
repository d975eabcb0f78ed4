// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqldb"
)

// view is a read on its way to a reader. Readers are goroutines of their own:
// SQLite in Go needs a deep stack, which a fresh goroutine would have to grow
// each time.
type view struct {
	f      func(store.Reader) error
	result chan error
}

// View implements store.Store.
func (db *DB) View(ctx context.Context, f func(store.Reader) error) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("wait for a reader: %w", err)
	}
	v := &view{f: f, result: make(chan error, 1)}
	select {
	case db.views <- v:
	case <-ctx.Done():
		return fmt.Errorf("wait for a reader: %w", ctx.Err())
	}
	return <-v.result
}

// read is one reader: it serves views until Close.
func (db *DB) read(c *conn) {
	defer c.close()
	for v := range db.views {
		v.result <- db.serve(c, v.f)
	}
}

func (db *DB) serve(c *conn, f func(store.Reader) error) error {
	s := &snapshot{conn: c}
	defer s.end()
	return contain(func() error {
		return f(readerTx{Tx: sqldb.NewTx(s, sqldb.Dialect{}), cache: &db.cache, epoch: db.cache.now()})
	})
}

// snapshot is a connection that begins a transaction when it is first used: a
// view that is served from the cache needs none.
type snapshot struct {
	conn  *conn
	begun bool
}

func (s *snapshot) begin() error {
	if s.begun {
		return nil
	}
	if _, err := s.conn.Exec("BEGIN"); err != nil {
		return fmt.Errorf("begin reading: %w", err)
	}
	s.begun = true
	return nil
}

func (s *snapshot) end() {
	if s.begun {
		_, _ = s.conn.Exec("ROLLBACK") // nothing was written
	}
}

// Exec implements sqldb.Conn.
func (s *snapshot) Exec(query string, args ...any) (int64, error) {
	if err := s.begin(); err != nil {
		return 0, err
	}
	return s.conn.Exec(query, args...)
}

// Query implements sqldb.Conn.
func (s *snapshot) Query(query string, args ...any) (*sql.Rows, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	return s.conn.Query(query, args...)
}

// QueryOnce implements sqldb.Conn.
func (s *snapshot) QueryOnce(query string, args ...any) (*sql.Rows, error) {
	if err := s.begin(); err != nil {
		return nil, err
	}
	return s.conn.QueryOnce(query, args...)
}
