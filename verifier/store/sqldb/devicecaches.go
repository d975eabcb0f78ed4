// SPDX-License-Identifier: Apache-2.0

package sqldb

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport-mfa/sallyport/verifier/store"
)

const managementColumns = `key, name, os, status, group_ids, integration_key, created`

func scanManagementSystem(s scanner) (store.ManagementSystem, error) {
	var (
		m       store.ManagementSystem
		groups  string
		created int64
	)
	err := s.Scan(&m.Key, &m.Name, &m.OS, &m.Status, &groups, &m.IntegrationKey, &created)
	if err != nil {
		return m, err
	}
	m.Created = fromMicros(created)
	m.GroupIDs, err = fromJSONList(groups)
	return m, err
}

// ManagementSystem implements store.Reader.
func (t *Tx) ManagementSystem(key string) (store.ManagementSystem, error) {
	return one(t, "management system", scanManagementSystem, `SELECT `+managementColumns+` FROM management_systems WHERE key = $1`, key)
}

// ManagementSystemOf implements store.Reader.
func (t *Tx) ManagementSystemOf(integrationKey string) (store.ManagementSystem, error) {
	return one(t, "management system", scanManagementSystem,
		`SELECT `+managementColumns+` FROM management_systems WHERE integration_key = $1`, integrationKey)
}

// ManagementSystems implements store.Reader: by name.
func (t *Tx) ManagementSystems(p store.Page) ([]store.ManagementSystem, int, error) {
	return page(t, "management systems", scanManagementSystem, managementColumns, "management_systems", "name", where{}, p)
}

// AddManagementSystem implements store.Writer.
func (t *Tx) AddManagementSystem(m store.ManagementSystem) error {
	return t.add("management system", `INSERT INTO management_systems (`+managementColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		m.Key, m.Name, m.OS, string(m.Status), jsonList(m.GroupIDs), m.IntegrationKey, micros(m.Created))
}

// SetManagementSystem implements store.Writer.
func (t *Tx) SetManagementSystem(m store.ManagementSystem) error {
	taken, err := count(t, `SELECT COUNT(*) FROM management_systems WHERE name = $1 AND key <> $2`, m.Name, m.Key)
	if err != nil {
		return fmt.Errorf("change management system: %w", err)
	}
	if taken > 0 {
		return fmt.Errorf("change management system: name: %w", store.ErrConflict)
	}
	return t.set("management system", `UPDATE management_systems SET name = $2, status = $3, group_ids = $4 WHERE key = $1`,
		m.Key, m.Name, string(m.Status), jsonList(m.GroupIDs))
}

// DeleteManagementSystem implements store.Writer. Its caches are dead without it.
func (t *Tx) DeleteManagementSystem(key string) error {
	return t.set("management system", `DELETE FROM management_systems WHERE key = $1`, key)
}

// cacheSelect reads caches that are alive.
const cacheSelect = `SELECT c.key, c.system_key, CASE WHEN s.active_cache = c.key THEN 'active' ELSE 'pending' END,
	c.created, c.activated, c.device_count
	FROM device_caches c JOIN management_systems s ON s.key = c.system_key AND (s.active_cache = c.key OR s.pending_cache = c.key)`

func scanDeviceCache(s scanner) (store.DeviceCache, error) {
	var (
		c                  store.DeviceCache
		created, activated int64
	)
	err := s.Scan(&c.Key, &c.SystemKey, &c.Status, &created, &activated, &c.DeviceCount)
	c.Created, c.Activated = fromMicros(created), fromMicros(activated)
	return c, err
}

// DeviceCache implements store.Reader.
func (t *Tx) DeviceCache(key string) (store.DeviceCache, error) {
	return one(t, "device cache", scanDeviceCache, cacheSelect+` WHERE c.key = $1`, key)
}

// DeviceCaches implements store.Reader.
func (t *Tx) DeviceCaches(systemKey string) ([]store.DeviceCache, error) {
	return list(t, "device caches", scanDeviceCache, cacheSelect+` WHERE ($1 = '' OR c.system_key = $1) ORDER BY c.system_key, 3`, systemKey)
}

func scanCachedDevice(s scanner) (store.CachedDevice, error) {
	var (
		d     store.CachedDevice
		added int64
	)
	err := s.Scan(&d.ID, &added)
	d.Added = fromMicros(added)
	return d, err
}

// devicesOf selects the devices of the live cache $1.
const devicesOf = `SELECT d.device, d.added FROM management_systems s
	JOIN device_caches c ON c.system_key = s.key AND (s.active_cache = c.key OR s.pending_cache = c.key)
	JOIN cached_devices d ON d.cache = c.number WHERE c.key = $1`

// CachedDevices implements store.Reader.
func (t *Tx) CachedDevices(cacheKey string, ids []string) ([]store.CachedDevice, error) {
	var out []store.CachedDevice
	for _, id := range ids {
		found, err := list(t, "cached devices", scanCachedDevice, devicesOf+` AND d.device = $2`, cacheKey, id)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

// CachedDevicePage implements store.Reader.
func (t *Tx) CachedDevicePage(cacheKey string, p store.Page) ([]store.CachedDevice, error) {
	limit := p.Limit
	if limit <= 0 {
		limit = 100
	}
	return list(t, "cached devices", scanCachedDevice, devicesOf+` ORDER BY d.device LIMIT $2 OFFSET $3`, cacheKey, limit, max(p.Offset, 0))
}

// SystemsWithDevice implements store.Reader.
func (t *Tx) SystemsWithDevice(id string) ([]store.ManagementSystem, error) {
	return list(t, "management systems", scanManagementSystem, `SELECT s.key, s.name, s.os, s.status, s.group_ids, s.integration_key, s.created
		FROM management_systems s JOIN device_caches c ON c.key = s.active_cache
		JOIN cached_devices d ON d.cache = c.number AND d.device = $1 ORDER BY s.name`, id)
}

// AddDeviceCache implements store.Writer. The pointer is the decision: it is taken
// only where it was free.
func (t *Tx) AddDeviceCache(c store.DeviceCache) (bool, error) {
	place := "pending_cache"
	if c.Status == store.CacheActive {
		place = "active_cache"
	}
	won, err := t.won(`UPDATE management_systems SET `+place+` = $2 WHERE key = $1 AND `+place+` = ''`, c.SystemKey, c.Key)
	if err != nil || !won {
		return false, err
	}
	err = t.add("device cache", `INSERT INTO device_caches (key, number, system_key, created, activated, device_count)
		SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, 0 FROM device_caches WHERE 1 = 1 ON CONFLICT DO NOTHING`,
		c.Key, c.SystemKey, micros(c.Created), micros(c.Activated))
	return err == nil, err
}

// ActivateDeviceCache implements store.Writer.
func (t *Tx) ActivateDeviceCache(key string, now time.Time) (bool, error) {
	won, err := t.won(`UPDATE management_systems SET active_cache = pending_cache, pending_cache = '' WHERE pending_cache = $1 AND pending_cache <> ''`, key)
	if err != nil || !won {
		return false, err
	}
	return true, t.set("device cache", `UPDATE device_caches SET activated = $2 WHERE key = $1`, key, micros(now))
}

// DeleteDeviceCache implements store.Writer.
func (t *Tx) DeleteDeviceCache(key string) (bool, error) {
	return t.won(`UPDATE management_systems SET pending_cache = '' WHERE pending_cache = $1 AND pending_cache <> ''`, key)
}

// holdCache locks a live cache and its place, and returns its number.
func (t *Tx) holdCache(key string) (number int64, won bool, err error) {
	won, err = t.won(`UPDATE device_caches SET device_count = device_count WHERE key = $1
		AND EXISTS (SELECT 1 FROM management_systems s WHERE s.key = device_caches.system_key
		AND (s.active_cache = $1 OR s.pending_cache = $1)`+t.dialect.LockRow+`)`, key)
	if err != nil || !won {
		return 0, false, err
	}
	number, err = one(t, "device cache", func(s scanner) (n int64, err error) {
		err = s.Scan(&n)
		return n, err
	}, `SELECT number FROM device_caches WHERE key = $1`, key)
	return number, err == nil, err
}

// deviceBlock is how many devices one statement takes; there is a statement for
// this many, and one for a single device.
const deviceBlock = 100

// placeholders are n of them from the given number on, each in the pattern.
func placeholders(pattern string, from, n int) string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf(pattern, "$"+strconv.Itoa(from+i))
	}
	return strings.Join(out, ", ")
}

func insertDevices(n int) string {
	return `INSERT INTO cached_devices (cache, added, device) VALUES ` + placeholders("($1, $2, %s)", 3, n) + ` ON CONFLICT DO NOTHING`
}

func deleteDevices(n int) string {
	return `DELETE FROM cached_devices WHERE cache = $1 AND device IN (` + placeholders("%s", 2, n) + `)`
}

var (
	insertBlock, insertOne = insertDevices(deviceBlock), insertDevices(1)
	deleteBlock, deleteOne = deleteDevices(deviceBlock), deleteDevices(1)
)

// eachBlock runs a statement over all ids, and counts the rows that it changed.
func (t *Tx) eachBlock(block, single string, first []any, ids []string) (changed int64, err error) {
	for len(ids) > 0 {
		query, n := single, 1
		if len(ids) >= deviceBlock {
			query, n = block, deviceBlock
		}
		args := append(make([]any, 0, len(first)+n), first...)
		for _, id := range ids[:n] {
			args = append(args, id)
		}
		rows, err := t.conn.Exec(query, args...)
		if err != nil {
			return changed, err
		}
		changed += rows
		ids = ids[n:]
	}
	return changed, nil
}

// recount notes how many devices came to a cache and says how many it has.
func (t *Tx) recount(key string, change int64) (int, error) {
	err := t.set("device cache", `UPDATE device_caches SET device_count = device_count + $2 WHERE key = $1`, key, change)
	if err != nil {
		return 0, err
	}
	return one(t, "device cache", func(s scanner) (n int, err error) {
		err = s.Scan(&n)
		return n, err
	}, `SELECT device_count FROM device_caches WHERE key = $1`, key)
}

// AddCachedDevices implements store.Writer.
func (t *Tx) AddCachedDevices(key string, ids []string, now time.Time) (int, bool, error) {
	number, won, err := t.holdCache(key)
	if err != nil || !won {
		return 0, false, err
	}
	added, err := t.eachBlock(insertBlock, insertOne, []any{number, micros(now)}, ids)
	if err != nil {
		return 0, false, fmt.Errorf("add cached devices: %w", err)
	}
	n, err := t.recount(key, added)
	return n, err == nil, err
}

// DeleteCachedDevices implements store.Writer.
func (t *Tx) DeleteCachedDevices(key string, ids []string) (int, bool, error) {
	number, won, err := t.holdCache(key)
	if err != nil || !won {
		return 0, false, err
	}
	deleted, err := t.eachBlock(deleteBlock, deleteOne, []any{number}, ids)
	if err != nil {
		return 0, false, fmt.Errorf("delete cached devices: %w", err)
	}
	n, err := t.recount(key, -deleted)
	return n, err == nil, err
}

// SweepDeviceCaches implements store.Writer.
func (t *Tx) SweepDeviceCaches(limit int) (bool, error) {
	dead, err := list(t, "deleted device caches", func(s scanner) (n int64, err error) {
		err = s.Scan(&n)
		return n, err
	}, `SELECT number FROM device_caches c WHERE NOT EXISTS (SELECT 1 FROM management_systems s
		WHERE s.key = c.system_key AND (s.active_cache = c.key OR s.pending_cache = c.key)) ORDER BY number LIMIT 2`)
	if err != nil || len(dead) == 0 {
		return false, err
	}
	n, err := t.conn.Exec(`DELETE FROM cached_devices WHERE cache = $1 AND device IN
		(SELECT device FROM cached_devices WHERE cache = $1 ORDER BY device LIMIT $2)`, dead[0], limit)
	if err != nil {
		return false, fmt.Errorf("delete the devices of a deleted cache: %w", err)
	}
	if n >= int64(limit) {
		return true, nil
	}
	return len(dead) > 1, t.set("device cache", `DELETE FROM device_caches WHERE number = $1`, dead[0])
}
