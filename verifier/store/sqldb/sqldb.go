// SPDX-License-Identifier: Apache-2.0

// Package sqldb is the store in SQL: the schema and one statement for each
// method of store.Writer, in the part of SQL that SQLite and PostgreSQL share.
// It never begins or ends a transaction and knows no driver; the engines do.
//
// What keeps it portable: placeholders are $1, $2, … (SQLite reads them as
// named parameters and the driver binds them by number); ON CONFLICT DO NOTHING
// and the count of rows stand for unique violations, which would end a
// transaction of PostgreSQL; ids come from Go; types as the first migration says.
package sqldb

import (
	"database/sql"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Migrations holds the schema as numbered goose files.
func Migrations() fs.FS {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		panic(err) // the folder is embedded
	}
	return sub
}

// Conn runs statements inside a transaction that the engine began. Statements
// come from a small fixed set, so that an engine can keep them prepared; the
// Once form is for those that vary.
type Conn interface {
	Exec(query string, args ...any) (rows int64, err error)
	Query(query string, args ...any) (*sql.Rows, error)
	QueryOnce(query string, args ...any) (*sql.Rows, error)
}

// Dialect is what the engines do not share.
type Dialect struct {
	// LockRow ends a subquery whose row a decision rests on: " FOR SHARE" in
	// PostgreSQL; empty in SQLite, which has one writer.
	LockRow string
}

// Tx is a transaction. It implements store.Writer.
type Tx struct {
	conn    Conn
	dialect Dialect
}

var _ store.Writer = (*Tx)(nil)

// NewTx makes a Tx on a connection with a transaction open.
func NewTx(conn Conn, dialect Dialect) *Tx { return &Tx{conn: conn, dialect: dialect} }

// won runs a deciding statement: it won if it changed a row.
func (t *Tx) won(query string, args ...any) (bool, error) {
	n, err := t.conn.Exec(query, args...)
	return n > 0, err
}

// add runs an INSERT … ON CONFLICT DO NOTHING.
func (t *Tx) add(what, query string, args ...any) error {
	n, err := t.conn.Exec(query, args...)
	if err != nil {
		return fmt.Errorf("add %s: %w", what, err)
	}
	if n == 0 {
		return fmt.Errorf("add %s: %w", what, store.ErrConflict)
	}
	return nil
}

// set runs an UPDATE or DELETE of one object that must be there.
func (t *Tx) set(what, query string, args ...any) error {
	n, err := t.conn.Exec(query, args...)
	if err != nil {
		return fmt.Errorf("change %s: %w", what, err)
	}
	if n == 0 {
		return fmt.Errorf("change %s: %w", what, store.ErrNotFound)
	}
	return nil
}

type scanner interface{ Scan(dest ...any) error }

// one reads a single row.
func one[T any](t *Tx, what string, scan func(scanner) (T, error), query string, args ...any) (T, error) {
	var zero T
	rows, err := t.conn.Query(query, args...)
	if err != nil {
		return zero, fmt.Errorf("read %s: %w", what, err)
	}
	defer rows.Close()
	if !rows.Next() {
		if err := rows.Err(); err != nil {
			return zero, fmt.Errorf("read %s: %w", what, err)
		}
		return zero, fmt.Errorf("read %s: %w", what, store.ErrNotFound)
	}
	v, err := scan(rows)
	if err != nil {
		return zero, fmt.Errorf("read %s: %w", what, err)
	}
	return v, nil
}

// list reads all rows of a fixed statement.
func list[T any](t *Tx, what string, scan func(scanner) (T, error), query string, args ...any) ([]T, error) {
	rows, err := t.conn.Query(query, args...)
	return collect(rows, err, what, scan)
}

func collect[T any](rows *sql.Rows, err error, what string, scan func(scanner) (T, error)) ([]T, error) {
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	defer rows.Close()
	var out []T
	for rows.Next() {
		v, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", what, err)
		}
		out = append(out, v)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list %s: %w", what, err)
	}
	return out, nil
}

// where collects conditions with numbered arguments.
type where struct {
	conds []string
	args  []any
}

// and adds a condition in which each ? becomes the next placeholder.
func (w *where) and(cond string, args ...any) {
	for _, a := range args {
		w.args = append(w.args, a)
		cond = strings.Replace(cond, "?", "$"+strconv.Itoa(len(w.args)), 1)
	}
	w.conds = append(w.conds, cond)
}

// in adds "column IN (…)" unless values is empty.
func (w *where) in(column string, values []string) {
	if len(values) == 0 {
		return
	}
	args := make([]any, len(values))
	for i, v := range values {
		args[i] = v
	}
	w.and(column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")", args...)
}

func (w *where) String() string {
	if len(w.conds) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(w.conds, " AND ")
}

// page reads a part of the rows of table that w selects, and counts them all.
func page[T any](t *Tx, what string, scan func(scanner) (T, error), columns, table, order string, w where, p store.Page) ([]T, int, error) {
	total, err := count(t, "SELECT COUNT(*) FROM "+table+w.String(), w.args...)
	if err != nil {
		return nil, 0, fmt.Errorf("count %s: %w", what, err)
	}
	limit := p.Limit
	if limit <= 0 {
		limit = 100
	}
	n := len(w.args)
	query := fmt.Sprintf("SELECT %s FROM %s%s ORDER BY %s LIMIT $%d OFFSET $%d", columns, table, w.String(), order, n+1, n+2)
	rows, err := t.conn.QueryOnce(query, append(w.args, limit, max(p.Offset, 0))...)
	out, err := collect(rows, err, what, scan)
	return out, total, err
}

func count(t *Tx, query string, args ...any) (int, error) {
	rows, err := t.conn.QueryOnce(query, args...)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	n := 0
	if rows.Next() {
		if err := rows.Scan(&n); err != nil {
			return 0, err
		}
	}
	return n, rows.Err()
}

// micros is the stored form of a time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// blob is the stored form of bytes: never NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

func jsonList(v []string) string {
	if len(v) == 0 {
		return "[]"
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(b)
}

func fromJSONList(s string) ([]string, error) {
	if s == "[]" {
		return nil, nil
	}
	var v []string
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return nil, fmt.Errorf("decode list: %w", err)
	}
	return v, nil
}
