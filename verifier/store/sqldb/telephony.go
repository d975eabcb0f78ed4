// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"strconv"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Credits implements store.Reader.
func (t *Tx) Credits() (store.Credits, error) {
	return one(t, "credits", func(s scanner) (store.Credits, error) {
		var (
			c                 store.Credits
			warned, exhausted int64
		)
		err := s.Scan(&c.Left, &warned, &exhausted)
		c.Warned, c.Exhausted = warned == 1, exhausted == 1
		return c, err
	}, `SELECT credits, warned, exhausted FROM telephony_account WHERE id = 1`)
}

// SetCredits implements store.Writer.
func (t *Tx) SetCredits(left int64) error {
	return t.set("credits", `UPDATE telephony_account SET credits = $1, warned = 0, exhausted = 0 WHERE id = 1`, max(left, store.Uncounted))
}

// SpendCredits implements store.Writer.
func (t *Tx) SpendCredits(cost int64) (bool, error) {
	return t.won(`UPDATE telephony_account SET credits = CASE WHEN credits < 0 THEN credits ELSE credits - $1 END
		WHERE id = 1 AND (credits < 0 OR credits >= $1)`, max(cost, 0))
}

// WarnCredits implements store.Writer.
func (t *Tx) WarnCredits(low int64) (bool, error) {
	return t.won(`UPDATE telephony_account SET warned = 1 WHERE id = 1 AND warned = 0 AND credits >= 0 AND credits <= $1`, low)
}

// ExhaustCredits implements store.Writer.
func (t *Tx) ExhaustCredits(cost int64) (bool, error) {
	return t.won(`UPDATE telephony_account SET exhausted = 1 WHERE id = 1 AND exhausted = 0 AND credits >= 0 AND credits < $1`, cost)
}

const telephonyColumns = `id, at, context, type, phone, txid, user_id, credits, counted, refunded`

func scanTelephony(s scanner) (store.TelephonyEntry, error) {
	var (
		e                     store.TelephonyEntry
		at, counted, refunded int64
	)
	err := s.Scan(&e.ID, &at, &e.Context, &e.Type, &e.Phone, &e.TxID, &e.UserID, &e.Credits, &counted, &refunded)
	e.Time, e.Counted = fromMicros(at), counted == 1
	if refunded == 1 {
		e.Credits = 0
	}
	return e, err
}

// AddTelephonyEntry implements store.Writer.
func (t *Tx) AddTelephonyEntry(e store.TelephonyEntry) error {
	err := t.add("telephony entry", `INSERT INTO telephony_log (`+telephonyColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0) ON CONFLICT DO NOTHING`,
		e.ID, micros(e.Time), e.Context, e.Type, e.Phone, e.TxID, e.UserID, e.Credits, bit(e.Counted))
	if err != nil {
		return err
	}
	return t.feed(store.TelephonyLog, e.ID)
}

// TelephonyEntries implements store.Reader.
func (t *Tx) TelephonyEntries(f store.TelephonyFilter) ([]store.TelephonyEntry, error) {
	var w where
	if !f.From.IsZero() {
		w.and("at >= ?", micros(f.From))
	}
	if !f.To.IsZero() {
		w.and("at < ?", micros(f.To))
	}
	order, after := "at, id", "(at > ? OR (at = ? AND id > ?))"
	if f.Newest {
		order, after = "at DESC, id DESC", "(at < ? OR (at = ? AND id < ?))"
	}
	if !f.AfterTime.IsZero() {
		at := micros(f.AfterTime)
		w.and(after, at, at, f.AfterID)
	}
	limit := f.Limit
	if limit <= 0 {
		limit = 100
	}
	rows, err := t.conn.QueryOnce(`SELECT `+telephonyColumns+` FROM telephony_log`+w.String()+` ORDER BY `+order+
		` LIMIT $`+strconv.Itoa(len(w.args)+1), append(w.args, limit)...)
	return collect(rows, err, "telephony log", scanTelephony)
}

// CreditsUsed implements store.Reader.
func (t *Tx) CreditsUsed(from, to time.Time) (int64, error) {
	return one(t, "credits used", func(s scanner) (n int64, err error) {
		err = s.Scan(&n)
		return n, err
	}, `SELECT CAST(COALESCE(SUM(credits), 0) AS BIGINT) FROM telephony_log WHERE refunded = 0 AND at >= $1 AND at < $2`, micros(from), micros(to))
}

// RefundEntry implements store.Writer.
func (t *Tx) RefundEntry(id string) (bool, error) {
	won, err := t.won(`UPDATE telephony_log SET refunded = 1 WHERE id = $1 AND refunded = 0`, id)
	if err != nil || !won {
		return false, err
	}
	_, err = t.conn.Exec(`UPDATE telephony_account SET credits = credits + (SELECT credits FROM telephony_log WHERE id = $1)
		WHERE id = 1 AND credits >= 0 AND EXISTS (SELECT 1 FROM telephony_log WHERE id = $1 AND counted = 1)`, id)
	if err != nil {
		return false, fmt.Errorf("refund credits: %w", err)
	}
	return true, nil
}

// PurgeTelephony implements store.Writer.
func (t *Tx) PurgeTelephony(before time.Time) error {
	if _, err := t.conn.Exec(`DELETE FROM telephony_log WHERE at < $1`, micros(before)); err != nil {
		return fmt.Errorf("delete old telephony entries: %w", err)
	}
	return nil
}
