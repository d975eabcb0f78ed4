// SPDX-License-Identifier: Apache-2.0

// Package sqlite is the store in a SQLite file: WAL, synchronous=FULL, one
// writer with group commit, readers beside it. Once Update has returned nil,
// what it did survives the death of the process and of the machine. It holds no
// statement of the domain; those are in package sqldb.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqldb"
)

// DB is an open store. One process at a time may serve from a file; another
// (recover-admin, a backup) may read and write beside it.
type DB struct {
	path     string
	writer   *sql.DB
	readers  *sql.DB
	requests chan *request
	views    chan *view
	stop     chan struct{}
	workers  sync.WaitGroup // the writer, the readers and keepCache
	cache    cache

	mu     sync.RWMutex // held for reading by running calls
	closed bool
}

var _ store.Store = (*DB)(nil)

// Open opens the store in the file at path, makes it if it is not there (mode
// 0600) and brings its schema up to date. A file that others may read is refused.
func Open(ctx context.Context, path string) (*DB, error) {
	if err := prepareFile(path); err != nil {
		return nil, err
	}
	if err := migrate(ctx, path); err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	db := &DB{path: path, requests: make(chan *request, maxBatch), views: make(chan *view), stop: make(chan struct{})}
	if err := db.connect(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open store %s: %w", path, err), db.disconnect())
	}
	return db, nil
}

func prepareFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("open store: mode %04o of %s lets others read it; set it to 0600", info.Mode().Perm(), path)
	}
	return nil
}

// lockWait is how long a transaction waits for another process that has locked
// the database. Who came meanwhile waits as long again, in the next batch; twice
// it is less than clients wait for an answer (authd: 8 seconds).
const lockWait = 3 * time.Second

// source is the data source name. The pragmas hold for each connection.
func source(path string, readOnly bool) string {
	q := url.Values{"_pragma": {
		fmt.Sprintf("busy_timeout(%d)", lockWait.Milliseconds()),
		"journal_mode(WAL)",
		"synchronous(FULL)",
		"foreign_keys(ON)",
		"trusted_schema(OFF)",
		"cell_size_check(ON)",
		"journal_size_limit(67108864)",
		"temp_store(MEMORY)",
	}, "_txlock": {"immediate"}, "_dqs": {"0"}, "_defensive": {"1"}}
	if readOnly {
		q.Add("_pragma", "query_only(ON)")
	} else {
		// Room for what one update changes: a thousand identifiers of devices at
		// random are in nearly as many pages, and what does not fit goes to disk twice.
		q.Add("_pragma", "cache_size(-32768)")
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: q.Encode()}).String()
}

func migrate(ctx context.Context, path string) error {
	db, err := sql.Open("sqlite", source(path, false))
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	p, err := goose.NewProvider(goose.DialectSQLite3, db, sqldb.Migrations())
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	current, target, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read schema version: %w", err)
	}
	if current > target {
		return fmt.Errorf("schema version %d is from a later release than this program, which knows %d", current, target)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

func (db *DB) connect(ctx context.Context) error {
	var err error
	if db.writer, err = sql.Open("sqlite", source(db.path, false)); err != nil {
		return err
	}
	db.writer.SetMaxOpenConns(1)
	if db.readers, err = sql.Open("sqlite", source(db.path, true)); err != nil {
		return err
	}
	w, err := newConn(ctx, db.writer)
	if err != nil {
		return err
	}
	conns := []*conn{w}
	for range max(4, 2*runtime.GOMAXPROCS(0)) {
		c, err := newConn(ctx, db.readers)
		if err != nil {
			return err // disconnect closes the connections
		}
		conns = append(conns, c)
	}
	db.workers.Go(func() { db.write(w) })
	db.workers.Go(db.keepCache)
	for _, c := range conns[1:] {
		db.workers.Go(func() { db.read(c) })
	}
	return nil
}

func (db *DB) disconnect() error {
	var errs []error
	for _, pool := range []*sql.DB{db.readers, db.writer} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	return errors.Join(errs...)
}

// Close implements store.Store.
func (db *DB) Close() error {
	db.mu.Lock()
	if db.closed {
		db.mu.Unlock()
		return nil
	}
	db.closed = true
	db.mu.Unlock()
	close(db.requests)
	close(db.views)
	close(db.stop)
	db.workers.Wait()
	return db.disconnect()
}

// enter keeps the store open until leave; it fails when it is closed.
func (db *DB) enter() error {
	db.mu.RLock()
	if db.closed {
		db.mu.RUnlock()
		return store.ErrClosed
	}
	return nil
}

func (db *DB) leave() { db.mu.RUnlock() }

// Check verifies the file's integrity, which reads all of it.
func (db *DB) Check(ctx context.Context) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	return integrity(ctx, db.readers)
}

func integrity(ctx context.Context, db *sql.DB) error {
	var result string
	if err := db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&result); err != nil {
		return fmt.Errorf("check store: %w", err)
	}
	if result != "ok" {
		return fmt.Errorf("check store: %s", result)
	}
	return nil
}

// Backup writes a consistent copy to path, which must not exist; mode 0600.
func (db *DB) Backup(ctx context.Context, path string) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	return Copy(ctx, db.path, path)
}

// Copy writes a consistent copy of the store in the file at path to another,
// which must not exist; mode 0600. Other processes may read and write the store
// meanwhile; its schema stays as it is. The copy is checked but not synced.
func Copy(ctx context.Context, path, to string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("back up store: %w", err) // never make an empty one
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // VACUUM INTO takes an empty file
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	abs, err := filepath.Abs(to)
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	// Not a reader's connection: those refuse to write, even to another file.
	from, err := sql.Open("sqlite", source(path, false))
	if err != nil {
		return fmt.Errorf("back up store: %w", err)
	}
	defer from.Close()
	if _, err := from.ExecContext(ctx, "VACUUM INTO $1", abs); err != nil {
		return fmt.Errorf("back up store to %s: %w", to, err)
	}
	return checkCopy(ctx, abs)
}

func checkCopy(ctx context.Context, path string) error {
	copied, err := sql.Open("sqlite", (&url.URL{
		Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), RawQuery: "mode=ro&immutable=1",
	}).String())
	if err != nil {
		return fmt.Errorf("check the copy of the store: %w", err)
	}
	defer copied.Close()
	return integrity(ctx, copied)
}
