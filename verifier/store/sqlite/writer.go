// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/sqldb"
)

// maxBatch bounds the updates that share one commit, and so how long the first waits.
const maxBatch = 128

// request is an update on its way to the writer.
type request struct {
	ctx    context.Context
	f      func(store.Writer) error
	result chan error
}

// Update implements store.Store.
func (db *DB) Update(ctx context.Context, f func(store.Writer) error) error {
	if err := db.enter(); err != nil {
		return err
	}
	defer db.leave()
	r := &request{ctx: ctx, f: f, result: make(chan error, 1)}
	select {
	case db.requests <- r:
	case <-ctx.Done():
		return fmt.Errorf("wait for the writer: %w", ctx.Err())
	}
	// Once the writer has it, its result counts, not the context: a caller must
	// not take for failed what was committed.
	return <-r.result
}

// write is the one writer: it gathers updates into batches until Close.
func (db *DB) write(c *conn) {
	defer c.close()
	batch := make([]*request, 0, maxBatch)
	for r := range db.requests {
		batch = append(batch[:0], r)
		for more := true; more && len(batch) < maxBatch; {
			select {
			case next, ok := <-db.requests:
				if more = ok; ok {
					batch = append(batch, next)
				}
			default:
				more = false
			}
		}
		db.commit(c, batch)
	}
}

// commit runs the batch in one transaction, each update in a savepoint, and
// then answers all. An update that fails is undone alone; if the transaction
// itself breaks, all fail.
func (db *DB) commit(c *conn, batch []*request) {
	results := make([]error, len(batch))
	touched := false
	if err := runBatch(c, batch, results, &touched); err != nil {
		// SQLite may have rolled back by itself already.
		_, _ = c.Exec("ROLLBACK")
		for i := range results {
			if results[i] == nil {
				results[i] = err
			}
		}
	}
	if touched { // before anyone learns that it is done
		db.cache.renew()
	}
	for i, r := range batch {
		r.result <- results[i]
	}
}

func runBatch(c *conn, batch []*request, results []error, touched *bool) error {
	if _, err := c.Exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin writing: %w", err)
	}
	for i, r := range batch {
		if err := r.ctx.Err(); err != nil {
			results[i] = fmt.Errorf("wait for the writer: %w", err)
			continue
		}
		var broken error
		if results[i], broken = runOne(c, r, touched); broken != nil {
			return broken
		}
	}
	if _, err := c.Exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// runOne runs one update in a savepoint. err is the update's own; broken means
// that the transaction around it is gone.
func runOne(c *conn, r *request, touched *bool) (err, broken error) {
	if _, err := c.Exec("SAVEPOINT update_"); err != nil {
		return nil, fmt.Errorf("begin update: %w", err)
	}
	err = contain(func() error { return r.f(writerTx{sqldb.NewTx(c, sqldb.Dialect{}), touched}) })
	if err != nil {
		if _, undo := c.Exec("ROLLBACK TO update_"); undo != nil {
			return err, fmt.Errorf("undo a failed update: %w", errors.Join(undo, err))
		}
	}
	if _, release := c.Exec("RELEASE update_"); release != nil {
		return err, fmt.Errorf("end update: %w", release)
	}
	return err, nil
}

// contain turns a panic of f into an error, so that it harms its caller alone.
func contain(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in a store function: %v\n%s", p, debug.Stack())
		}
	}()
	return f()
}
