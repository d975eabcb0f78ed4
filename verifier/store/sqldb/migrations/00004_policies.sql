-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
CREATE TABLE user_groups (
    id                 TEXT PRIMARY KEY,
    name               TEXT NOT NULL UNIQUE,
    description        TEXT NOT NULL,
    status             TEXT NOT NULL CHECK (status IN ('active', 'bypass', 'disabled')),
    push_enabled       BIGINT NOT NULL CHECK (push_enabled IN (0, 1)),
    sms_enabled        BIGINT NOT NULL CHECK (sms_enabled IN (0, 1)),
    voice_enabled      BIGINT NOT NULL CHECK (voice_enabled IN (0, 1)),
    mobile_otp_enabled BIGINT NOT NULL CHECK (mobile_otp_enabled IN (0, 1)),
    created            BIGINT NOT NULL
);

CREATE TABLE group_users (
    group_id TEXT NOT NULL REFERENCES user_groups (id) ON DELETE CASCADE,
    user_id  TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, user_id)
);
CREATE INDEX group_users_user ON group_users (user_id);

CREATE TABLE policies (
    id        TEXT PRIMARY KEY,
    name      TEXT NOT NULL UNIQUE,
    is_global BIGINT NOT NULL CHECK (is_global IN (0, 1)),
    sections  TEXT NOT NULL,
    created   BIGINT NOT NULL
);
CREATE UNIQUE INDEX policies_global ON policies (is_global) WHERE is_global = 1;
-- Its key is the same everywhere: there is one, and nobody can make or delete it.
INSERT INTO policies (id, name, is_global, sections, created) VALUES ('POGLOBALPOLICY222222', 'Global Policy', 1, '{}', 0);

-- Where policies are put. A group_id of '' is the application as a whole. No
-- foreign key to groups: '' is none; deleting a group deletes its rows.
CREATE TABLE policy_uses (
    integration_key TEXT NOT NULL REFERENCES integrations (key) ON DELETE CASCADE,
    group_id        TEXT NOT NULL,
    policy_id       TEXT NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    position        BIGINT NOT NULL,
    PRIMARY KEY (integration_key, group_id)
);
CREATE INDEX policy_uses_policy ON policy_uses (policy_id);

-- Counts the changes of policies, uses, groups and memberships. A decision that
-- rests on them locks this row, and each change moves it first.
CREATE TABLE policy_version (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    n  BIGINT NOT NULL
);
INSERT INTO policy_version (id, n) VALUES (1, 1);

-- +goose Down
DROP TABLE policy_version;
DROP TABLE policy_uses;
DROP TABLE policies;
DROP TABLE group_users;
DROP TABLE user_groups;
