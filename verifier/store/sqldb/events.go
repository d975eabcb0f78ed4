// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// The logs, by their names in log_heads.
const (
	authLog  = "auth"
	adminLog = "admin"
)

// catchUp is how much before the last entry the next one may be dated and still
// take its time. What is dated earlier was reported late and keeps its time.
const catchUp = 10 * time.Second

type position struct {
	pos int64
	at  time.Time
}

// next takes the next position of a log, and the time for an entry of that time.
// The row of the head stays locked until the transaction ends, so that positions
// become visible in their order.
func (t *Tx) next(log string, at time.Time) (position, error) {
	rows, err := t.conn.Query(`UPDATE log_heads SET pos = pos + 1,
		at = CASE WHEN at > $2 AND at <= $2 + $3 THEN at ELSE $2 END WHERE log = $1 RETURNING pos, at`,
		log, micros(at), catchUp.Microseconds())
	got, err := collect(rows, err, "heads of logs", func(s scanner) (p position, err error) {
		var at int64
		err = s.Scan(&p.pos, &at)
		p.at = fromMicros(at)
		return p, err
	})
	if err != nil {
		return position{}, err
	}
	if len(got) != 1 {
		return position{}, fmt.Errorf("take a position of log %q: %w", log, store.ErrNotFound)
	}
	return got[0], nil
}

// AddEvent implements store.Writer.
func (t *Tx) AddEvent(e store.Event) error {
	e.Time = e.Time.UTC().Truncate(time.Millisecond)
	p, err := t.next(authLog, e.Time)
	if err != nil {
		return err
	}
	if !p.at.Equal(e.Time) {
		e.Time, e.Timestamp = p.at, p.at.Unix()
		e.ISOTimestamp = p.at.Format("2006-01-02T15:04:05.000000+00:00")
	}
	doc, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	err = t.add("event", `INSERT INTO auth_events (txid, at, event_type, factor, result, reason, user_id, username,
		integration_key, doc, pos, device_key, user_groups)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING`,
		e.TxID, micros(e.Time), e.EventType, e.Factor, e.Result, e.Reason, e.User.Key, e.User.Name,
		e.Application.Key, string(doc), p.pos, e.AuthDevice.Key, groupText(e.User.Groups))
	if err != nil {
		return err
	}
	return t.feed(store.AuthenticationLog, e.TxID)
}

// groupText holds names between separators, so that one can be looked for.
func groupText(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return separator + strings.Join(names, separator) + separator
}

// separator is a character that no name holds.
const separator = "\x1f"

// Event implements store.Reader.
func (t *Tx) Event(txID string) (store.Event, error) {
	return one(t, "event", scanEvent, `SELECT at, doc FROM auth_events WHERE txid = $1`, txID)
}

func eventsWhere(f store.EventFilter) where {
	var w where
	w.span(f.From, f.To)
	w.in("user_id", f.Users)
	w.in("username", f.Usernames)
	w.in("integration_key", f.Integrations)
	w.in("factor", f.Factors)
	w.in("result", f.Results)
	w.in("reason", f.Reasons)
	w.in("event_type", f.EventTypes)
	w.in("device_key", f.Devices)
	w.in("device_key", f.Phones)
	var groups []string
	var args []any
	for _, g := range f.Groups {
		groups = append(groups, `user_groups LIKE ? ESCAPE '\'`)
		args = append(args, "%"+separator+escapeLike(g)+separator+"%")
	}
	if len(groups) > 0 {
		w.and("("+strings.Join(groups, " OR ")+")", args...)
	}
	return w
}

func escapeLike(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s)
}

// span adds that an entry is of that time.
func (w *where) span(from, to time.Time) {
	if !from.IsZero() {
		w.and("at >= ?", micros(from))
	}
	if !to.IsZero() {
		w.and("at < ?", micros(to))
	}
}

// after adds that an entry comes behind the one with that id, or where it stood.
func (w *where) after(table, key, id string, at time.Time, newest bool) {
	if id == "" {
		return
	}
	its := "(SELECT pos FROM " + table + " WHERE " + key + " = ?)"
	if newest {
		w.and("pos < COALESCE("+its+", (SELECT MIN(pos) FROM "+table+" WHERE at > ?), "+
			"(SELECT MAX(pos) + 1 FROM "+table+"))", id, micros(at))
		return
	}
	w.and("pos > COALESCE("+its+", (SELECT MAX(pos) FROM "+table+" WHERE at < ?), 0)", id, micros(at))
}

func byPosition(newest bool) string {
	if newest {
		return "pos DESC"
	}
	return "pos"
}

// Events implements store.Reader.
func (t *Tx) Events(f store.EventFilter) ([]store.Event, error) {
	w := eventsWhere(f)
	w.after("auth_events", "txid", f.AfterTxID, f.AfterTime, f.Newest)
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	query := `SELECT at, doc FROM auth_events` + w.String() + ` ORDER BY ` + byPosition(f.Newest) + ` LIMIT $` + strconv.Itoa(len(w.args)+1)
	rows, err := t.conn.QueryOnce(query, append(w.args, limit)...)
	return collect(rows, err, "events", scanEvent)
}

// CountEvents implements store.Reader.
func (t *Tx) CountEvents(f store.EventFilter) (int, error) {
	w := eventsWhere(f)
	n, err := count(t, `SELECT COUNT(*) FROM auth_events`+w.String(), w.args...)
	if err != nil {
		return 0, fmt.Errorf("count events: %w", err)
	}
	return n, nil
}

// EventCounts implements store.Reader.
func (t *Tx) EventCounts(from, to time.Time) ([]store.EventCount, error) {
	return list(t, "counts of events", func(s scanner) (c store.EventCount, err error) {
		err = s.Scan(&c.Result, &c.Attempts, &c.Users)
		return c, err
	}, `SELECT result, COUNT(*), COUNT(DISTINCT username) FROM auth_events
		WHERE event_type = 'authentication' AND at >= $1 AND at < $2 GROUP BY result ORDER BY result`, micros(from), micros(to))
}

func scanEvent(s scanner) (store.Event, error) {
	var (
		e   store.Event
		at  int64
		doc string
	)
	if err := s.Scan(&at, &doc); err != nil {
		return e, err
	}
	err := json.Unmarshal([]byte(doc), &e)
	e.Time = fromMicros(at)
	return e, err
}

// AddAdminEvent implements store.Writer.
func (t *Tx) AddAdminEvent(e store.AdminEvent) error {
	description := e.Description
	if len(description) == 0 {
		description = json.RawMessage("{}")
	}
	p, err := t.next(adminLog, e.Time)
	if err != nil {
		return err
	}
	id := rand.Text()
	err = t.add("administrator event", `INSERT INTO admin_events (id, at, username, action, object, description, pos)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		id, micros(p.at), e.Username, e.Action, e.Object, string(description), p.pos)
	if err != nil {
		return err
	}
	return t.feed(store.AdministratorLog, id)
}

// AdminEvents implements store.Reader.
func (t *Tx) AdminEvents(since time.Time, limit int) ([]store.AdminEvent, error) {
	return t.AdminLog(store.AdminEventFilter{From: since, Limit: limit})
}

// AdminLog implements store.Reader.
func (t *Tx) AdminLog(f store.AdminEventFilter) ([]store.AdminEvent, error) {
	var w where
	w.span(f.From, f.To)
	if f.Prefix != "" {
		w.and(`action LIKE ? ESCAPE '\'`, escapeLike(f.Prefix)+"%")
	}
	if f.NotPrefix != "" {
		w.and(`action NOT LIKE ? ESCAPE '\'`, escapeLike(f.NotPrefix)+"%")
	}
	w.after("admin_events", "id", f.AfterID, f.AfterTime, f.Newest)
	limit := f.Limit
	if limit <= 0 {
		limit = 1000
	}
	query := `SELECT id, at, username, action, object, description FROM admin_events` + w.String() +
		` ORDER BY ` + byPosition(f.Newest) + ` LIMIT $` + strconv.Itoa(len(w.args)+1)
	rows, err := t.conn.QueryOnce(query, append(w.args, limit)...)
	return collect(rows, err, "administrator events", scanAdminEvent)
}

func scanAdminEvent(s scanner) (store.AdminEvent, error) {
	var (
		e           store.AdminEvent
		at          int64
		description string
	)
	err := s.Scan(&e.ID, &at, &e.Username, &e.Action, &e.Object, &description)
	e.Time, e.Description = fromMicros(at), json.RawMessage(description)
	return e, err
}
