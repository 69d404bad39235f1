-- The state of s3fence on SQLite 3.41 and later: marks, guards, the rows of
-- sealed objects, and what is needed to answer retries and lost commits.
--
-- Keys and physical names are BLOB: bytes, ordered by bytes. Times are
-- microseconds since 1970 in UTC, NULL where there is none:
-- datetime(seen / 1e6, 'unixepoch') shows one to a person. Ids are 16 bytes.
--
-- The triggers hold for people with a shell too. F1 ... F10 are the invariants
-- of package fence (go doc ./internal/fence).

-- +goose Up

-- One row: which state this is, and the counter of all grants (F2).
CREATE TABLE deployment (
    single      INTEGER PRIMARY KEY CHECK (single = 1),
    id          BLOB    NOT NULL CHECK (length(id) = 16),
    incarnation INTEGER NOT NULL DEFAULT 0 CHECK (incarnation BETWEEN 0 AND 8191),
    counter     INTEGER NOT NULL DEFAULT 0 CHECK (counter BETWEEN 0 AND 1099511627775)
) STRICT;

-- A random id with the version and variant bits of RFC 9562.
INSERT INTO deployment (single, id)
SELECT 1, unhex(substr(h, 1, 12) || '4' || substr(h, 14, 3) || 'a' || substr(h, 18, 15))
FROM (SELECT hex(randomblob(16)) AS h);

-- One row: the version of the guard list.
CREATE TABLE guard_list (
    single  INTEGER PRIMARY KEY CHECK (single = 1),
    version INTEGER NOT NULL CHECK (version >= 1)
) STRICT;
INSERT INTO guard_list (single, version) VALUES (1, 1);

-- AUTOINCREMENT: an id is never used again, not even the highest.
CREATE TABLE guards (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    pattern  TEXT    NOT NULL UNIQUE,
    writes   TEXT    NOT NULL CHECK (writes IN ('sealed', 'in-place')),
    tokens   TEXT    NOT NULL CHECK (tokens IN ('required', 'optional', 'none')),
    issuer   TEXT    NOT NULL CHECK (issuer IN ('s3fence', 'external')),
    max_jump INTEGER NOT NULL CHECK (max_jump >= 0),
    state    TEXT    NOT NULL CHECK (state IN ('pending', 'active', 'removing')),
    created  INTEGER
) STRICT;

CREATE TABLE proxies (
    id    BLOB    PRIMARY KEY CHECK (length(id) = 16),
    acked INTEGER NOT NULL CHECK (acked >= 0),
    seen  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The marks, by the written form of the scope.
CREATE TABLE scopes (
    scope       TEXT    PRIMARY KEY,
    generation  INTEGER NOT NULL CHECK (generation >= 1),
    token       INTEGER NOT NULL CHECK (token >= 0),
    writes      TEXT    NOT NULL CHECK (writes IN ('sealed', 'in-place')),
    epoch       INTEGER NOT NULL,
    horizon     INTEGER NOT NULL,
    epoch_since INTEGER,
    holder      TEXT    NOT NULL,
    owner       TEXT    NOT NULL,
    granted     INTEGER,
    lease_until INTEGER,
    ttl_ns      INTEGER NOT NULL CHECK (ttl_ns >= 0),
    CHECK (1 <= horizon AND horizon <= epoch)
) STRICT, WITHOUT ROWID;

-- The row of a sealed object is what makes it exist. No two rows have one
-- attempt: the collector's look at one would decide over the bytes of both.
CREATE TABLE objects (
    bucket     TEXT    NOT NULL,
    key        BLOB    NOT NULL,
    scope      TEXT    NOT NULL,
    token      INTEGER NOT NULL CHECK (token >= 0),
    attempt    BLOB    NOT NULL CHECK (length(attempt) = 16),
    physical   BLOB    NOT NULL,
    size       INTEGER NOT NULL CHECK (size >= 0),
    etag       TEXT    NOT NULL,
    modified   INTEGER,
    attributes TEXT    NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX objects_attempt ON objects (attempt);

-- changed is when the row was last written: completed uploads are forgotten by it.
CREATE TABLE uploads (
    id         TEXT    PRIMARY KEY,
    bucket     TEXT    NOT NULL,
    key        BLOB    NOT NULL,
    scope      TEXT    NOT NULL,
    token      INTEGER NOT NULL CHECK (token >= 0),
    generation INTEGER NOT NULL CHECK (generation >= 0),
    creator    TEXT    NOT NULL,
    attempt    BLOB    NOT NULL CHECK (length(attempt) = 16),
    physical   BLOB    NOT NULL,
    upstream   TEXT    NOT NULL,
    initiated  INTEGER,
    attributes TEXT    NOT NULL,
    completed  INTEGER NOT NULL CHECK (completed IN (0, 1)),
    digest     TEXT    NOT NULL,
    etag       TEXT    NOT NULL,
    size       INTEGER NOT NULL CHECK (size >= 0),
    changed    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_open ON uploads (bucket, key, id) WHERE completed = 0;
CREATE INDEX uploads_attempt ON uploads (attempt) WHERE completed = 0;
CREATE INDEX uploads_completed ON uploads (changed) WHERE completed = 1;

-- The verdict on each transaction that wrote: 1 committed, 2 aborted by whoever
-- resolved its lost answer. The ids are ordered by time, so new rows go to the
-- end and old ones are found without an index on their time.
CREATE TABLE outcomes (
    id      BLOB    PRIMARY KEY CHECK (length(id) = 16),
    verdict INTEGER NOT NULL CHECK (verdict IN (1, 2)),
    at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Answers of requests that committed, for their retries.
CREATE TABLE retries (
    id     BLOB    PRIMARY KEY CHECK (length(id) = 32),
    result BLOB    NOT NULL,
    at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX retries_at ON retries (at);

-- Physical keys seen unreferenced below the horizon.
CREATE TABLE garbage (
    bucket   TEXT    NOT NULL,
    physical BLOB    NOT NULL,
    found    INTEGER NOT NULL,
    PRIMARY KEY (bucket, physical)
) STRICT, WITHOUT ROWID;
CREATE INDEX garbage_found ON garbage (bucket, found, physical);

-- The program knows the words "must never fall". On INSERT as well, since
-- INSERT OR REPLACE deletes without asking the triggers of DELETE.

-- +goose StatementBegin
CREATE TRIGGER scopes_rise BEFORE UPDATE ON scopes
WHEN NEW.scope <> OLD.scope
  OR (NEW.generation, NEW.token) < (OLD.generation, OLD.token)
  OR NEW.epoch < OLD.epoch OR NEW.horizon < OLD.horizon
BEGIN
    SELECT RAISE(ABORT, 'F1: mark, epoch and horizon of a scope must never fall');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER scopes_insert BEFORE INSERT ON scopes
WHEN EXISTS (
    SELECT 1 FROM scopes AS o WHERE o.scope = NEW.scope
    AND ((NEW.generation, NEW.token) < (o.generation, o.token) OR NEW.epoch < o.epoch OR NEW.horizon < o.horizon))
BEGIN
    SELECT RAISE(ABORT, 'F1: mark, epoch and horizon of a scope must never fall');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER scopes_stay BEFORE DELETE ON scopes
BEGIN
    SELECT RAISE(ABORT, 'F1: a mark must never fall, nor be deleted');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER deployment_rises BEFORE UPDATE ON deployment
WHEN NEW.id <> OLD.id OR (NEW.incarnation, NEW.counter) < (OLD.incarnation, OLD.counter)
BEGIN
    SELECT RAISE(ABORT, 'F2: incarnation and counter must never fall, and a state keeps its id');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER deployment_stays BEFORE DELETE ON deployment
BEGIN
    SELECT RAISE(ABORT, 'F2: the counter must never fall, nor be deleted');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER deployment_once BEFORE INSERT ON deployment
WHEN EXISTS (SELECT 1 FROM deployment)
BEGIN
    SELECT RAISE(ABORT, 'F2: there is one deployment, and its counter must never fall');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER guard_list_rises BEFORE UPDATE ON guard_list
WHEN NEW.version <= OLD.version
BEGIN
    SELECT RAISE(ABORT, 'the version of the guard list must never fall');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER guard_list_stays BEFORE DELETE ON guard_list
BEGIN
    SELECT RAISE(ABORT, 'the version of the guard list must never fall, nor be deleted');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER guard_list_once BEFORE INSERT ON guard_list
WHEN EXISTS (SELECT 1 FROM guard_list)
BEGIN
    SELECT RAISE(ABORT, 'there is one guard list, and its version must never fall');
END;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE TRIGGER outcomes_are_final BEFORE UPDATE ON outcomes
BEGIN
    SELECT RAISE(ABORT, 'a verdict is final');
END;
-- +goose StatementEnd
