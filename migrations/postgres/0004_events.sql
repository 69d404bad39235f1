-- The event log: what happened, told after the fact. Nothing is decided from it.

-- +goose Up

-- Ids are drawn under a lock of the log's own that is held until COMMIT, so rows
-- become visible in the order of their ids and whoever follows the log by id
-- misses nothing. CACHE 1: a cached block would be drawn by one session and used
-- after another's higher one.
CREATE SEQUENCE event_id AS bigint
    MINVALUE 1 START WITH 1 INCREMENT BY 1 CACHE 1 NO CYCLE;

-- day is the database's day when the row was added: rows are dropped with it.
-- at is when it happened. The id leads the key, since whoever follows the log does
-- not know the day. What nothing is selected by stands in details.
CREATE TABLE events (
    day     date   NOT NULL,
    id      bigint NOT NULL,
    at      timestamptz NOT NULL,
    kind    text   NOT NULL,
    scope   bytea  NOT NULL,
    bucket  text   COLLATE "C" NOT NULL,
    key     bytea  NOT NULL,
    guard   bytea  NOT NULL,
    token   bigint NOT NULL,
    highest bigint NOT NULL,
    count   bigint NOT NULL CHECK (count >= 1),
    details json   NOT NULL,
    PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE TABLE events_default PARTITION OF events DEFAULT;
