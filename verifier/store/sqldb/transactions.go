// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const txColumns = `txid, user_id, integration_key, factor, phone_id, generation, state, status, status_msg,
	code_hash, tries, context, event, created, expires, decided_at`

func scanTx(s scanner) (store.Transaction, error) {
	var (
		x                         store.Transaction
		created, expires, decided int64
	)
	err := s.Scan(&x.TxID, &x.UserID, &x.IntegrationKey, &x.Factor, &x.PhoneID, &x.Generation, &x.State, &x.Status,
		&x.StatusMsg, &x.CodeHash, &x.Tries, &x.Context, &x.Event, &created, &expires, &decided)
	x.Created, x.Expires, x.DecidedAt = fromMicros(created), fromMicros(expires), fromMicros(decided)
	return x, err
}

// Transaction implements store.Reader.
func (t *Tx) Transaction(txID string) (store.Transaction, error) {
	return one(t, "transaction", scanTx, `SELECT `+txColumns+` FROM transactions WHERE txid = $1`, txID)
}

// PhoneTransactions implements store.Reader.
func (t *Tx) PhoneTransactions(phoneID string, now time.Time) ([]store.Transaction, error) {
	return list(t, "transactions", scanTx, `SELECT `+txColumns+` FROM transactions
		WHERE phone_id = $1 AND state = 'pending' AND factor = 'push' AND expires > $2 ORDER BY created, txid`, phoneID, micros(now))
}

// OverdueTransactions implements store.Reader.
func (t *Tx) OverdueTransactions(now time.Time, limit int) ([]store.Transaction, error) {
	return list(t, "transactions", scanTx, `SELECT `+txColumns+` FROM transactions
		WHERE state = 'pending' AND expires <= $1 ORDER BY expires, txid LIMIT $2`, micros(now), limit)
}

// AddTransaction implements store.Writer.
func (t *Tx) AddTransaction(x store.Transaction) error {
	return t.add("transaction", `INSERT INTO transactions (`+txColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) ON CONFLICT DO NOTHING`,
		x.TxID, x.UserID, x.IntegrationKey, x.Factor, x.PhoneID, x.Generation, string(x.State), x.Status, x.StatusMsg,
		blob(x.CodeHash), x.Tries, blob(x.Context), blob(x.Event), micros(x.Created), micros(x.Expires), micros(x.DecidedAt))
}

// activePhone is the premise that the phone holds a key in that generation and
// is still the user's, the rows locked.
func (t *Tx) activePhone(user, phone, generation string) string {
	return t.samePhone(user, phone, generation, ` AND public_key <> ''`)
}

// samePhone is the premise that the phone is in that generation, fits cond and
// is still the user's, the rows locked.
func (t *Tx) samePhone(user, phone, generation, cond string) string {
	return `EXISTS (SELECT 1 FROM phones WHERE id = ` + phone + ` AND generation = ` + generation + cond +
		t.dialect.LockRow + `) AND ` + t.hasPhone(user, phone)
}

// hasPhone is the premise that the phone is the user's, the row locked.
func (t *Tx) hasPhone(user, phone string) string {
	return `EXISTS (SELECT 1 FROM user_phones WHERE user_id = ` + user + ` AND phone_id = ` + phone + t.dialect.LockRow + `)`
}

// StartTransaction implements store.Writer.
func (t *Tx) StartTransaction(s store.Start) (bool, error) {
	return t.won(`UPDATE transactions SET state = 'pending', factor = $4, phone_id = $5, generation = $6,
		status = $7, status_msg = $8, context = $9, event = $10, expires = $11
		WHERE txid = $1 AND integration_key = $2 AND user_id = $3 AND state = 'offered' AND expires > $12
		AND `+t.activeUser("$3")+` AND `+t.activePhone("$3", "$5", "$6"),
		s.TxID, s.IntegrationKey, s.UserID, s.Factor, s.PhoneID, s.Generation, s.Status, s.StatusMsg,
		blob(s.Context), blob(s.Event), micros(s.Expires), micros(s.Now))
}

// SetTransactionStatus implements store.Writer.
func (t *Tx) SetTransactionStatus(txID, status, message string, now time.Time) (bool, error) {
	return t.won(`UPDATE transactions SET status = $2, status_msg = $3
		WHERE txid = $1 AND state = 'pending' AND expires > $4 AND status <> $2`, txID, status, message, micros(now))
}

// TryDigits implements store.Writer.
func (t *Tx) TryDigits(txID string, limit int, now time.Time) (int, bool, error) {
	rows, err := t.conn.Query(`UPDATE transactions SET tries = tries + 1
		WHERE txid = $1 AND state = 'pending' AND expires > $2 AND tries < $3 RETURNING tries`, txID, micros(now), limit)
	tries, err := collect(rows, err, "tries", func(s scanner) (int, error) {
		var n int
		err := s.Scan(&n)
		return n, err
	})
	if err != nil || len(tries) == 0 {
		return 0, false, err
	}
	return tries[0], true, nil
}

// DecideTransaction implements store.Writer.
func (t *Tx) DecideTransaction(d store.Decision) (bool, error) {
	query := `UPDATE transactions SET state = $2, status = $3, status_msg = $4, decided_at = $5
		WHERE txid = $1 AND state = 'pending' AND expires > $5 AND ($6 = '' OR phone_id = $6)`
	if d.State == store.TxApproved {
		query += ` AND ` + t.activeUser("transactions.user_id")
	}
	if d.NeedsPhone {
		query += ` AND ` + t.samePhone("transactions.user_id", "transactions.phone_id", "transactions.generation", "")
	}
	args := []any{d.TxID, string(d.State), d.Status, d.StatusMsg, micros(d.Now), d.PhoneID}
	if d.NeedsKey {
		cond := ` AND public_key <> ''`
		if d.State == store.TxApproved {
			cond += ` AND verification = $7`
			args = append(args, d.Verification)
		}
		query += ` AND ` + t.samePhone("transactions.user_id", "transactions.phone_id", "transactions.generation", cond)
	}
	return t.won(query, args...)
}

// ExpireTransaction implements store.Writer.
func (t *Tx) ExpireTransaction(txID, status, message string, now time.Time) (bool, error) {
	return t.won(`UPDATE transactions SET state = 'expired', status = $2, status_msg = $3, decided_at = $4
		WHERE txid = $1 AND state = 'pending' AND expires <= $4`, txID, status, message, micros(now))
}

// PurgeTransactions implements store.Writer.
func (t *Tx) PurgeTransactions(before time.Time) error {
	if _, err := t.conn.Exec(`DELETE FROM transactions WHERE state <> 'pending' AND expires <= $1`, micros(before)); err != nil {
		return fmt.Errorf("purge transactions: %w", err)
	}
	return nil
}

// Purge implements store.Writer.
func (t *Tx) Purge(before time.Time) error {
	if err := t.PurgeTransactions(before); err != nil {
		return err
	}
	at := micros(before)
	for _, query := range []string{
		`DELETE FROM activations WHERE expires <= $1`,
		`DELETE FROM join_tokens WHERE expires <= $1`,
		`DELETE FROM sms_codes WHERE expires <= $1`,
		`DELETE FROM bypass_codes WHERE expires > 0 AND expires <= $1`,
		`DELETE FROM sessions WHERE expires <= $1`,
		`DELETE FROM enroll_links WHERE expires <= $1`,
		`DELETE FROM enroll_sessions WHERE ended_at > 0 AND expires <= $1`,
		`DELETE FROM mails WHERE created <= $1`,
		`DELETE FROM verification_challenges WHERE expires <= $1`,
	} {
		if _, err := t.conn.Exec(query, at); err != nil {
			return fmt.Errorf("purge: %w", err)
		}
	}
	return t.purgePush()
}
