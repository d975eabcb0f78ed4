-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- The root of an authenticator's offline codes, sealed; good in its generation.
CREATE TABLE offline_roots (
    phone_id   TEXT PRIMARY KEY REFERENCES phones (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    root       BYTEA NOT NULL
);

-- Which keys were handed to which host; the keys themselves are derived.
CREATE TABLE offline_keys (
    host_id    TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    phone_id   TEXT NOT NULL REFERENCES phones (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    edition    BIGINT NOT NULL,
    next       BIGINT NOT NULL CHECK (next >= 0),
    issued     BIGINT NOT NULL,
    PRIMARY KEY (host_id, user_id, phone_id)
);
CREATE INDEX offline_keys_user ON offline_keys (user_id);
CREATE INDEX offline_keys_phone ON offline_keys (phone_id);

-- Up to where the reports of a host have come, in each epoch of its log.
CREATE TABLE host_reports (
    host_id TEXT NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
    epoch   TEXT NOT NULL,
    seq     BIGINT NOT NULL,
    seen    BIGINT NOT NULL,
    PRIMARY KEY (host_id, epoch)
);

-- +goose Down
DROP TABLE host_reports;
DROP TABLE offline_keys;
DROP TABLE offline_roots;
