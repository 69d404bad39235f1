-- The state of s3fence on PostgreSQL 15 and later: marks, guards, the rows of
-- sealed objects, and what is needed to answer retries and lost commits.
--
-- Names and prefixes are bytea: object keys are bytes, are ordered by bytes, and
-- must mean the same whatever the database's encoding and locale.
-- convert_from(key, 'UTF8') shows one to a person.
--
-- F1 ... F10 are the invariants of package fence (go doc ./internal/fence).

-- +goose Up

-- One row: which state this is. Restoring a backup keeps the id, so it is the
-- counter and the incarnation that tell whether tokens were lost.
CREATE TABLE deployment (
    single      boolean PRIMARY KEY DEFAULT true CHECK (single),
    id          uuid    NOT NULL DEFAULT gen_random_uuid(),
    incarnation bigint  NOT NULL DEFAULT 0 CHECK (incarnation BETWEEN 0 AND 8191)
);
INSERT INTO deployment DEFAULT VALUES;

-- The counter of all grants (F2). CACHE 1: a cached block would let a later grant
-- on another connection draw a smaller token. NO CYCLE and the maximum of 40 bits:
-- it runs out with an error and never starts over.
CREATE SEQUENCE fencing_token AS bigint
    MINVALUE 1 MAXVALUE 1099511627775 START WITH 1 INCREMENT BY 1 CACHE 1 NO CYCLE;

-- One row: the version of the guard list, and the highest guard id ever given.
CREATE TABLE guard_list (
    single     boolean PRIMARY KEY DEFAULT true CHECK (single),
    version    bigint  NOT NULL DEFAULT 1 CHECK (version >= 1),
    last_guard bigint  NOT NULL DEFAULT 0 CHECK (last_guard >= 0)
) WITH (fillfactor = 50);
INSERT INTO guard_list DEFAULT VALUES;

CREATE TABLE guards (
    id       bigint      PRIMARY KEY CHECK (id >= 1),
    pattern  bytea       NOT NULL UNIQUE,
    writes   text        NOT NULL CHECK (writes IN ('sealed', 'in-place')),
    tokens   text        NOT NULL CHECK (tokens IN ('required', 'optional', 'none')),
    issuer   text        NOT NULL CHECK (issuer IN ('s3fence', 'external')),
    max_jump bigint      NOT NULL CHECK (max_jump >= 0),
    state    text        NOT NULL CHECK (state IN ('pending', 'active', 'removing')),
    created  timestamptz
);

-- Each proxy rewrites its row every few seconds; the free half of the page keeps
-- those updates on it, and their dead versions are pruned without vacuum.
CREATE TABLE proxies (
    id    uuid        PRIMARY KEY,
    acked bigint      NOT NULL CHECK (acked >= 0),
    seen  timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The marks. A row is rewritten by every grant and renewal and none of the
-- changing columns is indexed: with free space on the page all updates are HOT.
CREATE TABLE scopes (
    scope       bytea  PRIMARY KEY,
    generation  bigint NOT NULL CHECK (generation >= 1),
    token       bigint NOT NULL CHECK (token >= 0),
    writes      text   NOT NULL CHECK (writes IN ('sealed', 'in-place')),
    epoch       bigint NOT NULL,
    horizon     bigint NOT NULL,
    epoch_since timestamptz,
    holder      text   NOT NULL,
    owner       text   NOT NULL,
    granted     timestamptz,
    lease_until timestamptz,
    ttl_ns      bigint NOT NULL CHECK (ttl_ns >= 0),
    CHECK (1 <= horizon AND horizon <= epoch)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

-- The row of a sealed object is what makes it exist. attempt is the unique id in
-- its physical key: two rows with one attempt would let the collector's look at
-- one of them decide over the bytes of both. An overwrite changes attempt, which
-- is indexed, so updates are never HOT: no free space is kept, and vacuum comes
-- early, since a bucket of constant size is rewritten over and over.
CREATE TABLE objects (
    bucket     text   COLLATE "C" NOT NULL,
    key        bytea  NOT NULL,
    scope      bytea  NOT NULL,
    token      bigint NOT NULL CHECK (token >= 0),
    attempt    uuid   NOT NULL,
    physical   bytea  NOT NULL,
    size       bigint NOT NULL CHECK (size >= 0),
    etag       text   NOT NULL,
    modified   timestamptz,
    attributes json   NOT NULL,
    PRIMARY KEY (bucket, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX objects_attempt ON objects (attempt);

-- changed is when the row was last written: completed uploads are forgotten by it.
CREATE TABLE uploads (
    id         text   COLLATE "C" PRIMARY KEY,
    bucket     text   COLLATE "C" NOT NULL,
    key        bytea  NOT NULL,
    scope      bytea  NOT NULL,
    token      bigint NOT NULL CHECK (token >= 0),
    generation bigint NOT NULL CHECK (generation >= 0),
    creator    text   NOT NULL,
    attempt    uuid   NOT NULL,
    physical   bytea  NOT NULL,
    upstream   text   NOT NULL,
    initiated  timestamptz,
    attributes json   NOT NULL,
    completed  boolean NOT NULL,
    digest     text   NOT NULL,
    etag       text   NOT NULL,
    size       bigint NOT NULL CHECK (size >= 0),
    changed    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX uploads_open ON uploads (bucket, key, id) WHERE NOT completed;
CREATE INDEX uploads_attempt ON uploads (attempt) WHERE NOT completed;
CREATE INDEX uploads_completed ON uploads (changed) WHERE completed;

-- The verdict on each transaction that wrote: 1 committed, 2 aborted by whoever
-- resolved its lost answer. day is the day of the id's own time, so every finder
-- of an id looks into the same partition. Maintenance makes partitions ahead and
-- drops old ones whole; the default partition takes what a strange clock sends.
CREATE TABLE outcomes (
    day     date     NOT NULL,
    id      uuid     NOT NULL,
    verdict smallint NOT NULL CHECK (verdict IN (1, 2)),
    PRIMARY KEY (day, id)
) PARTITION BY RANGE (day);
CREATE TABLE outcomes_default PARTITION OF outcomes DEFAULT;

-- Answers of requests that committed, for their retries. day is the database's
-- day. That an id is not there on two days is the work of the key's lock: both
-- attempts hold it and look before they write. The id leads the key, since who
-- looks does not know the day.
CREATE TABLE retries (
    day    date  NOT NULL,
    id     bytea NOT NULL CHECK (length(id) = 32),
    result bytea NOT NULL,
    PRIMARY KEY (id, day)
) PARTITION BY RANGE (day);
CREATE TABLE retries_default PARTITION OF retries DEFAULT;

-- Physical keys seen unreferenced below the horizon.
CREATE TABLE garbage (
    bucket   text  COLLATE "C" NOT NULL,
    physical bytea NOT NULL,
    found    timestamptz NOT NULL,
    PRIMARY KEY (bucket, physical)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX garbage_found ON garbage (bucket, found, physical);

-- S3F01: something was to fall or vanish that never may. The program knows the
-- code. Everything below holds for people with psql too.

-- +goose StatementBegin
CREATE FUNCTION refuse_removal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%: % is refused: what this table remembers must outlive everything it guards', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'S3F01', HINT = 'F1';
END $$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION refuse_lower_mark() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.scope <> OLD.scope THEN
        RAISE EXCEPTION 'the row of a scope must not be given to another scope'
            USING ERRCODE = 'S3F01', HINT = 'F1';
    END IF;
    IF (NEW.generation, NEW.token) < (OLD.generation, OLD.token) THEN
        RAISE EXCEPTION 'the mark of % must not fall from %/% to %/%',
            encode(OLD.scope, 'escape'), OLD.generation, OLD.token, NEW.generation, NEW.token
            USING ERRCODE = 'S3F01', HINT = 'F1';
    END IF;
    IF NEW.epoch < OLD.epoch OR NEW.horizon < OLD.horizon THEN
        RAISE EXCEPTION 'epoch and horizon of % must not fall from %/% to %/%',
            encode(OLD.scope, 'escape'), OLD.epoch, OLD.horizon, NEW.epoch, NEW.horizon
            USING ERRCODE = 'S3F01', HINT = 'F6';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER mark_never_falls BEFORE UPDATE ON scopes FOR EACH ROW EXECUTE FUNCTION refuse_lower_mark();
CREATE TRIGGER mark_never_deleted BEFORE DELETE ON scopes FOR EACH ROW EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER mark_never_truncated BEFORE TRUNCATE ON scopes FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();

-- +goose StatementBegin
CREATE FUNCTION refuse_other_deployment() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.id <> OLD.id OR NEW.incarnation < OLD.incarnation THEN
        RAISE EXCEPTION 'the deployment keeps its id, and its incarnation never falls'
            USING ERRCODE = 'S3F01', HINT = 'F2';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER deployment_stays BEFORE UPDATE ON deployment FOR EACH ROW EXECUTE FUNCTION refuse_other_deployment();
CREATE TRIGGER deployment_never_deleted BEFORE DELETE ON deployment FOR EACH ROW EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER deployment_never_truncated BEFORE TRUNCATE ON deployment FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();

-- +goose StatementBegin
CREATE FUNCTION refuse_older_guard_list() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version < OLD.version OR NEW.last_guard < OLD.last_guard THEN
        RAISE EXCEPTION 'version and last guard of the guard list must not fall'
            USING ERRCODE = 'S3F01', HINT = 'F9';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER guard_list_never_falls BEFORE UPDATE ON guard_list FOR EACH ROW EXECUTE FUNCTION refuse_older_guard_list();
CREATE TRIGGER guard_list_never_deleted BEFORE DELETE ON guard_list FOR EACH ROW EXECUTE FUNCTION refuse_removal();
CREATE TRIGGER guard_list_never_truncated BEFORE TRUNCATE ON guard_list FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();

-- Guard ids are never used again: a new one lies above all that were ever given.
-- +goose StatementBegin
CREATE FUNCTION refuse_used_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF NEW.id <> OLD.id THEN
            RAISE EXCEPTION 'guard % must keep its id', OLD.id USING ERRCODE = 'S3F01';
        END IF;
    ELSIF NEW.id <= (SELECT last_guard FROM guard_list) THEN
        RAISE EXCEPTION 'guard id % was used before', NEW.id USING ERRCODE = 'S3F01';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER guard_id_is_new BEFORE INSERT OR UPDATE ON guards FOR EACH ROW EXECUTE FUNCTION refuse_used_guard();

-- A verdict is final (F7). Inserts, the hot path, run no trigger.
-- +goose StatementBegin
CREATE FUNCTION refuse_other_verdict() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.verdict <> OLD.verdict OR NEW.id <> OLD.id THEN
        RAISE EXCEPTION 'the verdict on transaction % is final', OLD.id USING ERRCODE = 'S3F01', HINT = 'F7';
    END IF;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER verdict_is_final BEFORE UPDATE ON outcomes FOR EACH ROW EXECUTE FUNCTION refuse_other_verdict();

-- S3F02: a statement wrote fewer rows than it was given, because of a trigger,
-- rule or policy that somebody added. Raised by the statement itself, since a
-- count that is read after COMMIT comes too late.
-- +goose StatementBegin
CREATE FUNCTION must_write(expected bigint, written bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF written <> expected THEN
        RAISE EXCEPTION '% of % rows were written', written, expected
            USING ERRCODE = 'S3F02', HINT = 'Remove the triggers, rules or policies that were added to the tables of s3fence.';
    END IF;
END $$;
-- +goose StatementEnd
