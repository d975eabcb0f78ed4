-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- One-time links by which people add factors themselves, by the hash of the code.
CREATE TABLE enroll_links (
    hash    BYTEA PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    used_at BIGINT NOT NULL
);
CREATE INDEX enroll_links_user ON enroll_links (user_id);

-- What a link was spent for. phone_id and token_id have no foreign key: what was
-- made outlives the session, and may be deleted before it. phone_links,
-- token_secrets and code_sets are how many of these it has made.
CREATE TABLE enroll_sessions (
    id         TEXT PRIMARY KEY,
    hash       BYTEA NOT NULL UNIQUE,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created    BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL,
    phone_id   TEXT NOT NULL,
    token_id   TEXT NOT NULL,
    token_done BIGINT NOT NULL CHECK (token_done IN (0, 1)),
    tries      BIGINT NOT NULL CHECK (tries >= 0),
    sealed     BYTEA NOT NULL,
    codes_made BIGINT NOT NULL,
    phone_links   BIGINT NOT NULL DEFAULT 0,
    token_secrets BIGINT NOT NULL DEFAULT 0,
    code_sets     BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX enroll_sessions_user ON enroll_sessions (user_id);
CREATE INDEX enroll_sessions_expires ON enroll_sessions (ended_at, expires);

-- Mails that wait to be sent.
CREATE TABLE mails (
    id       TEXT PRIMARY KEY,
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind     TEXT NOT NULL,
    body     BYTEA NOT NULL,
    created  BIGINT NOT NULL,
    due      BIGINT NOT NULL,
    attempts BIGINT NOT NULL CHECK (attempts >= 0)
);
CREATE INDEX mails_due ON mails (due, id);

-- Recovery codes are bypass codes that people keep themselves.
ALTER TABLE bypass_codes ADD COLUMN recovery BIGINT NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE bypass_codes DROP COLUMN recovery;
DROP TABLE mails;
DROP TABLE enroll_sessions;
DROP TABLE enroll_links;
