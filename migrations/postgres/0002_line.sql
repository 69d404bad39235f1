-- Waiting for locks, first come first served over all proxies, and the delay
-- after a lease that ran out.

-- +goose Up

-- Those who wait for a scope: one row for each place in its line. turn orders a
-- line; the database gives it, since the proxies' clocks cannot tell who came
-- first. A place lives until until and, while a call waits in it (visit) at a
-- proxy, as long as that proxy's row is recent. Nothing but fairness hangs on this
-- table: losing rows costs whoever waited a turn.
--
-- Rows live for seconds, so vacuum comes early: what is dead lies at the head of
-- every line, where each look begins. Keeping or leaving a place changes no indexed
-- column.
CREATE SEQUENCE place_turn AS bigint;
CREATE TABLE places (
    scope  bytea NOT NULL,
    holder text  COLLATE "C" NOT NULL,
    ticket text  COLLATE "C" NOT NULL,
    turn   bigint NOT NULL DEFAULT nextval('place_turn'),
    owner  text  NOT NULL,
    since  timestamptz NOT NULL,
    until  timestamptz NOT NULL,
    visit  uuid,
    proxy  uuid,
    PRIMARY KEY (scope, holder, ticket),
    CHECK (proxy IS NULL OR visit IS NOT NULL)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 200);
ALTER SEQUENCE place_turn OWNED BY places.turn;
CREATE UNIQUE INDEX places_turn ON places (scope, turn);

-- The ticket that the latest grant was asked for with, behind its token: a proxy of
-- an older version grants and leaves the column as it is.
ALTER TABLE scopes ADD COLUMN ticket text NOT NULL DEFAULT '';

ALTER TABLE guards ADD COLUMN lock_delay_ns bigint NOT NULL DEFAULT 0 CHECK (lock_delay_ns BETWEEN 0 AND 3600000000000);
