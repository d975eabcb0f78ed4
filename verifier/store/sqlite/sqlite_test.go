// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport-mfa/sallyport/verifier/store"
	"github.com/sallyport-mfa/sallyport/verifier/store/storetest"
)

func open(t *testing.T, path string) *DB {
	t.Helper()
	db, err := Open(context.Background(), path)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "store.db")) })
}

// TestVersion: releases before 3.51.3 have a race between a checkpoint and a
// writer that can corrupt a WAL database.
func TestVersion(t *testing.T) {
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var version string
	if err := db.QueryRow("SELECT sqlite_version()").Scan(&version); err != nil {
		t.Fatal(err)
	}
	var major, minor, patch int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); err != nil {
		t.Fatalf("version %q: %v", version, err)
	}
	if major*1_000_000+minor*1_000+patch < 3_051_003 {
		t.Fatalf("bundled SQLite is %s, want 3.51.3 or later", version)
	}
}

func TestPragmas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a b?%#.db")
	db := open(t, path)
	defer db.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("a file name with special characters: %v", err)
	}
	err := db.Update(context.Background(), func(store.Writer) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	c, err := newConn(context.Background(), db.readers)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "3000",
		"trusted_schema": "0", "query_only": "1",
	} {
		var got string
		if err := c.c.QueryRowContext(context.Background(), "PRAGMA "+pragma).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s is %q, want %q", pragma, got, want)
		}
	}
	if err := db.Check(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestFileModes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "store.db")
	db := open(t, path)
	defer db.Close()
	if err := db.Backup(context.Background(), filepath.Join(dir, "copy.db")); err != nil {
		t.Fatal(err)
	}
	if err := db.Backup(context.Background(), filepath.Join(dir, "copy.db")); !errors.Is(err, os.ErrExist) {
		t.Fatalf("a backup over a file: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 4 { // store.db, -wal, -shm, copy.db
		t.Errorf("%d files, want 4", len(entries))
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %04o", e.Name(), info.Mode().Perm())
		}
	}
	loose := filepath.Join(dir, "loose.db")
	if err := os.WriteFile(loose, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(loose, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), loose); err == nil || !strings.Contains(err.Error(), "0640") {
		t.Fatalf("a file that others may read: %v", err)
	}
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	db := open(t, path)
	if err := db.Update(context.Background(), func(w store.Writer) error { return w.AddUser(storetest.User("DU1", "alice")) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, path)
	defer db.Close()
	if err := db.View(context.Background(), func(r store.Reader) error { _, err := r.UserByName("alice"); return err }); err != nil {
		t.Fatal(err)
	}
}

// TestLaterSchema: an older program does not touch a newer schema.
func TestLaterSchema(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	if err := open(t, path).Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := sql.Open("sqlite", source(path, false))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := raw.Exec("INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)"); err != nil {
		t.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), path); err == nil || !strings.Contains(err.Error(), "later release") {
		t.Fatalf("a later schema: %v", err)
	}
}

// TestKilledWriter kills a process that writes and reports each update that
// returned: all of those must be there.
func TestKilledWriter(t *testing.T) {
	const env = "SALLYPORT_TEST_KILLED_WRITER"
	if path := os.Getenv(env); path != "" {
		writeUntilKilled(path)
	}
	for round := range 3 {
		path := filepath.Join(t.TempDir(), "store.db")
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
		cmd.Env = append(os.Environ(), env+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var reported []string
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			reported = append(reported, lines.Text())
			if len(reported) == 200+100*round {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // killed
		if len(reported) < 200 {
			t.Fatalf("the writer reported %d updates only: %v", len(reported), reported)
		}
		db := open(t, path)
		err = db.View(context.Background(), func(r store.Reader) error {
			for _, id := range reported {
				if _, err := r.User(id); err != nil {
					return fmt.Errorf("%s was reported as written: %w", id, err)
				}
			}
			return nil
		})
		if err := errors.Join(err, db.Check(context.Background()), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// writeUntilKilled adds users from several goroutines, printing each id once it is durable.
func writeUntilKilled(path string) {
	db, err := Open(context.Background(), path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for g := range 8 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("DU%d-%d", g, i)
				err := db.Update(context.Background(), func(w store.Writer) error { return w.AddUser(storetest.User(id, id)) })
				if err != nil {
					os.Exit(1)
				}
				_, _ = os.Stdout.WriteString(id + "\n")
			}
		}()
	}
	select {}
}

// TestBrokenTransaction: if SQLite itself ends the transaction of a batch,
// nobody in it is told that it worked, and the writer goes on.
func TestBrokenTransaction(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "store.db"))
	defer db.Close()
	c, err := newConn(context.Background(), openRaw(t, db.path))
	if err != nil {
		t.Fatal(err)
	}
	batch := []*request{
		{ctx: context.Background(), f: func(w store.Writer) error { return w.AddUser(storetest.User("DU1", "a")) }},
		{ctx: context.Background(), f: func(store.Writer) error { _, err := c.Exec("ROLLBACK"); return err }},
		{ctx: context.Background(), f: func(w store.Writer) error { return w.AddUser(storetest.User("DU3", "c")) }},
	}
	for _, r := range batch {
		r.result = make(chan error, 1)
	}
	db.commit(c, batch)
	for i, r := range batch {
		if err := <-r.result; err == nil {
			t.Errorf("update %d of a broken batch was reported as done", i)
		}
	}
	for _, id := range []string{"DU1", "DU3"} {
		err := db.View(context.Background(), func(r store.Reader) error { _, err := r.User(id); return err })
		if !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s after a broken batch: %v", id, err)
		}
	}
	again := &request{ctx: context.Background(), f: func(w store.Writer) error { return w.AddUser(storetest.User("DU4", "d")) }, result: make(chan error, 1)}
	db.commit(c, []*request{again})
	if err := <-again.result; err != nil {
		t.Fatalf("after a broken batch: %v", err)
	}
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
}

// TestFullDisk: an update that finds no room fails, without harm to what is
// there or to the next one.
func TestFullDisk(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "store.db"))
	defer db.Close()
	c, err := newConn(context.Background(), openRaw(t, db.path))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Exec("PRAGMA max_page_count = 1"); err != nil { // no more than there are
		t.Fatal(err)
	}
	run := func(f func(store.Writer) error) error {
		r := &request{ctx: context.Background(), f: f, result: make(chan error, 1)}
		db.commit(c, []*request{r})
		return <-r.result
	}
	var full error
	written := 0
	for full == nil && written < 10_000 {
		u := storetest.User(fmt.Sprintf("DU%d", written), fmt.Sprintf("user%d", written))
		u.Notes = strings.Repeat("x", 2000)
		if full = run(func(w store.Writer) error { return w.AddUser(u) }); full == nil {
			written++
		}
	}
	if full == nil || !strings.Contains(full.Error(), "full") {
		t.Fatalf("after %d users: %v", written, full)
	}
	if _, err := c.Exec("PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	if err := run(func(w store.Writer) error { return w.AddUser(storetest.User("DUx", "x")) }); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	err = db.View(context.Background(), func(r store.Reader) error {
		_, n, err := r.Users(store.UserFilter{}, store.Page{})
		if n != written+1 {
			t.Errorf("%d users, want %d", n, written+1)
		}
		return err
	})
	if err := errors.Join(err, db.Check(context.Background()), c.close()); err != nil {
		t.Fatal(err)
	}
}

func openRaw(t *testing.T, path string) *sql.DB {
	t.Helper()
	raw, err := sql.Open("sqlite", source(path, false))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = raw.Close() })
	return raw
}
