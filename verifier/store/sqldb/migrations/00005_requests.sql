-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- Marks of signed requests that change objects, while their signature is good: a
-- request that comes again is refused by whichever verifier it comes to.
CREATE TABLE requests (
    mark    BYTEA PRIMARY KEY,
    expires BIGINT NOT NULL
);
CREATE INDEX requests_expires ON requests (expires);

-- +goose Down
DROP TABLE requests;
