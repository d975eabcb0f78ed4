-- SPDX-License-Identifier: Apache-2.0
-- Types are PostgreSQL's; SQLite takes BIGINT as integer, TEXT as text and
-- leaves byte strings in a BYTEA column as they are. Times are microseconds
-- since 1970 in UTC, 0 for none; truth values are 0 and 1; lists are JSON.

-- +goose Up
CREATE TABLE integrations (
    key              TEXT PRIMARY KEY,
    name             TEXT NOT NULL,
    type             TEXT NOT NULL CHECK (type IN ('authapi', 'adminapi', 'deviceapi', 'websdk')),
    secret           BYTEA NOT NULL,
    allow_sha1       BIGINT NOT NULL CHECK (allow_sha1 IN (0, 1)),
    allow_v1         BIGINT NOT NULL CHECK (allow_v1 IN (0, 1)),
    allow_plain_push BIGINT NOT NULL CHECK (allow_plain_push IN (0, 1)),
    networks         TEXT NOT NULL,
    grants           TEXT NOT NULL,
    name_policy      TEXT NOT NULL,
    enroll_policy    TEXT NOT NULL,
    enroll_url       TEXT NOT NULL,
    greeting         TEXT NOT NULL,
    host_id          TEXT NOT NULL,
    notes            TEXT NOT NULL,
    created          BIGINT NOT NULL
);

CREATE TABLE hosts (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL,
    public_key      TEXT NOT NULL UNIQUE,
    integration_key TEXT NOT NULL,
    created         BIGINT NOT NULL,
    last_seen       BIGINT NOT NULL,
    revoked_at      BIGINT NOT NULL
);

CREATE TABLE join_tokens (
    id        TEXT PRIMARY KEY,
    hash      BYTEA NOT NULL UNIQUE,
    name      TEXT NOT NULL,
    uses_left BIGINT NOT NULL CHECK (uses_left >= 0),
    created   BIGINT NOT NULL,
    expires   BIGINT NOT NULL
);

CREATE TABLE users (
    id             TEXT PRIMARY KEY,
    username       TEXT NOT NULL UNIQUE,
    aliases        TEXT NOT NULL,
    real_name      TEXT NOT NULL,
    first_name     TEXT NOT NULL,
    last_name      TEXT NOT NULL,
    email          TEXT NOT NULL,
    notes          TEXT NOT NULL,
    status         TEXT NOT NULL CHECK (status IN ('active', 'bypass', 'disabled', 'locked out')),
    lockout_reason TEXT NOT NULL,
    locked_at      BIGINT NOT NULL,
    failures       BIGINT NOT NULL CHECK (failures >= 0),
    pushes         BIGINT NOT NULL CHECK (pushes >= 0),
    pushes_since   BIGINT NOT NULL,
    created        BIGINT NOT NULL,
    last_login     BIGINT NOT NULL
);

-- One name, be it user name or alias, is one person.
CREATE TABLE user_names (
    name    TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX user_names_user ON user_names (user_id);

CREATE TABLE phones (
    id         TEXT PRIMARY KEY,
    number     TEXT NOT NULL,
    extension  TEXT NOT NULL,
    name       TEXT NOT NULL,
    type       TEXT NOT NULL,
    platform   TEXT NOT NULL,
    model      TEXT NOT NULL,
    public_key TEXT NOT NULL,
    generation BIGINT NOT NULL,
    created    BIGINT NOT NULL,
    activated  BIGINT NOT NULL,
    last_seen  BIGINT NOT NULL
);
CREATE INDEX phones_number ON phones (number, extension);

CREATE TABLE user_phones (
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    phone_id TEXT NOT NULL REFERENCES phones (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, phone_id)
);
CREATE INDEX user_phones_phone ON user_phones (phone_id);

CREATE TABLE activations (
    hash     BYTEA PRIMARY KEY,
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    phone_id TEXT NOT NULL REFERENCES phones (id) ON DELETE CASCADE,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    used_at  BIGINT NOT NULL
);
CREATE INDEX activations_user ON activations (user_id);
CREATE INDEX activations_phone ON activations (phone_id);

CREATE TABLE tokens (
    id        TEXT PRIMARY KEY,
    type      TEXT NOT NULL CHECK (type IN ('t6', 't8', 'h6', 'h8')),
    serial    TEXT NOT NULL,
    secret    BYTEA NOT NULL,
    counter   BIGINT NOT NULL CHECK (counter >= 0),
    last_step BIGINT NOT NULL,
    step      BIGINT NOT NULL,
    created   BIGINT NOT NULL,
    UNIQUE (type, serial)
);

CREATE TABLE user_tokens (
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    token_id TEXT NOT NULL REFERENCES tokens (id) ON DELETE CASCADE,
    PRIMARY KEY (user_id, token_id)
);
CREATE INDEX user_tokens_token ON user_tokens (token_id);

CREATE TABLE bypass_codes (
    id        TEXT PRIMARY KEY,
    user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash      BYTEA NOT NULL,
    uses_left BIGINT NOT NULL CHECK (uses_left >= -1),
    created   BIGINT NOT NULL,
    expires   BIGINT NOT NULL,
    UNIQUE (user_id, hash)
);

CREATE TABLE sms_codes (
    id       TEXT PRIMARY KEY,
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    phone_id TEXT NOT NULL REFERENCES phones (id) ON DELETE CASCADE,
    hash     BYTEA NOT NULL,
    created  BIGINT NOT NULL,
    expires  BIGINT NOT NULL,
    UNIQUE (user_id, hash)
);
CREATE INDEX sms_codes_phone ON sms_codes (phone_id);

-- No foreign keys: the end of a transaction is logged even if its user is gone.
CREATE TABLE transactions (
    txid            TEXT PRIMARY KEY,
    user_id         TEXT NOT NULL,
    integration_key TEXT NOT NULL,
    factor          TEXT NOT NULL,
    phone_id        TEXT NOT NULL,
    generation      BIGINT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('offered', 'pending', 'approved', 'denied', 'fraud', 'expired', 'cancelled', 'failed')),
    status          TEXT NOT NULL,
    status_msg      TEXT NOT NULL,
    code_hash       BYTEA NOT NULL,
    tries           BIGINT NOT NULL,
    context         BYTEA NOT NULL,
    event           BYTEA NOT NULL,
    created         BIGINT NOT NULL,
    expires         BIGINT NOT NULL,
    decided_at      BIGINT NOT NULL
);
CREATE INDEX transactions_phone ON transactions (phone_id, state, expires);
CREATE INDEX transactions_state ON transactions (state, expires);

CREATE TABLE auth_events (
    txid            TEXT PRIMARY KEY,
    at              BIGINT NOT NULL,
    event_type      TEXT NOT NULL,
    factor          TEXT NOT NULL,
    result          TEXT NOT NULL,
    reason          TEXT NOT NULL,
    user_id         TEXT NOT NULL,
    username        TEXT NOT NULL,
    integration_key TEXT NOT NULL,
    doc             TEXT NOT NULL
);
CREATE INDEX auth_events_at ON auth_events (at, txid);
CREATE INDEX auth_events_user ON auth_events (user_id, at);

CREATE TABLE admin_events (
    id          TEXT PRIMARY KEY,
    at          BIGINT NOT NULL,
    username    TEXT NOT NULL,
    action      TEXT NOT NULL,
    object      TEXT NOT NULL,
    description TEXT NOT NULL
);
CREATE INDEX admin_events_at ON admin_events (at, id);

CREATE TABLE settings (
    id  BIGINT PRIMARY KEY CHECK (id = 1),
    doc TEXT NOT NULL
);

-- +goose Down
DROP TABLE settings;
DROP TABLE admin_events;
DROP TABLE auth_events;
DROP TABLE transactions;
DROP TABLE sms_codes;
DROP TABLE bypass_codes;
DROP TABLE user_tokens;
DROP TABLE tokens;
DROP TABLE activations;
DROP TABLE user_phones;
DROP TABLE phones;
DROP TABLE user_names;
DROP TABLE users;
DROP TABLE join_tokens;
DROP TABLE hosts;
DROP TABLE integrations;
