-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- The secret before the last rotation is good until old_secret_until. doc holds
-- as JSON what no statement decides on.
ALTER TABLE integrations ADD COLUMN old_secret BYTEA NOT NULL DEFAULT '';
ALTER TABLE integrations ADD COLUMN old_secret_until BIGINT NOT NULL DEFAULT 0;
ALTER TABLE integrations ADD COLUMN doc TEXT NOT NULL DEFAULT '{}';

-- A log is read in the order in which its entries were committed: pos. Its head
-- gives the next position to one transaction at a time.
CREATE TABLE log_heads (
    log  TEXT PRIMARY KEY,
    pos  BIGINT NOT NULL,
    at   BIGINT NOT NULL
);
ALTER TABLE auth_events ADD COLUMN pos BIGINT NOT NULL DEFAULT 0;
ALTER TABLE auth_events ADD COLUMN device_key TEXT NOT NULL DEFAULT '';
ALTER TABLE auth_events ADD COLUMN user_groups TEXT NOT NULL DEFAULT '';
UPDATE auth_events SET pos = n.pos FROM (SELECT txid, ROW_NUMBER() OVER (ORDER BY at, txid) AS pos FROM auth_events) n
    WHERE n.txid = auth_events.txid;
CREATE UNIQUE INDEX auth_events_pos ON auth_events (pos);
ALTER TABLE admin_events ADD COLUMN pos BIGINT NOT NULL DEFAULT 0;
UPDATE admin_events SET pos = n.pos FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY at, id) AS pos FROM admin_events) n
    WHERE n.id = admin_events.id;
CREATE UNIQUE INDEX admin_events_pos ON admin_events (pos);
INSERT INTO log_heads (log, pos, at) SELECT 'auth', COALESCE(MAX(pos), 0), 0 FROM auth_events;
INSERT INTO log_heads (log, pos, at) SELECT 'admin', COALESCE(MAX(pos), 0), 0 FROM admin_events;

-- People who administer. Passwords are hashed with argon2id.
CREATE TABLE administrators (
    id                TEXT PRIMARY KEY,
    name              TEXT NOT NULL,
    email             TEXT NOT NULL UNIQUE,
    phone             TEXT NOT NULL,
    role              TEXT NOT NULL,
    status            TEXT NOT NULL CHECK (status IN ('Active', 'Disabled', 'Pending Activation')),
    password          TEXT NOT NULL,
    password_external BIGINT NOT NULL CHECK (password_external IN (0, 1)),
    password_change   BIGINT NOT NULL CHECK (password_change IN (0, 1)),
    failures          BIGINT NOT NULL CHECK (failures >= 0),
    created           BIGINT NOT NULL,
    activated         BIGINT NOT NULL,
    last_login        BIGINT NOT NULL
);

-- Links that make somebody an administrator: of one that is there, or of nobody
-- yet, who becomes one with that role.
CREATE TABLE admin_activations (
    id       TEXT PRIMARY KEY,
    hash     BYTEA NOT NULL UNIQUE,
    admin_id TEXT NOT NULL,
    email    TEXT NOT NULL,
    role     TEXT NOT NULL,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    used_at  BIGINT NOT NULL
);
CREATE INDEX admin_activations_admin ON admin_activations (admin_id);

CREATE TABLE logo (
    id  BIGINT PRIMARY KEY CHECK (id = 1),
    png BYTEA NOT NULL
);

-- What people log in from, and what they have registered; doc is the object.
CREATE TABLE endpoints (
    id        TEXT PRIMARY KEY,
    username  TEXT NOT NULL,
    last_seen BIGINT NOT NULL,
    doc       TEXT NOT NULL
);
CREATE INDEX endpoints_seen ON endpoints (last_seen, id);
CREATE TABLE registered_devices (
    id      TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    blocked BIGINT NOT NULL CHECK (blocked IN (0, 1)),
    created BIGINT NOT NULL,
    doc     TEXT NOT NULL
);
CREATE INDEX registered_devices_user ON registered_devices (user_id);
CREATE INDEX registered_devices_created ON registered_devices (created, id);

-- +goose Down
DROP TABLE registered_devices;
DROP TABLE endpoints;
DROP TABLE logo;
DROP TABLE admin_activations;
DROP TABLE administrators;
DROP INDEX admin_events_pos;
ALTER TABLE admin_events DROP COLUMN pos;
DROP INDEX auth_events_pos;
ALTER TABLE auth_events DROP COLUMN user_groups;
ALTER TABLE auth_events DROP COLUMN device_key;
ALTER TABLE auth_events DROP COLUMN pos;
DROP TABLE log_heads;
ALTER TABLE integrations DROP COLUMN doc;
ALTER TABLE integrations DROP COLUMN old_secret_until;
ALTER TABLE integrations DROP COLUMN old_secret;
