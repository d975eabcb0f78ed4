// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const phoneColumns = `p.id, p.number, p.extension, p.name, p.type, p.platform, p.model, p.public_key, p.generation,
	p.created, p.activated, p.last_seen, p.predelay, p.postdelay, p.verification`

func scanPhone(s scanner) (store.Phone, error) {
	var (
		p                        store.Phone
		created, activated, seen int64
	)
	err := s.Scan(&p.ID, &p.Number, &p.Extension, &p.Name, &p.Type, &p.Platform, &p.Model, &p.PublicKey, &p.Generation,
		&created, &activated, &seen, &p.PreDelay, &p.PostDelay, &p.Verification)
	p.Created, p.Activated, p.LastSeen = fromMicros(created), fromMicros(activated), fromMicros(seen)
	return p, err
}

// Phone implements store.Reader.
func (t *Tx) Phone(id string) (store.Phone, error) {
	return one(t, "phone", scanPhone, `SELECT `+phoneColumns+` FROM phones p WHERE p.id = $1`, id)
}

// Phones implements store.Reader: oldest first.
func (t *Tx) Phones(f store.PhoneFilter, p store.Page) ([]store.Phone, int, error) {
	var w where
	if f.Desktops {
		w.and("p.type = ?", store.DesktopToken)
	} else {
		w.and("p.type <> ?", store.DesktopToken)
	}
	if f.Number != "" {
		w.and("p.number = ?", f.Number)
	}
	if f.Extension != "" {
		w.and("p.extension = ?", f.Extension)
	}
	return page(t, "phones", scanPhone, phoneColumns, "phones p", "p.created, p.id", w, p)
}

// UserPhones implements store.Reader: oldest first.
func (t *Tx) UserPhones(userID string) ([]store.Phone, error) {
	return list(t, "phones", scanPhone, `SELECT `+phoneColumns+`
		FROM user_phones a JOIN phones p ON p.id = a.phone_id WHERE a.user_id = $1 ORDER BY p.created, p.id`, userID)
}

// PhoneUsers implements store.Reader: by user name.
func (t *Tx) PhoneUsers(phoneID string) ([]store.User, error) {
	return list(t, "users", scanUser, `SELECT `+userColumns+`
		FROM user_phones a JOIN users u ON u.id = a.user_id WHERE a.phone_id = $1 ORDER BY u.username`, phoneID)
}

// AddPhone implements store.Writer.
func (t *Tx) AddPhone(p store.Phone) error {
	return t.add("phone", `INSERT INTO phones (id, number, extension, name, type, platform, model, public_key, generation,
		created, activated, last_seen, predelay, postdelay)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING`,
		p.ID, p.Number, p.Extension, p.Name, p.Type, p.Platform, p.Model, p.PublicKey, p.Generation,
		micros(p.Created), micros(p.Activated), micros(p.LastSeen), p.PreDelay, p.PostDelay)
}

// SetPhone implements store.Writer.
func (t *Tx) SetPhone(p store.Phone) error {
	// What is on its way to the number before must not count for this one's owner.
	moved, err := t.won(`UPDATE phones SET generation = generation + 1 WHERE id = $1 AND (number <> $2 OR extension <> $3)`,
		p.ID, p.Number, p.Extension)
	if err == nil && moved {
		_, err = t.conn.Exec(`DELETE FROM sms_codes WHERE phone_id = $1`, p.ID)
	}
	if err != nil {
		return fmt.Errorf("change phone: %w", err)
	}
	return t.set("phone", `UPDATE phones SET number = $2, extension = $3, name = $4, type = $5, platform = $6, model = $7,
		predelay = $8, postdelay = $9 WHERE id = $1`,
		p.ID, p.Number, p.Extension, p.Name, p.Type, p.Platform, p.Model, p.PreDelay, p.PostDelay)
}

// DeletePhone implements store.Writer.
func (t *Tx) DeletePhone(id string) error {
	return t.set("phone", `DELETE FROM phones WHERE id = $1`, id)
}

// AttachPhone implements store.Writer.
func (t *Tx) AttachPhone(userID, phoneID string) error {
	return t.attach("phone", `INSERT INTO user_phones (user_id, phone_id)
		SELECT u.id, p.id FROM users u, phones p WHERE u.id = $1 AND p.id = $2 ON CONFLICT DO NOTHING`,
		`SELECT COUNT(*) FROM user_phones WHERE user_id = $1 AND phone_id = $2`, userID, phoneID)
}

// attach joins two objects; that they are joined already is no error.
func (t *Tx) attach(what, insert, probe, userID, id string) error {
	n, err := t.conn.Exec(insert, userID, id)
	if err == nil && n == 0 {
		var there int
		if there, err = count(t, probe, userID, id); err == nil && there == 0 {
			err = store.ErrNotFound
		}
	}
	if err != nil {
		return fmt.Errorf("attach %s: %w", what, err)
	}
	return nil
}

// DetachPhone implements store.Writer.
func (t *Tx) DetachPhone(userID, phoneID string) error {
	return t.set("phone of user", `DELETE FROM user_phones WHERE user_id = $1 AND phone_id = $2`, userID, phoneID)
}

// TouchPhone implements store.Writer.
func (t *Tx) TouchPhone(id string, now time.Time) error {
	return t.set("phone", `UPDATE phones SET last_seen = $2 WHERE id = $1`, id, micros(now))
}

// HoldPhone implements store.Writer. That it writes locks the row.
func (t *Tx) HoldPhone(p store.Phone) (bool, error) {
	return t.won(`UPDATE phones SET generation = generation WHERE id = $1 AND generation = $2 AND public_key = $3 AND verification = $4`,
		p.ID, p.Generation, p.PublicKey, p.Verification)
}

// DeactivatePhone implements store.Writer.
func (t *Tx) DeactivatePhone(id string) error {
	if err := t.set("phone", `UPDATE phones SET public_key = '', generation = generation + 1, activated = 0, verification = ''
		WHERE id = $1`, id); err != nil {
		return err
	}
	for _, query := range []string{
		`DELETE FROM offline_roots WHERE phone_id = $1`,
		`DELETE FROM announcements WHERE phone_id = $1`,
	} {
		if _, err := t.conn.Exec(query, id); err != nil {
			return fmt.Errorf("deactivate phone: %w", err)
		}
	}
	if err := t.dropVerification(id); err != nil {
		return err
	}
	return t.voidActivations(id)
}

// voidActivations ends the open activation codes of a phone.
func (t *Tx) voidActivations(phoneID string) error {
	if _, err := t.conn.Exec(`UPDATE activations SET expires = created WHERE phone_id = $1 AND used_at = 0`, phoneID); err != nil {
		return fmt.Errorf("void activations: %w", err)
	}
	return nil
}

const activationColumns = `hash, user_id, phone_id, created, expires, used_at`

func scanActivation(s scanner) (store.Activation, error) {
	var (
		a                      store.Activation
		created, expires, used int64
	)
	err := s.Scan(&a.Hash, &a.UserID, &a.PhoneID, &created, &expires, &used)
	a.Created, a.Expires, a.UsedAt = fromMicros(created), fromMicros(expires), fromMicros(used)
	return a, err
}

// Activation implements store.Reader.
func (t *Tx) Activation(hash []byte) (store.Activation, error) {
	return one(t, "activation", scanActivation, `SELECT `+activationColumns+` FROM activations WHERE hash = $1`, blob(hash))
}

// AddActivation implements store.Writer.
func (t *Tx) AddActivation(a store.Activation) error {
	return t.add("activation", `INSERT INTO activations (`+activationColumns+`) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		blob(a.Hash), a.UserID, a.PhoneID, micros(a.Created), micros(a.Expires), micros(a.UsedAt))
}

// UseActivation implements store.Writer.
func (t *Tx) UseActivation(hash []byte, key store.DeviceKey, now time.Time) (store.Phone, bool, error) {
	used, err := t.won(`UPDATE activations SET used_at = $2 WHERE hash = $1 AND used_at = 0 AND expires > $2
		AND `+t.hasPhone("activations.user_id", "activations.phone_id")+` AND `+t.mayEnroll("activations.user_id"), blob(hash), micros(now))
	if !used || err != nil {
		return store.Phone{}, false, err
	}
	a, err := t.Activation(hash)
	if err != nil {
		return store.Phone{}, false, err
	}
	err = t.set("phone", `UPDATE phones SET public_key = $2, generation = generation + 1, activated = $3, last_seen = $3, verification = '',
		name = CASE WHEN $4 = '' THEN name ELSE $4 END, platform = CASE WHEN $5 = '' THEN platform ELSE $5 END,
		model = CASE WHEN $6 = '' THEN model ELSE $6 END WHERE id = $1`,
		a.PhoneID, key.PublicKey, micros(now), key.Name, key.Platform, key.Model)
	if err == nil {
		err = t.dropVerification(a.PhoneID)
	}
	if err == nil {
		err = t.voidActivations(a.PhoneID)
	}
	if err != nil {
		return store.Phone{}, false, err
	}
	p, err := t.Phone(a.PhoneID)
	return p, err == nil, err
}

const tokenColumns = `k.id, k.type, k.serial, k.secret, k.counter, k.last_step, k.step,
	k.drift, k.resync_next, k.resync_until, k.created`

func scanToken(s scanner) (store.Token, error) {
	var (
		k              store.Token
		until, created int64
	)
	err := s.Scan(&k.ID, &k.Type, &k.Serial, &k.SecretSealed, &k.Counter, &k.LastStep, &k.Step,
		&k.Drift, &k.ResyncNext, &until, &created)
	k.ResyncUntil, k.Created = fromMicros(until), fromMicros(created)
	return k, err
}

// Token implements store.Reader.
func (t *Tx) Token(id string) (store.Token, error) {
	return one(t, "token", scanToken, `SELECT `+tokenColumns+` FROM tokens k WHERE k.id = $1`, id)
}

// Tokens implements store.Reader: by type and serial.
func (t *Tx) Tokens(f store.TokenFilter, p store.Page) ([]store.Token, int, error) {
	var w where
	if f.Type != "" {
		w.and("k.type = ?", string(f.Type))
	}
	if f.Serial != "" {
		w.and("k.serial = ?", f.Serial)
	}
	return page(t, "tokens", scanToken, tokenColumns, "tokens k", "k.type, k.serial", w, p)
}

// UserTokens implements store.Reader: oldest first.
func (t *Tx) UserTokens(userID string) ([]store.Token, error) {
	return list(t, "tokens", scanToken, `SELECT `+tokenColumns+`
		FROM user_tokens a JOIN tokens k ON k.id = a.token_id WHERE a.user_id = $1 ORDER BY k.created, k.id`, userID)
}

// TokenUsers implements store.Reader: by user name.
func (t *Tx) TokenUsers(tokenID string) ([]store.User, error) {
	return list(t, "users", scanUser, `SELECT `+userColumns+`
		FROM user_tokens a JOIN users u ON u.id = a.user_id WHERE a.token_id = $1 ORDER BY u.username`, tokenID)
}

// AddToken implements store.Writer.
func (t *Tx) AddToken(k store.Token) error {
	return t.add("token", `INSERT INTO tokens (id, type, serial, secret, counter, last_step, step, created)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		k.ID, string(k.Type), k.Serial, blob(k.SecretSealed), k.Counter, k.LastStep, k.Step, micros(k.Created))
}

// SetToken implements store.Writer.
func (t *Tx) SetToken(k store.Token) error {
	taken, err := count(t, `SELECT COUNT(*) FROM tokens WHERE type = $1 AND serial = $2 AND id <> $3`, string(k.Type), k.Serial, k.ID)
	if err != nil {
		return fmt.Errorf("change token: %w", err)
	}
	if taken > 0 {
		return fmt.Errorf("change token: serial %q: %w", k.Serial, store.ErrConflict)
	}
	// The watermark moves to the last of the new steps that a used one touches.
	return t.set("token", `UPDATE tokens SET serial = $2, step = $3,
		drift = CASE WHEN step = $3 THEN drift ELSE 0 END, resync_until = CASE WHEN step = $3 THEN resync_until ELSE 0 END,
		last_step = CASE WHEN last_step < 0 OR step = $3 OR step <= 0 OR $3 <= 0 THEN last_step
			ELSE ((last_step + 1) * step - 1) / $3 END
		WHERE id = $1`, k.ID, k.Serial, k.Step)
}

// DeleteToken implements store.Writer.
func (t *Tx) DeleteToken(id string) error {
	return t.set("token", `DELETE FROM tokens WHERE id = $1`, id)
}

// AttachToken implements store.Writer.
func (t *Tx) AttachToken(userID, tokenID string) error {
	return t.attach("token", `INSERT INTO user_tokens (user_id, token_id)
		SELECT u.id, k.id FROM users u, tokens k WHERE u.id = $1 AND k.id = $2 ON CONFLICT DO NOTHING`,
		`SELECT COUNT(*) FROM user_tokens WHERE user_id = $1 AND token_id = $2`, userID, tokenID)
}

// DetachToken implements store.Writer.
func (t *Tx) DetachToken(userID, tokenID string) error {
	return t.set("token of user", `DELETE FROM user_tokens WHERE user_id = $1 AND token_id = $2`, userID, tokenID)
}

// ResyncHOTP implements store.Writer.
func (t *Tx) ResyncHOTP(tokenID string, next int64) (bool, error) {
	return t.won(`UPDATE tokens SET counter = $2 WHERE id = $1 AND type IN ('h6', 'h8') AND counter <= $2`, tokenID, next)
}
