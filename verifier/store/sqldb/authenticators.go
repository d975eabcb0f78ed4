// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

// Announcement implements store.Reader.
func (t *Tx) Announcement(phoneID string) (store.Announcement, error) {
	return one(t, "announcement", func(s scanner) (a store.Announcement, err error) {
		var capabilities string
		var announced int64
		if err := s.Scan(&a.PhoneID, &a.Generation, &a.Program, &capabilities, &announced); err != nil {
			return a, err
		}
		a.Announced = fromMicros(announced)
		a.Capabilities, err = fromJSONList(capabilities)
		return a, err
	}, `SELECT a.phone_id, a.generation, a.program, a.capabilities, a.announced
		FROM announcements a JOIN phones p ON p.id = a.phone_id AND p.generation = a.generation AND p.public_key <> ''
		WHERE a.phone_id = $1`, phoneID)
}

// SetAnnouncement implements store.Writer.
func (t *Tx) SetAnnouncement(a store.Announcement) (bool, error) {
	return t.won(`INSERT INTO announcements (phone_id, generation, program, capabilities, announced)
		SELECT id, generation, $3, $4, $5 FROM phones WHERE id = $1 AND generation = $2 AND public_key <> ''`+t.dialect.LockRow+`
		ON CONFLICT (phone_id) DO UPDATE SET generation = excluded.generation, program = excluded.program,
			capabilities = excluded.capabilities, announced = excluded.announced`,
		a.PhoneID, a.Generation, a.Program, jsonList(a.Capabilities), micros(a.Announced))
}

// UserVerification implements store.Reader.
func (t *Tx) UserVerification(phoneID string) (store.UserVerification, error) {
	return one(t, "user verification", func(s scanner) (v store.UserVerification, err error) {
		var created int64
		err = s.Scan(&v.PhoneID, &v.CredentialID, &v.PublicKey, &v.SignCount, &created)
		v.Created = fromMicros(created)
		return v, err
	}, `SELECT phone_id, credential_id, public_key, sign_count, created FROM user_verifications WHERE phone_id = $1`, phoneID)
}

// AddVerification implements store.Writer. Writing the phone's row waits for an
// approval under way, which has it locked, and makes a later one read it as it is then.
func (t *Tx) AddVerification(v store.UserVerification, generation int64) (bool, error) {
	won, err := t.won(`UPDATE phones SET verification = $3 WHERE id = $1 AND generation = $2 AND public_key <> '' AND verification = ''`,
		v.PhoneID, generation, v.CredentialID)
	if err != nil || !won {
		return false, err
	}
	return true, t.add("user verification", `INSERT INTO user_verifications (phone_id, credential_id, public_key, sign_count, created)
		VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
		v.PhoneID, v.CredentialID, blob(v.PublicKey), v.SignCount, micros(v.Created))
}

// CountVerification implements store.Writer.
func (t *Tx) CountVerification(phoneID, credentialID string, signCount int64) (bool, error) {
	return t.won(`UPDATE user_verifications SET sign_count = $3 WHERE phone_id = $1 AND credential_id = $2
		AND (sign_count < $3 OR sign_count = 0 AND $3 = 0)`, phoneID, credentialID, signCount)
}

// RemoveVerification implements store.Writer.
func (t *Tx) RemoveVerification(phoneID, credentialID string) (bool, error) {
	won, err := t.won(`UPDATE phones SET verification = '' WHERE id = $1 AND verification = $2 AND verification <> ''`, phoneID, credentialID)
	if err != nil || !won {
		return false, err
	}
	return true, t.dropVerification(phoneID)
}

// dropVerification deletes the credential and open challenges of a phone.
func (t *Tx) dropVerification(phoneID string) error {
	for _, query := range []string{
		`DELETE FROM user_verifications WHERE phone_id = $1`,
		`DELETE FROM verification_challenges WHERE phone_id = $1`,
	} {
		if _, err := t.conn.Exec(query, phoneID); err != nil {
			return fmt.Errorf("delete user verification: %w", err)
		}
	}
	return nil
}

// AddChallenge implements store.Writer.
func (t *Tx) AddChallenge(c store.VerificationChallenge) error {
	if _, err := t.conn.Exec(`DELETE FROM verification_challenges WHERE phone_id = $1 AND (expires <= $2 OR hash NOT IN (
		SELECT hash FROM verification_challenges WHERE phone_id = $1 ORDER BY created DESC, hash LIMIT $3))`,
		c.PhoneID, micros(c.Created), store.MaxChallenges-1); err != nil {
		return fmt.Errorf("void old challenges: %w", err)
	}
	return t.add("challenge", `INSERT INTO verification_challenges (hash, phone_id, generation, purpose, created, expires)
		VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		blob(c.Hash), c.PhoneID, c.Generation, c.Purpose, micros(c.Created), micros(c.Expires))
}

// UseChallenge implements store.Writer.
func (t *Tx) UseChallenge(c store.VerificationChallenge, now time.Time) (bool, error) {
	return t.won(`DELETE FROM verification_challenges WHERE hash = $1 AND phone_id = $2 AND generation = $3 AND purpose = $4 AND expires > $5
		AND EXISTS (SELECT 1 FROM phones WHERE id = $2 AND generation = $3 AND public_key <> ''`+t.dialect.LockRow+`)`,
		blob(c.Hash), c.PhoneID, c.Generation, c.Purpose, micros(now))
}
