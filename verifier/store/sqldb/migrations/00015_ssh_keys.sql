-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- SSH public keys of people, for the gateway. The fingerprint is that of the key,
-- so that a key is one person's whatever its comment says.
CREATE TABLE ssh_keys (
    id          TEXT PRIMARY KEY,
    user_id     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    fingerprint TEXT NOT NULL UNIQUE,
    key         TEXT NOT NULL,
    comment     TEXT NOT NULL,
    created     BIGINT NOT NULL
);
CREATE INDEX ssh_keys_user ON ssh_keys (user_id);

-- +goose Down
DROP TABLE ssh_keys;
