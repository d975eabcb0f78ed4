// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"encoding/json"
	"fmt"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

func scanEndpoint(s scanner) (store.Endpoint, error) {
	var (
		e    store.Endpoint
		seen int64
		doc  string
	)
	if err := s.Scan(&e.ID, &e.Username, &seen, &doc); err != nil {
		return e, err
	}
	err := json.Unmarshal([]byte(doc), &e)
	e.LastSeen = fromMicros(seen)
	return e, err
}

// Endpoint implements store.Reader.
func (t *Tx) Endpoint(id string) (store.Endpoint, error) {
	return one(t, "endpoint", scanEndpoint, `SELECT id, username, last_seen, doc FROM endpoints WHERE id = $1`, id)
}

// Endpoints implements store.Reader.
func (t *Tx) Endpoints(p store.Page) ([]store.Endpoint, int, error) {
	return page(t, "endpoints", scanEndpoint, "id, username, last_seen, doc", "endpoints", "id", where{}, p)
}

// PutEndpoint implements store.Writer.
func (t *Tx) PutEndpoint(e store.Endpoint) error {
	doc, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode endpoint: %w", err)
	}
	return t.set("endpoint", `INSERT INTO endpoints (id, username, last_seen, doc) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET username = excluded.username, last_seen = excluded.last_seen, doc = excluded.doc`,
		e.ID, e.Username, micros(e.LastSeen), string(doc))
}

// DeleteEndpoint implements store.Writer.
func (t *Tx) DeleteEndpoint(id string) error {
	return t.set("endpoint", `DELETE FROM endpoints WHERE id = $1`, id)
}

func scanRegisteredDevice(s scanner) (store.RegisteredDevice, error) {
	var (
		d                store.RegisteredDevice
		blocked, created int64
		doc              string
	)
	if err := s.Scan(&d.ID, &d.UserID, &blocked, &created, &doc); err != nil {
		return d, err
	}
	err := json.Unmarshal([]byte(doc), &d)
	d.Blocked, d.Created = blocked == 1, fromMicros(created)
	return d, err
}

// RegisteredDevice implements store.Reader.
func (t *Tx) RegisteredDevice(id string) (store.RegisteredDevice, error) {
	return one(t, "registered device", scanRegisteredDevice,
		`SELECT id, user_id, blocked, created, doc FROM registered_devices WHERE id = $1`, id)
}

// RegisteredDevices implements store.Reader.
func (t *Tx) RegisteredDevices(blocked bool, p store.Page) ([]store.RegisteredDevice, int, error) {
	var w where
	if blocked {
		w.and("blocked = 1")
	}
	return page(t, "registered devices", scanRegisteredDevice, "id, user_id, blocked, created, doc", "registered_devices", "created, id", w, p)
}

// AddRegisteredDevice implements store.Writer.
func (t *Tx) AddRegisteredDevice(d store.RegisteredDevice) error {
	doc, err := json.Marshal(d)
	if err != nil {
		return fmt.Errorf("encode registered device: %w", err)
	}
	return t.add("registered device", `INSERT INTO registered_devices (id, user_id, blocked, created, doc) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT DO NOTHING`, d.ID, d.UserID, bit(d.Blocked), micros(d.Created), string(doc))
}

// BlockRegisteredDevice implements store.Writer.
func (t *Tx) BlockRegisteredDevice(id string, blocked bool) (bool, error) {
	won, err := t.won(`UPDATE registered_devices SET blocked = $2 WHERE id = $1 AND blocked <> $2`, id, bit(blocked))
	if err != nil {
		return false, fmt.Errorf("block registered device: %w", err)
	}
	return won, nil
}

// DeleteRegisteredDevice implements store.Writer.
func (t *Tx) DeleteRegisteredDevice(id string) error {
	return t.set("registered device", `DELETE FROM registered_devices WHERE id = $1`, id)
}

// Logo implements store.Reader.
func (t *Tx) Logo() ([]byte, error) {
	return one(t, "logo", func(s scanner) (png []byte, err error) {
		err = s.Scan(&png)
		return png, err
	}, `SELECT png FROM logo WHERE id = 1`)
}

// SetLogo implements store.Writer.
func (t *Tx) SetLogo(png []byte) error {
	return t.set("logo", `INSERT INTO logo (id, png) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET png = excluded.png`, blob(png))
}

// DeleteLogo implements store.Writer.
func (t *Tx) DeleteLogo() error { return t.set("logo", `DELETE FROM logo WHERE id = 1`) }
