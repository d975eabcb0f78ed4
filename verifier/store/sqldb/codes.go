// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// activeUser is the premise that the user $n is active, the row locked.
func (t *Tx) activeUser(placeholder string) string {
	return `EXISTS (SELECT 1 FROM users WHERE id = ` + placeholder + ` AND status = 'active'` + t.dialect.LockRow + `)`
}

// UseTOTPStep implements store.Writer.
func (t *Tx) UseTOTPStep(userID, tokenID string, step int64) (bool, error) {
	return t.won(`UPDATE tokens SET last_step = $3 WHERE id = $2 AND type IN ('t6', 't8') AND last_step < $3
		AND EXISTS (SELECT 1 FROM user_tokens WHERE user_id = $1 AND token_id = $2`+t.dialect.LockRow+`)
		AND `+t.activeUser("$1"), userID, tokenID, step)
}

// UseHOTPCounter implements store.Writer.
func (t *Tx) UseHOTPCounter(userID, tokenID string, counter int64) (bool, error) {
	return t.won(`UPDATE tokens SET counter = $3 + 1 WHERE id = $2 AND type IN ('h6', 'h8') AND counter <= $3
		AND EXISTS (SELECT 1 FROM user_tokens WHERE user_id = $1 AND token_id = $2`+t.dialect.LockRow+`)
		AND `+t.activeUser("$1"), userID, tokenID, counter)
}

// UseYubicoCounter implements store.Writer.
func (t *Tx) UseYubicoCounter(userID, tokenID string, counter int64) (bool, error) {
	return t.won(`UPDATE tokens SET counter = $3 WHERE id = $2 AND type = 'yk' AND counter < $3
		AND EXISTS (SELECT 1 FROM user_tokens WHERE user_id = $1 AND token_id = $2`+t.dialect.LockRow+`)
		AND `+t.activeUser("$1"), userID, tokenID, counter)
}

const bypassColumns = `id, user_id, hash, uses_left, created, expires, recovery`

func scanBypass(s scanner) (store.BypassCode, error) {
	var (
		b                          store.BypassCode
		created, expires, recovery int64
	)
	err := s.Scan(&b.ID, &b.UserID, &b.Hash, &b.UsesLeft, &created, &expires, &recovery)
	b.Created, b.Expires, b.Recovery = fromMicros(created), fromMicros(expires), recovery == 1
	return b, err
}

// BypassCodes implements store.Reader: oldest first.
func (t *Tx) BypassCodes(userID string, p store.Page) ([]store.BypassCode, int, error) {
	var w where
	w.and("uses_left <> 0")
	if userID != "" {
		w.and("user_id = ?", userID)
	}
	return page(t, "bypass codes", scanBypass, bypassColumns, "bypass_codes", "created, id", w, p)
}

// HasBypassCode implements store.Reader.
func (t *Tx) HasBypassCode(userID string, now time.Time) (bool, error) {
	n, err := count(t, `SELECT COUNT(*) FROM bypass_codes
		WHERE user_id = $1 AND uses_left <> 0 AND (expires = 0 OR expires > $2)`, userID, micros(now))
	return n > 0, err
}

// RecoveryCodesLeft implements store.Reader.
func (t *Tx) RecoveryCodesLeft(userID string) (int, error) {
	return count(t, `SELECT COUNT(*) FROM bypass_codes WHERE user_id = $1 AND recovery = 1 AND uses_left <> 0`, userID)
}

// BypassCode implements store.Reader.
func (t *Tx) BypassCode(id string) (store.BypassCode, error) {
	return one(t, "bypass code", scanBypass, `SELECT `+bypassColumns+` FROM bypass_codes WHERE id = $1`, id)
}

// BypassCodeByHash implements store.Reader.
func (t *Tx) BypassCodeByHash(userID string, hash []byte) (store.BypassCode, error) {
	return one(t, "bypass code", scanBypass, `SELECT `+bypassColumns+` FROM bypass_codes WHERE user_id = $1 AND hash = $2`,
		userID, blob(hash))
}

// AddBypassCode implements store.Writer.
func (t *Tx) AddBypassCode(b store.BypassCode) error {
	return t.add("bypass code", `INSERT INTO bypass_codes (`+bypassColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		b.ID, b.UserID, blob(b.Hash), b.UsesLeft, micros(b.Created), micros(b.Expires), bit(b.Recovery))
}

// DeleteBypassCode implements store.Writer.
func (t *Tx) DeleteBypassCode(id string) error {
	return t.set("bypass code", `DELETE FROM bypass_codes WHERE id = $1`, id)
}

// DeleteBypassCodes implements store.Writer.
func (t *Tx) DeleteBypassCodes(userID string, recovery bool) error {
	if _, err := t.conn.Exec(`DELETE FROM bypass_codes WHERE user_id = $1 AND recovery = $2`, userID, bit(recovery)); err != nil {
		return fmt.Errorf("delete bypass codes: %w", err)
	}
	return nil
}

// UseBypassCode implements store.Writer.
func (t *Tx) UseBypassCode(userID, codeID string, now time.Time) (bool, error) {
	return t.won(`UPDATE bypass_codes SET uses_left = CASE WHEN uses_left < 0 THEN uses_left ELSE uses_left - 1 END
		WHERE id = $2 AND user_id = $1 AND uses_left <> 0 AND (expires = 0 OR expires > $3) AND `+t.activeUser("$1"),
		userID, codeID, micros(now))
}

const smsColumns = `id, user_id, phone_id, hash, created, expires, place, digit`

func scanSMS(s scanner) (store.SMSCode, error) {
	var (
		c                store.SMSCode
		created, expires int64
	)
	err := s.Scan(&c.ID, &c.UserID, &c.PhoneID, &c.Hash, &created, &expires, &c.Place, &c.Digit)
	c.Created, c.Expires = fromMicros(created), fromMicros(expires)
	return c, err
}

// SMSCodeByHash implements store.Reader.
func (t *Tx) SMSCodeByHash(userID string, hash []byte) (store.SMSCode, error) {
	return one(t, "SMS code", scanSMS, `SELECT `+smsColumns+` FROM sms_codes WHERE user_id = $1 AND hash = $2`, userID, blob(hash))
}

// SMSCodes implements store.Reader.
func (t *Tx) SMSCodes(userID string, now time.Time) ([]store.SMSCode, error) {
	return list(t, "SMS codes", scanSMS, `SELECT `+smsColumns+` FROM sms_codes WHERE user_id = $1 AND expires > $2
		ORDER BY phone_id, place`, userID, micros(now))
}

// SMSCodesSent implements store.Reader.
func (t *Tx) SMSCodesSent(phoneID string) (bool, error) {
	n, err := count(t, `SELECT COUNT(*) FROM sms_codes WHERE phone_id = $1`, phoneID)
	return n > 0, err
}

// ReplaceSMSCodes implements store.Writer.
func (t *Tx) ReplaceSMSCodes(userID, phoneID string, codes []store.SMSCode) error {
	if _, err := t.conn.Exec(`DELETE FROM sms_codes WHERE user_id = $1 AND phone_id = $2`, userID, phoneID); err != nil {
		return fmt.Errorf("void SMS codes: %w", err)
	}
	for _, c := range codes {
		err := t.add("SMS code", `INSERT INTO sms_codes (`+smsColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
			c.ID, userID, phoneID, blob(c.Hash), micros(c.Created), micros(c.Expires), c.Place, c.Digit)
		if err != nil {
			return err
		}
	}
	return nil
}

// UseSMSCode implements store.Writer.
func (t *Tx) UseSMSCode(userID, codeID string, now time.Time) (bool, error) {
	return t.won(`DELETE FROM sms_codes WHERE id = $2 AND user_id = $1 AND expires > $3
		AND `+t.hasPhone("$1", "sms_codes.phone_id")+` AND `+t.activeUser("$1"),
		userID, codeID, micros(now))
}
