-- SPDX-License-Identifier: Apache-2.0
-- Tables whose CHECK changes are made anew beside the old ones, which both
-- engines can do inside a transaction.

-- +goose Up
CREATE TABLE new_tokens (
    id        TEXT PRIMARY KEY,
    type      TEXT NOT NULL CHECK (type IN ('t6', 't8', 'h6', 'h8', 'yk')),
    serial    TEXT NOT NULL,
    secret    BYTEA NOT NULL,
    counter   BIGINT NOT NULL CHECK (counter >= 0),
    last_step BIGINT NOT NULL,
    step      BIGINT NOT NULL,
    created   BIGINT NOT NULL,
    UNIQUE (type, serial)
);
INSERT INTO new_tokens (id, type, serial, secret, counter, last_step, step, created)
SELECT id, type, serial, secret, counter, last_step, step, created FROM tokens;
CREATE TABLE new_user_tokens (
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_id TEXT NOT NULL REFERENCES new_tokens (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, token_id)
);
INSERT INTO new_user_tokens (user_id, token_id) SELECT user_id, token_id FROM user_tokens;
DROP TABLE user_tokens;
DROP TABLE tokens;
ALTER TABLE new_tokens RENAME TO tokens;
ALTER TABLE new_user_tokens RENAME TO user_tokens;
CREATE INDEX user_tokens_token ON user_tokens (token_id);

-- A user in the trash has the status 'disabled' here, so that every statement that
-- decides refuses; the status to come back to stands beside it.
ALTER TABLE users ADD COLUMN trashed_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN status_before TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN attributes TEXT NOT NULL DEFAULT '{}';
CREATE INDEX users_trashed ON users (trashed_at);

ALTER TABLE phones ADD COLUMN predelay TEXT NOT NULL DEFAULT '';
ALTER TABLE phones ADD COLUMN postdelay TEXT NOT NULL DEFAULT '';

CREATE TABLE webauthn_credentials (
    id            TEXT PRIMARY KEY,
    user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    credential_id BYTEA NOT NULL UNIQUE,
    public_key    BYTEA NOT NULL,
    sign_count    BIGINT NOT NULL CHECK (sign_count >= 0),
    aaguid        BYTEA NOT NULL,
    name          TEXT NOT NULL,
    label         TEXT NOT NULL,
    created       BIGINT NOT NULL,
    last_used     BIGINT NOT NULL
);
CREATE INDEX webauthn_credentials_user ON webauthn_credentials (user_id);

CREATE TABLE desktop_authenticators (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    public_key TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    os_family  TEXT NOT NULL,
    created    BIGINT NOT NULL,
    last_used  BIGINT NOT NULL
);
CREATE INDEX desktop_authenticators_user ON desktop_authenticators (user_id);

-- +goose Down
DROP TABLE desktop_authenticators;
DROP TABLE webauthn_credentials;
DROP INDEX users_trashed;
ALTER TABLE phones DROP COLUMN postdelay;
ALTER TABLE phones DROP COLUMN predelay;
ALTER TABLE users DROP COLUMN attributes;
ALTER TABLE users DROP COLUMN status_before;
ALTER TABLE users DROP COLUMN trashed_at;
DELETE FROM tokens WHERE type = 'yk';
