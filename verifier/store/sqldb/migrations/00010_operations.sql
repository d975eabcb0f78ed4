-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- Where the events of the logs go beside the logs, and how far each has come.
CREATE TABLE streams (
    name     TEXT PRIMARY KEY,
    position BIGINT NOT NULL,
    created  BIGINT NOT NULL
);

-- What some stream has not delivered yet, numbered in the order of the commits:
-- the row of feed_counter is locked from the number to the commit. Nothing is
-- numbered while there is no stream.
CREATE TABLE feed (
    seq  BIGINT PRIMARY KEY,
    kind TEXT NOT NULL,
    id   TEXT NOT NULL,
    UNIQUE (kind, id)
);
CREATE TABLE feed_counter (
    id   BIGINT PRIMARY KEY CHECK (id = 1),
    last BIGINT NOT NULL
);
INSERT INTO feed_counter (id, last) VALUES (1, 0);

-- The latest time at which the store is known to have taken a change.
CREATE TABLE heartbeat (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    at BIGINT NOT NULL
);
INSERT INTO heartbeat (id, at) VALUES (1, 0);

-- Editions of keys for offline codes begin after this number. A restore raises
-- it, so that no edition is handed out twice with the same counters.
CREATE TABLE offline_base (
    id      BIGINT PRIMARY KEY CHECK (id = 1),
    edition BIGINT NOT NULL
);
INSERT INTO offline_base (id, edition) VALUES (1, 0);

-- +goose Down
DROP TABLE offline_base;
DROP TABLE heartbeat;
DROP TABLE feed_counter;
DROP TABLE feed;
DROP TABLE streams;
