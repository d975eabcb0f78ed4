// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"slices"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// feed puts an event that was just added on its way to the streams, if there are any.
func (t *Tx) feed(log, id string) error {
	numbered, err := t.won(`UPDATE feed_counter SET last = last + 1 WHERE id = 1 AND EXISTS (SELECT 1 FROM streams)`)
	if err != nil {
		return fmt.Errorf("number an event for the streams: %w", err)
	}
	if !numbered {
		return nil
	}
	return t.add("event to the feed", `INSERT INTO feed (seq, kind, id) SELECT last, $1, $2 FROM feed_counter WHERE id = 1
		ON CONFLICT DO NOTHING`, log, id)
}

// Streams implements store.StreamReader.
func (t *Tx) Streams() ([]store.Stream, error) {
	return list(t, "streams", func(s scanner) (v store.Stream, err error) {
		var created int64
		err = s.Scan(&v.Name, &v.Position, &created)
		v.Created = fromMicros(created)
		return v, err
	}, `SELECT name, position, created FROM streams ORDER BY name`)
}

// FeedEnd implements store.StreamReader.
func (t *Tx) FeedEnd() (int64, error) {
	return one(t, "feed counter", func(s scanner) (n int64, err error) {
		err = s.Scan(&n)
		return n, err
	}, `SELECT last FROM feed_counter WHERE id = 1`)
}

// Feed implements store.StreamReader.
func (t *Tx) Feed(after int64, limit int) ([]store.FeedEntry, error) {
	entries, err := list(t, "feed", func(s scanner) (e store.FeedEntry, err error) {
		err = s.Scan(&e.Seq, &e.Log, &e.ID)
		return e, err
	}, `SELECT seq, kind, id FROM feed WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	if err != nil {
		return nil, err
	}
	for i := range entries {
		if err := t.fill(&entries[i]); err != nil {
			return nil, err
		}
	}
	return entries, nil
}

// fill reads the event of an entry.
func (t *Tx) fill(e *store.FeedEntry) (err error) {
	switch e.Log {
	case store.AuthenticationLog:
		e.Authentication, err = optional(list(t, "event", scanEvent, `SELECT at, doc FROM auth_events WHERE txid = $1`, e.ID))
	case store.AdministratorLog:
		e.Administrator, err = optional(list(t, "administrator event", scanAdminEvent,
			`SELECT id, at, username, action, object, description FROM admin_events WHERE id = $1`, e.ID))
	case store.TelephonyLog:
		e.Telephony, err = optional(list(t, "telephony entry", scanTelephony,
			`SELECT `+telephonyColumns+` FROM telephony_log WHERE id = $1`, e.ID))
	}
	return err
}

// optional is the one row of a list, or none.
func optional[T any](rows []T, err error) (*T, error) {
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}

// KeepStreams implements store.StreamWriter.
func (t *Tx) KeepStreams(names []string, now time.Time) (gone []store.Stream, err error) {
	there, err := t.Streams()
	if err != nil {
		return nil, err
	}
	for _, s := range there {
		if slices.Contains(names, s.Name) {
			continue
		}
		if err := t.set("stream", `DELETE FROM streams WHERE name = $1`, s.Name); err != nil {
			return nil, err
		}
		gone = append(gone, s)
	}
	for _, name := range names {
		_, err := t.conn.Exec(`INSERT INTO streams (name, position, created) SELECT $1, last, $2 FROM feed_counter WHERE id = 1
			ON CONFLICT DO NOTHING`, name, micros(now))
		if err != nil {
			return nil, fmt.Errorf("add stream: %w", err)
		}
	}
	return gone, t.trimFeed()
}

// MoveStream implements store.StreamWriter.
func (t *Tx) MoveStream(name string, from, to int64) (bool, error) {
	won, err := t.won(`UPDATE streams SET position = $3 WHERE name = $1 AND position = $2 AND $3 > $2
		AND $3 <= (SELECT last FROM feed_counter WHERE id = 1)`, name, from, to)
	if err != nil || !won {
		return false, err
	}
	return true, t.trimFeed()
}

// trimFeed deletes what every stream has.
func (t *Tx) trimFeed() error {
	_, err := t.conn.Exec(`DELETE FROM feed WHERE seq <= (SELECT COALESCE(MIN(position),
		(SELECT last FROM feed_counter WHERE id = 1)) FROM streams)`)
	if err != nil {
		return fmt.Errorf("trim the feed: %w", err)
	}
	return nil
}
