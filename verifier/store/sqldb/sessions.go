// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// RememberedDevices implements store.Reader.
func (t *Tx) RememberedDevices() (store.RememberedDevices, error) {
	return one(t, "policy remembered_devices", func(s scanner) (store.RememberedDevices, error) {
		var (
			p               store.RememberedDevices
			enabled, choice int64
			factors         string
		)
		err := s.Scan(&enabled, &p.MaxSeconds, &choice, &factors)
		p.Enabled, p.UserChoice = enabled == 1, choice == 1
		p.Factors = strings.FieldsFunc(factors, func(r rune) bool { return r == ',' })
		return p, err
	}, `SELECT enabled, max_seconds, user_choice, factors FROM remembered_devices WHERE id = 1`)
}

// SetRememberedDevices implements store.Writer.
func (t *Tx) SetRememberedDevices(p store.RememberedDevices, now time.Time) error {
	// A comma before and after each name, so that LIKE finds whole names.
	factors := "," + strings.Join(p.Factors, ",") + ","
	err := t.set("policy remembered_devices", `UPDATE remembered_devices
		SET enabled = $1, max_seconds = $2, user_choice = $3, factors = $4 WHERE id = 1`,
		bit(p.Enabled), p.MaxSeconds, bit(p.UserChoice), factors)
	if err != nil {
		return err
	}
	_, err = t.conn.Exec(`UPDATE sessions SET expires = created + $1 WHERE ended_at = 0 AND expires > created + $1`,
		int64(p.MaxSeconds)*1_000_000)
	if err != nil {
		return fmt.Errorf("shorten sessions: %w", err)
	}
	_, err = t.conn.Exec(`UPDATE sessions SET ended_at = $1, ended_why = $2
		WHERE ended_at = 0 AND expires > $1 AND ($3 = 0 OR $4 NOT LIKE '%,' || factor || ',%')`,
		micros(now), store.EndedPolicy, bit(p.Enabled), factors)
	if err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	return nil
}

const sessionColumns = `id, user_id, host_id, binding, factor, device_id, generation, txid, service, tty,
	created, expires, last_used, uses, ended_at, ended_why`

func scanSession(s scanner) (store.Session, error) {
	var (
		x                             store.Session
		created, expires, used, ended int64
	)
	err := s.Scan(&x.ID, &x.UserID, &x.HostID, &x.Binding, &x.Factor, &x.DeviceID, &x.Generation, &x.TxID, &x.Service, &x.TTY,
		&created, &expires, &used, &x.Uses, &ended, &x.EndedWhy)
	x.Created, x.Expires, x.LastUsed, x.EndedAt = fromMicros(created), fromMicros(expires), fromMicros(used), fromMicros(ended)
	return x, err
}

// Session implements store.Reader.
func (t *Tx) Session(id string) (store.Session, error) {
	return one(t, "session", scanSession, `SELECT `+sessionColumns+` FROM sessions WHERE id = $1`, id)
}

// SessionByTx implements store.Reader.
func (t *Tx) SessionByTx(txID string) (store.Session, error) {
	return one(t, "session", scanSession, `SELECT `+sessionColumns+` FROM sessions WHERE txid = $1`, txID)
}

// Sessions implements store.Reader.
func (t *Tx) Sessions(f store.SessionFilter, p store.Page) ([]store.Session, int, error) {
	var w where
	if f.UserID != "" {
		w.and("user_id = ?", f.UserID)
	}
	if f.HostID != "" {
		w.and("host_id = ?", f.HostID)
	}
	if !f.LiveAt.IsZero() {
		w.and("ended_at = 0 AND expires > ?", micros(f.LiveAt))
	}
	return page(t, "sessions", scanSession, sessionColumns, "sessions", "created DESC, id", w, p)
}

// standingHost is the premise that the host is not revoked, the row locked.
func (t *Tx) standingHost(host string) string {
	return `EXISTS (SELECT 1 FROM hosts WHERE id = ` + host + ` AND revoked_at = 0` + t.dialect.LockRow + `)`
}

// rememberable is the premise that the policy grants this factor for the time
// from created to until, the row locked.
func (t *Tx) rememberable(factor, created, until string) string {
	return `EXISTS (SELECT 1 FROM remembered_devices WHERE id = 1 AND enabled = 1
		AND ` + created + ` + max_seconds * 1000000 >= ` + until + ` AND factors LIKE '%,' || ` + factor + ` || ',%'` + t.dialect.LockRow + `)`
}

// heldDevice is the premise that the device is the user's: a token, or a phone in
// that generation, the rows locked. An empty device cannot be taken away.
func (t *Tx) heldDevice(user, device, generation string) string {
	return `(` + device + ` = ''
		OR EXISTS (SELECT 1 FROM user_tokens WHERE user_id = ` + user + ` AND token_id = ` + device + t.dialect.LockRow + `)
		OR (` + t.samePhone(user, device, generation, "") + `))`
}

// AddSession implements store.Writer.
func (t *Tx) AddSession(s store.Session, since time.Time) (bool, error) {
	return t.won(`INSERT INTO sessions (`+sessionColumns+`)
		SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, 0, ''
		WHERE EXISTS (SELECT 1 FROM auth_events e JOIN hosts h ON h.integration_key = e.integration_key
			WHERE h.id = $3 AND e.txid = $8 AND e.user_id = $2 AND e.factor = $5 AND e.event_type = 'authentication'
			AND e.result = 'success' AND e.at > $13)
		AND `+t.activeUser("$2")+` AND `+t.standingHost("$3")+` AND `+t.rememberable("$5", "$11", "$12")+`
		AND `+t.heldDevice("$2", "$6", "$7")+` ON CONFLICT DO NOTHING`,
		s.ID, s.UserID, s.HostID, blob(s.Binding), s.Factor, s.DeviceID, s.Generation, s.TxID, s.Service, s.TTY,
		micros(s.Created), micros(s.Expires), micros(since))
}

// UseSession implements store.Writer.
func (t *Tx) UseSession(u store.SessionUse) (bool, error) {
	return t.won(`UPDATE sessions SET last_used = $5, uses = uses + 1
		WHERE id = $1 AND user_id = $2 AND host_id = $3 AND binding = $4 AND ended_at = 0 AND expires > $5
		AND `+t.activeUser("sessions.user_id")+` AND `+t.standingHost("sessions.host_id")+`
		AND `+t.rememberable("sessions.factor", "sessions.created", "sessions.expires")+`
		AND `+t.heldDevice("sessions.user_id", "sessions.device_id", "sessions.generation"),
		u.ID, u.UserID, u.HostID, blob(u.Binding), micros(u.Now))
}

// EndSessions implements store.Writer.
func (t *Tx) EndSessions(e store.SessionEnd) (int, error) {
	if e.ID == "" && e.UserID == "" && (e.HostID == "" || len(e.Binding) == 0) {
		return 0, errors.New("end sessions: none is named")
	}
	n, err := t.conn.Exec(`UPDATE sessions SET ended_at = $1, ended_why = $2 WHERE ended_at = 0 AND expires > $1
		AND ($3 = '' OR id = $3) AND ($4 = '' OR user_id = $4) AND ($5 = '' OR (host_id = $5 AND binding = $6))`,
		micros(e.Now), e.Why, e.ID, e.UserID, e.HostID, blob(e.Binding))
	if err != nil {
		return 0, fmt.Errorf("end sessions: %w", err)
	}
	return int(n), nil
}
