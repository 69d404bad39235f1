-- Claims: one scheduled run of a job, a slot, belongs to whoever claimed it first.
--
-- Nothing changes for the requests that name themselves with an Idempotency-Key:
-- their records are rows of retries.

-- +goose Up

-- keep_until is when a claim may be forgotten: maintenance drops it then, and not
-- before. A claim that vanished early would let a slot run twice.
CREATE TABLE claims (
    job        TEXT    NOT NULL,
    slot       TEXT    NOT NULL,
    holder     TEXT    NOT NULL,
    owner      TEXT    NOT NULL,
    claimed    INTEGER NOT NULL,
    keep_until INTEGER NOT NULL CHECK (keep_until > claimed),
    PRIMARY KEY (job, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX claims_keep_until ON claims (keep_until);

-- +goose StatementBegin
CREATE TRIGGER claims_stay BEFORE UPDATE OF job, slot, holder, owner, claimed ON claims
BEGIN
    SELECT RAISE(ABORT, 'a slot belongs to who claimed it; claim one of another name to run the job again');
END;
-- +goose StatementEnd

-- On INSERT as well, since INSERT OR REPLACE deletes without asking the triggers
-- of DELETE.

-- +goose StatementBegin
CREATE TRIGGER claims_insert BEFORE INSERT ON claims
WHEN EXISTS (SELECT 1 FROM claims WHERE job = NEW.job AND slot = NEW.slot)
BEGIN
    SELECT RAISE(ABORT, 'a slot belongs to who claimed it; claim one of another name to run the job again');
END;
-- +goose StatementEnd
