-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- No passcode of the user counts before this time.
ALTER TABLE users ADD COLUMN next_attempt BIGINT NOT NULL DEFAULT 0;

-- TOTP: how many steps the token's clock is ahead. After a code that is too far off, its
-- next one counts until that time, and with it the token is in step again.
ALTER TABLE tokens ADD COLUMN drift BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN resync_next BIGINT NOT NULL DEFAULT 0;
ALTER TABLE tokens ADD COLUMN resync_until BIGINT NOT NULL DEFAULT 0;

-- The codes of one SMS in their order, and the digit that each begins with.
ALTER TABLE sms_codes ADD COLUMN place BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sms_codes ADD COLUMN digit TEXT NOT NULL DEFAULT '';

-- What is left for calls and text messages, in its one row; below 0: not counted.
CREATE TABLE telephony_account (
    id        BIGINT PRIMARY KEY CHECK (id = 1),
    credits   BIGINT NOT NULL CHECK (credits >= -1),
    warned    BIGINT NOT NULL CHECK (warned IN (0, 1)),
    exhausted BIGINT NOT NULL CHECK (exhausted IN (0, 1))
);
INSERT INTO telephony_account (id, credits, warned, exhausted) VALUES (1, -1, 0, 0);

-- No foreign keys: the log outlives users.
CREATE TABLE telephony_log (
    id       TEXT PRIMARY KEY,
    at       BIGINT NOT NULL,
    context  TEXT NOT NULL,
    type     TEXT NOT NULL,
    phone    TEXT NOT NULL,
    txid     TEXT NOT NULL,
    user_id  TEXT NOT NULL,
    credits  BIGINT NOT NULL CHECK (credits >= 0),
    counted  BIGINT NOT NULL CHECK (counted IN (0, 1)),
    refunded BIGINT NOT NULL CHECK (refunded IN (0, 1))
);
CREATE INDEX telephony_log_at ON telephony_log (at, id);

-- +goose Down
DROP TABLE telephony_log;
DROP TABLE telephony_account;
ALTER TABLE sms_codes DROP COLUMN digit;
ALTER TABLE sms_codes DROP COLUMN place;
ALTER TABLE tokens DROP COLUMN resync_until;
ALTER TABLE tokens DROP COLUMN resync_next;
ALTER TABLE tokens DROP COLUMN drift;
ALTER TABLE users DROP COLUMN next_attempt;
