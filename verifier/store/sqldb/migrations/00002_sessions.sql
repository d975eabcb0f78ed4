-- SPDX-License-Identifier: Apache-2.0
-- The policy has a row of its own, and not a place in settings, so that the
-- statements that decide about a session can rest on it.

-- +goose Up
CREATE TABLE remembered_devices (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    enabled     BIGINT NOT NULL CHECK (enabled IN (0, 1)),
    max_seconds BIGINT NOT NULL CHECK (max_seconds > 0),
    user_choice BIGINT NOT NULL CHECK (user_choice IN (0, 1)),
    factors     TEXT NOT NULL
);
-- Off: that one proof stands for several is for an administrator to choose. A
-- bypass code is for an emergency, not for a day's work.
INSERT INTO remembered_devices (id, enabled, max_seconds, user_choice, factors)
VALUES (1, 0, 28800, 1, ',duo_push,phone_call,sms_passcode,hardware_token,');

CREATE TABLE sessions (
    id         TEXT PRIMARY KEY,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    host_id    TEXT NOT NULL,
    binding    BYTEA NOT NULL,
    factor     TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    generation BIGINT NOT NULL,
    txid       TEXT NOT NULL UNIQUE,
    service    TEXT NOT NULL,
    tty        TEXT NOT NULL,
    created    BIGINT NOT NULL,
    expires    BIGINT NOT NULL,
    last_used  BIGINT NOT NULL,
    uses       BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL,
    ended_why  TEXT NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id, host_id);
CREATE INDEX sessions_created ON sessions (created, id);

-- +goose Down
DROP TABLE sessions;
DROP TABLE remembered_devices;
