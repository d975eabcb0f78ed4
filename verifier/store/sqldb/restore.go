// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// feedJump keeps the numbers of the feed after a restore apart from those that
// were given between the backup and then.
const feedJump = 1 << 32

// AfterRestore implements store.RestoreWriter.
func (t *Tx) AfterRestore(r store.Restored) (store.RestoredCounts, error) {
	var c store.RestoredCounts
	now := micros(r.Now)
	steps := []struct {
		what  string
		count *int
		query string
		args  []any
	}{
		{"TOTP watermarks", &c.TOTP, `UPDATE tokens SET last_step = $1 / step + drift + $2 WHERE type IN ('t6', 't8') AND step > 0
			AND last_step < $1 / step + drift + $2`, []any{r.Now.Unix(), r.TOTPAhead}},
		{"resyncs under way", new(int), `UPDATE tokens SET resync_until = 0 WHERE resync_until > 0`, nil},
		{"HOTP counters", &c.HOTP, `UPDATE tokens SET counter = counter + $1 WHERE type IN ('h6', 'h8')`, []any{r.HOTPAdvance}},
		// One insertion further: nothing that the key has typed since it was last plugged in counts.
		{"YubiKey counters", &c.YubiKeys, `UPDATE tokens SET counter = counter + 256 WHERE type = 'yk'`, nil},
		{"SMS codes", &c.SMS, `DELETE FROM sms_codes`, nil},
		{"activations", &c.Activations, `DELETE FROM activations WHERE used_at = 0`, nil},
		{"challenges of authenticators", new(int), `DELETE FROM verification_challenges`, nil},
		{"links for administrators", &c.AdminLinks, `DELETE FROM admin_activations WHERE used_at = 0`, nil},
		{"enrolment links", &c.EnrollLinks, `DELETE FROM enroll_links WHERE used_at = 0`, nil},
		{"enrolments under way", new(int), `UPDATE enroll_sessions SET expires = $1 WHERE ended_at = 0 AND expires > $1`, []any{now - 1}},
		{"mails, which may have gone out", new(int), `DELETE FROM mails`, nil},
		{"join tokens", &c.JoinTokens, `DELETE FROM join_tokens`, nil},
		{"sessions", &c.Sessions, `UPDATE sessions SET ended_at = $1, ended_why = $2 WHERE ended_at = 0`, []any{now, store.EndedRestore}},
		{"offered transactions", new(int), `DELETE FROM transactions WHERE state = 'offered'`, nil},
		{"pending transactions", &c.Transactions, `UPDATE transactions SET expires = $1 WHERE state = 'pending' AND expires > $1`, []any{now - 1}},
		{"keys for offline codes", &c.OfflineKeys, `UPDATE offline_keys SET edition = $1, next = 0 WHERE edition < $1`, []any{r.Now.Unix()}},
		{"editions of keys", new(int), `UPDATE offline_base SET edition = $1 WHERE edition < $1`, []any{r.Now.Unix()}},
		{"numbers of the feed", new(int), `UPDATE feed_counter SET last = last + $1`, []any{int64(feedJump)}},
		// What a stream had not delivered jumps along, or it would be given up as too far behind.
		{"entries of the feed", new(int), `UPDATE feed SET seq = seq + $1`, []any{int64(feedJump)}},
		{"positions of the streams", new(int), `UPDATE streams SET position = position + $1`, []any{int64(feedJump)}},
	}
	for _, s := range steps {
		n, err := t.conn.Exec(s.query, s.args...)
		if err != nil {
			return c, fmt.Errorf("after a restore, %s: %w", s.what, err)
		}
		*s.count = int(n)
	}
	// Nobody but the person knows which recovery codes were used: they go in any case.
	n, err := t.conn.Exec(`DELETE FROM bypass_codes WHERE uses_left > 0 AND (recovery = 1 OR $1 = 0)`, bit(r.KeepBypass))
	if err != nil {
		return c, fmt.Errorf("after a restore, bypass codes: %w", err)
	}
	c.Bypass = int(n)
	return c, nil
}
