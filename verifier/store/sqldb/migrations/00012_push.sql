-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- No prompt is sent to the user before this time.
ALTER TABLE users ADD COLUMN next_push BIGINT NOT NULL DEFAULT 0;

-- When administrators were last told that the user's prompts are denied or not answered.
ALTER TABLE users ADD COLUMN push_alarmed BIGINT NOT NULL DEFAULT 0;
CREATE INDEX transactions_user ON transactions (user_id, decided_at);

-- +goose Down
DROP INDEX transactions_user;
ALTER TABLE users DROP COLUMN push_alarmed;
ALTER TABLE users DROP COLUMN next_push;
