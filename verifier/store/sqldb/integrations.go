// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const integrationColumns = `key, name, type, secret, allow_sha1, allow_v1, allow_plain_push,
	networks, grants, name_policy, enroll_policy, enroll_url, greeting, host_id, notes, created, old_secret, old_secret_until, doc`

func scanIntegration(s scanner) (store.Integration, error) {
	var (
		i                store.Integration
		networks, grants string
		sha1, v1, plain  int64
		created, until   int64
		doc              string
	)
	err := s.Scan(&i.Key, &i.Name, &i.Type, &i.SecretSealed, &sha1, &v1, &plain,
		&networks, &grants, &i.NamePolicy, &i.EnrollPolicy, &i.EnrollURL, &i.Greeting, &i.HostID, &i.Notes, &created,
		&i.OldSecret.Sealed, &until, &doc)
	if err != nil {
		return i, err
	}
	i.OldSecret.Until = fromMicros(until)
	if len(i.OldSecret.Sealed) == 0 {
		i.OldSecret.Sealed = nil
	}
	if err := json.Unmarshal([]byte(doc), &i.IntegrationMore); err != nil {
		return i, fmt.Errorf("decode integration: %w", err)
	}
	i.AllowSHA1, i.AllowV1, i.AllowPlainPush = sha1 == 1, v1 == 1, plain == 1
	i.Created = fromMicros(created)
	if i.Networks, err = fromJSONList(networks); err != nil {
		return i, err
	}
	i.Grants, err = fromJSONList(grants)
	return i, err
}

// Integration implements store.Reader.
func (t *Tx) Integration(key string) (store.Integration, error) {
	return one(t, "integration", scanIntegration, `SELECT `+integrationColumns+` FROM integrations WHERE key = $1`, key)
}

// Integrations implements store.Reader: by name.
func (t *Tx) Integrations(p store.Page) ([]store.Integration, int, error) {
	return page(t, "integrations", scanIntegration, integrationColumns, "integrations", "name, key", where{}, p)
}

// AddIntegration implements store.Writer.
func (t *Tx) AddIntegration(i store.Integration) error {
	doc, err := json.Marshal(i.IntegrationMore)
	if err != nil {
		return fmt.Errorf("encode integration: %w", err)
	}
	return t.add("integration", `INSERT INTO integrations (`+integrationColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) ON CONFLICT DO NOTHING`,
		i.Key, i.Name, string(i.Type), blob(i.SecretSealed), bit(i.AllowSHA1), bit(i.AllowV1), bit(i.AllowPlainPush),
		jsonList(i.Networks), jsonList(i.Grants), string(i.NamePolicy), i.EnrollPolicy, i.EnrollURL, i.Greeting,
		i.HostID, i.Notes, micros(i.Created), blob(i.OldSecret.Sealed), micros(i.OldSecret.Until), string(doc))
}

// SetIntegration implements store.Writer.
func (t *Tx) SetIntegration(i store.Integration) error {
	doc, err := json.Marshal(i.IntegrationMore)
	if err != nil {
		return fmt.Errorf("encode integration: %w", err)
	}
	return t.set("integration", `UPDATE integrations SET name = $2, type = $3, secret = $4, allow_sha1 = $5,
		allow_v1 = $6, allow_plain_push = $7, networks = $8, grants = $9, name_policy = $10, enroll_policy = $11,
		enroll_url = $12, greeting = $13, host_id = $14, notes = $15,
		old_secret = $16, old_secret_until = $17, doc = $18 WHERE key = $1`,
		i.Key, i.Name, string(i.Type), blob(i.SecretSealed), bit(i.AllowSHA1), bit(i.AllowV1), bit(i.AllowPlainPush),
		jsonList(i.Networks), jsonList(i.Grants), string(i.NamePolicy), i.EnrollPolicy, i.EnrollURL, i.Greeting,
		i.HostID, i.Notes, blob(i.OldSecret.Sealed), micros(i.OldSecret.Until), string(doc))
}

// DeleteIntegration implements store.Writer.
func (t *Tx) DeleteIntegration(key string) error {
	return t.set("integration", `DELETE FROM integrations WHERE key = $1`, key)
}

const hostColumns = `id, name, public_key, integration_key, created, last_seen, revoked_at`

func scanHost(s scanner) (store.Host, error) {
	var (
		h                      store.Host
		created, seen, revoked int64
	)
	err := s.Scan(&h.ID, &h.Name, &h.PublicKey, &h.IntegrationKey, &created, &seen, &revoked)
	h.Created, h.LastSeen, h.RevokedAt = fromMicros(created), fromMicros(seen), fromMicros(revoked)
	return h, err
}

// Host implements store.Reader.
func (t *Tx) Host(id string) (store.Host, error) {
	return one(t, "host", scanHost, `SELECT `+hostColumns+` FROM hosts WHERE id = $1`, id)
}

// Hosts implements store.Reader: by name.
func (t *Tx) Hosts(p store.Page) ([]store.Host, int, error) {
	return page(t, "hosts", scanHost, hostColumns, "hosts", "name, id", where{}, p)
}

// AddHost implements store.Writer.
func (t *Tx) AddHost(h store.Host) error {
	return t.add("host", `INSERT INTO hosts (`+hostColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		h.ID, h.Name, h.PublicKey, h.IntegrationKey, micros(h.Created), micros(h.LastSeen), micros(h.RevokedAt))
}

// TouchHost implements store.Writer.
func (t *Tx) TouchHost(id string, now time.Time) error {
	return t.set("host", `UPDATE hosts SET last_seen = $2 WHERE id = $1`, id, micros(now))
}

// RevokeHost implements store.Writer.
func (t *Tx) RevokeHost(id string, now time.Time) error {
	err := t.set("host", `UPDATE hosts SET revoked_at = CASE WHEN revoked_at = 0 THEN $2 ELSE revoked_at END WHERE id = $1`, id, micros(now))
	if err != nil {
		return err
	}
	if _, err := t.conn.Exec(`DELETE FROM integrations WHERE host_id = $1`, id); err != nil {
		return fmt.Errorf("delete the host's integration: %w", err)
	}
	return nil
}

const joinTokenColumns = `id, hash, name, uses_left, created, expires`

func scanJoinToken(s scanner) (store.JoinToken, error) {
	var (
		j                store.JoinToken
		created, expires int64
	)
	err := s.Scan(&j.ID, &j.Hash, &j.Name, &j.UsesLeft, &created, &expires)
	j.Created, j.Expires = fromMicros(created), fromMicros(expires)
	return j, err
}

// JoinTokens implements store.Reader: oldest first.
func (t *Tx) JoinTokens() ([]store.JoinToken, error) {
	return list(t, "join tokens", scanJoinToken, `SELECT `+joinTokenColumns+` FROM join_tokens ORDER BY created, id`)
}

// AddJoinToken implements store.Writer.
func (t *Tx) AddJoinToken(j store.JoinToken) error {
	return t.add("join token", `INSERT INTO join_tokens (`+joinTokenColumns+`) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING`,
		j.ID, blob(j.Hash), j.Name, j.UsesLeft, micros(j.Created), micros(j.Expires))
}

// UseJoinToken implements store.Writer.
func (t *Tx) UseJoinToken(hash []byte, now time.Time) (bool, error) {
	return t.won(`UPDATE join_tokens SET uses_left = uses_left - 1 WHERE hash = $1 AND uses_left > 0 AND expires > $2`,
		blob(hash), micros(now))
}

// Settings implements store.Reader.
func (t *Tx) Settings() (store.Settings, error) {
	doc, err := one(t, "settings", func(s scanner) (string, error) {
		var doc string
		err := s.Scan(&doc)
		return doc, err
	}, `SELECT doc FROM settings WHERE id = 1`)
	set := store.DefaultSettings()
	if errors.Is(err, store.ErrNotFound) {
		return set, nil
	}
	if err != nil {
		return set, err
	}
	if err := json.Unmarshal([]byte(doc), &set); err != nil {
		return set, fmt.Errorf("decode settings: %w", err)
	}
	return set, nil
}

// SetSettings implements store.Writer.
func (t *Tx) SetSettings(set store.Settings) error {
	doc, err := json.Marshal(set)
	if err != nil {
		return fmt.Errorf("encode settings: %w", err)
	}
	return t.set("settings", `INSERT INTO settings (id, doc) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET doc = excluded.doc`, string(doc))
}
