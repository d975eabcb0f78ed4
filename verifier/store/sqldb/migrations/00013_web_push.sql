-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- The key pair by which push services know the verifier, sealed. Subscriptions
-- are bound to it, so that it is made once and never replaced.
CREATE TABLE push_keys (
    id      TEXT PRIMARY KEY,
    secret  BYTEA NOT NULL,
    created BIGINT NOT NULL
);

-- Where an authenticator is notified, sealed; good in its generation. The edition
-- tells a subscription from the one that was there before.
CREATE TABLE push_subscriptions (
    phone_id     TEXT PRIMARY KEY REFERENCES phones (id) ON DELETE CASCADE,
    generation   BIGINT NOT NULL,
    edition      TEXT NOT NULL,
    subscription BYTEA NOT NULL,
    created      BIGINT NOT NULL
);

-- +goose Down
DROP TABLE push_subscriptions;
DROP TABLE push_keys;
