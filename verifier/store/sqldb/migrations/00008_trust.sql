-- SPDX-License-Identifier: Apache-2.0
-- Which cache a management system has is said by the two pointers of its row and
-- nowhere else: to activate is to change one row, however many devices there are.
-- A cache that no pointer names is dead; its rows go later, a few at a time.

-- +goose Up
CREATE TABLE management_systems (
    key             TEXT PRIMARY KEY,
    name            TEXT NOT NULL UNIQUE,
    os              TEXT NOT NULL CHECK (os IN ('windows', 'macos', 'linux')),
    status          TEXT NOT NULL CHECK (status IN ('disabled', 'test-group', 'all')),
    group_ids       TEXT NOT NULL,
    integration_key TEXT NOT NULL UNIQUE,
    created         BIGINT NOT NULL,
    active_cache    TEXT NOT NULL DEFAULT '',
    pending_cache   TEXT NOT NULL DEFAULT ''
);

-- number stands for the key in cached_devices, where there are millions of it.
CREATE TABLE device_caches (
    key          TEXT PRIMARY KEY,
    number       BIGINT NOT NULL UNIQUE,
    system_key   TEXT NOT NULL,
    created      BIGINT NOT NULL,
    activated    BIGINT NOT NULL,
    device_count BIGINT NOT NULL CHECK (device_count >= 0)
);
CREATE INDEX device_caches_system ON device_caches (system_key);

CREATE TABLE cached_devices (
    cache  BIGINT NOT NULL,
    device TEXT NOT NULL,
    added  BIGINT NOT NULL,
    PRIMARY KEY (cache, device)
);

-- +goose Down
DROP TABLE cached_devices;
DROP TABLE device_caches;
DROP TABLE management_systems;
