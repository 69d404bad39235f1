-- Waiting for locks, first come first served over all proxies, and the delay
-- after a lease that ran out.

-- +goose Up

-- Those who wait for a scope: one row for each place in its line, in the order of
-- turn, which is never used again. A place lives until until and, while a call
-- waits in it (visit) at a proxy, as long as that proxy's row is recent. Nothing
-- but fairness hangs on this table.
CREATE TABLE places (
    turn   INTEGER PRIMARY KEY AUTOINCREMENT,
    scope  TEXT    NOT NULL,
    holder TEXT    NOT NULL,
    ticket TEXT    NOT NULL,
    owner  TEXT    NOT NULL,
    since  INTEGER NOT NULL,
    until  INTEGER NOT NULL,
    visit  BLOB    CHECK (length(visit) = 16),
    proxy  BLOB    CHECK (length(proxy) = 16),
    CHECK (proxy IS NULL OR visit IS NOT NULL)
) STRICT;
CREATE UNIQUE INDEX places_id ON places (scope, holder, ticket);
-- In an index each row's turn, its row id, follows by itself.
CREATE INDEX places_turn ON places (scope);

-- The ticket that the latest grant was asked for with, behind its token.
ALTER TABLE scopes ADD COLUMN ticket TEXT NOT NULL DEFAULT '';

ALTER TABLE guards ADD COLUMN lock_delay_ns INTEGER NOT NULL DEFAULT 0 CHECK (lock_delay_ns BETWEEN 0 AND 3600000000000);
