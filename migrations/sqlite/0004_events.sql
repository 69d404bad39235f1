-- The event log: what happened, told after the fact. Nothing is decided from it.

-- +goose Up

-- AUTOINCREMENT: an id is never used again, not even when all rows are dropped, so
-- that whoever follows the log by id misses nothing. at is when it happened, stored
-- when the row was added, by which rows are dropped. What nothing is selected by
-- stands in details, as JSON.
CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    stored  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    scope   TEXT    NOT NULL,
    bucket  TEXT    NOT NULL,
    key     BLOB    NOT NULL,
    guard   TEXT    NOT NULL,
    token   INTEGER NOT NULL,
    highest INTEGER NOT NULL,
    count   INTEGER NOT NULL CHECK (count >= 1),
    details TEXT    NOT NULL
) STRICT;
CREATE INDEX events_stored ON events (stored);
