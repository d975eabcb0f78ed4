-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- What an authenticator has said of itself, in the generation in which it holds.
CREATE TABLE announcements (
    phone_id     TEXT PRIMARY KEY REFERENCES phones (id) ON DELETE CASCADE,
    generation   BIGINT NOT NULL,
    program      TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    announced    BIGINT NOT NULL
);

-- The WebAuthn credential by which an authenticator has its person verified. Its
-- id stands with the phone too, so that an approval, which locks that row, rests
-- on whether there is one, and which.
CREATE TABLE user_verifications (
    phone_id      TEXT PRIMARY KEY REFERENCES phones (id) ON DELETE CASCADE,
    credential_id TEXT NOT NULL,
    public_key    BYTEA NOT NULL,
    sign_count    BIGINT NOT NULL CHECK (sign_count >= 0),
    created       BIGINT NOT NULL
);
ALTER TABLE phones ADD COLUMN verification TEXT NOT NULL DEFAULT '';

-- Challenges of WebAuthn that wait for their one use, hashed.
CREATE TABLE verification_challenges (
    hash       BYTEA PRIMARY KEY,
    phone_id   TEXT NOT NULL REFERENCES phones (id) ON DELETE CASCADE,
    generation BIGINT NOT NULL,
    purpose    TEXT NOT NULL,
    created    BIGINT NOT NULL,
    expires    BIGINT NOT NULL
);
CREATE INDEX verification_challenges_phone ON verification_challenges (phone_id);

-- +goose Down
DROP TABLE verification_challenges;
ALTER TABLE phones DROP COLUMN verification;
DROP TABLE user_verifications;
DROP TABLE announcements;
