-- Claims: one scheduled run of a job, a slot, belongs to whoever claimed it first,
-- in the whole deployment. Job and slot are bytea as keys are: what they mean and
-- how they are ordered must not depend on the database's encoding and locale.
--
-- Nothing changes for the requests that name themselves with an Idempotency-Key:
-- their records are rows of retries, found by a lock of their own.

-- +goose Up

-- keep_until is when a claim may be forgotten: maintenance drops it then, and not
-- before. A claim that vanished early would let a slot run twice.
CREATE TABLE claims (
    job        bytea       NOT NULL,
    slot       bytea       NOT NULL,
    holder     text        NOT NULL,
    owner      text        NOT NULL,
    claimed    timestamptz NOT NULL,
    keep_until timestamptz NOT NULL CHECK (keep_until > claimed),
    PRIMARY KEY (job, slot)
);
CREATE INDEX claims_keep_until ON claims (keep_until);

-- +goose StatementBegin
CREATE FUNCTION refuse_other_claim() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'slot % of job % belongs to who claimed it', encode(OLD.slot, 'escape'), encode(OLD.job, 'escape')
        USING ERRCODE = 'S3F01', HINT = 'Claim a slot of another name to run the job again.';
END $$;
-- +goose StatementEnd
CREATE TRIGGER claim_never_changes BEFORE UPDATE OF job, slot, holder, owner, claimed ON claims
    FOR EACH ROW EXECUTE FUNCTION refuse_other_claim();
CREATE TRIGGER claim_not_forgotten BEFORE DELETE ON claims
    FOR EACH ROW WHEN (OLD.keep_until > clock_timestamp()) EXECUTE FUNCTION refuse_other_claim();
CREATE TRIGGER claims_never_truncated BEFORE TRUNCATE ON claims FOR EACH STATEMENT EXECUTE FUNCTION refuse_removal();
