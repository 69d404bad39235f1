package mutants

import "strings"

// stateMutants are in the drivers, their statements and the schemas.
var stateMutants = []Mutant{
	{
		Name: "outcome-by-reading", Breaks: "F7",
		What:     "the outcome of a lost commit is what can be seen of it, without ruling out that it still comes",
		File:     "internal/postgres/resolve.go",
		Old:      `f.exec(claimOutcome, outcomeDay(id), pgUUID(id), state.Aborted)`,
		New:      `verdict = state.Aborted`,
		CaughtBy: contract("outcomes", "aborted can never commit"),
	},
	{
		Name: "aborted-commits-after-all", Breaks: "F7",
		What:     "a transaction that was decided as aborted commits under its id",
		File:     "internal/postgres/transact.go",
		Old:      `f.exec(insertOutcome, outcomeDay(tx.ID)`,
		New:      `f.exec(insertOutcome+" ON CONFLICT DO NOTHING", outcomeDay(tx.ID)`,
		CaughtBy: contract("outcomes", "aborted can never commit"),
	},
	{
		Name: "outcome-of-today", Breaks: "F7",
		What:     "an outcome is looked for on the day of the look instead of that of its id",
		File:     "internal/postgres/transact.go",
		Old:      `return pgtype.Date{Time: time.UnixMilli(ms).UTC().Truncate(24 * time.Hour), Valid: true}`,
		New:      `return pgtype.Date{Time: time.UnixMilli(max(ms, time.Now().UnixMilli())).UTC().Truncate(24 * time.Hour), Valid: true}`,
		CaughtBy: pg("TestOutcomeIsOfTheDayOfItsID"),
	},
	{
		Name: "late-commit-undone", Breaks: "F7",
		What:     "an error after the answer to COMMIT is taken for one before it",
		File:     "internal/postgres/transact.go",
		Old:      `case !refusedByServer(err) || tag == "COMMIT":`,
		New:      `case !refusedByServer(err):`,
		CaughtBy: pg("TestErrorAfterTheAnswerToCommit"),
	},
	{
		Name: "warning-is-success", Breaks: "F6",
		What:     "a COMMIT that no replica has, told by a WARNING, counts as done",
		File:     "internal/postgres/transact.go",
		Old:      `case err == nil && seen.last != nil:`,
		New:      `case err == nil && seen.last != nil && tag == "":`,
		CaughtBy: pg("TestCancelledWaitForAReplica"),
	},
	{
		Name: "isolation-of-the-database", Breaks: "F4, F10",
		What: "BEGIN does not say READ COMMITTED, so that the database's default counts",
		File: "internal/postgres/transact.go",
		Old: `	f.exec(begin)
	f.exec(setLimitsAndSign`,
		New: `	f.exec("BEGIN")
	f.exec(setLimitsAndSign`,
		CaughtBy: pg("TestIsolationIsOurs"),
		Missed:   true,
	},
	{
		Name: "snapshot-from-before-the-locks", Breaks: "F4, F10",
		What: "the transaction is REPEATABLE READ: what it reads is from before it waited",
		File: "internal/postgres/transact.go",
		Old: `	f.exec(begin)
	f.exec(setLimitsAndSign`,
		New: `	f.exec("BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE")
	f.exec(setLimitsAndSign`,
		CaughtBy: contract("locks", "a wait ends when the lock is let go"),
	},
	{
		Name: "read-before-lock", Breaks: "F4",
		What: "the rows of scopes are read before their locks are taken",
		File: "internal/postgres/transact.go",
		Old: `	p.take(f, tx.Try, view.Missed)
`,
		New: `	var early []fence.Scope
	for _, s := range tx.Scopes {
		early = append(early, s.Scope)
	}
	readScopes(f, view, early)
	tx = &state.Tx{ID: tx.ID, GuardList: tx.GuardList, Guards: tx.Guards, Try: tx.Try, Keys: tx.Keys, Slots: tx.Slots, Requests: tx.Requests,
		Uploads: tx.Uploads, Retries: tx.Retries, Attempts: tx.Attempts, Lines: tx.Lines, Absent: tx.Absent}
	p.take(f, tx.Try, view.Missed)
`,
		CaughtBy: contract("locks", "a wait ends when the lock is let go"),
	},
	{
		Name: "lock-and-read-in-one-statement", Breaks: "F10",
		What: "the lock on a key and its row are had in one statement, whose snapshot is from before the wait",
		File: "internal/postgres/transact.go",
		Old: `	p.take(f, tx.Try, view.Missed)
	f.query(func(rows pgx.Rows) error { return scanTime(rows, &view.Now) }, readClock)
`,
		New: `	keys := p.keys
	p.keys = locks{}
	p.take(f, tx.Try, view.Missed)
	for i, k := range tx.Keys {
		f.query(func(rows pgx.Rows) error {
			o, err := scanObject(rows)
			if err == nil {
				view.Objects[o.Ref] = o
			}
			return err
		}, "SELECT "+objectColumns+" FROM objects WHERE (SELECT pg_advisory_xact_lock($3)) IS NOT NULL AND bucket = $1 AND key = $2", k.Bucket, []byte(k.Key), keys.ids[i])
	}
	tx = &state.Tx{ID: tx.ID, GuardList: tx.GuardList, Guards: tx.Guards, Scopes: tx.Scopes, Try: tx.Try, Slots: tx.Slots, Requests: tx.Requests,
		Uploads: tx.Uploads, Retries: tx.Retries, Attempts: tx.Attempts, Lines: tx.Lines, Absent: tx.Absent}
	f.query(func(rows pgx.Rows) error { return scanTime(rows, &view.Now) }, readClock)
`,
		CaughtBy: contract("decisions", "of the conditional writers of one key one wins (F10)"),
	},
	{
		Name: "clock-of-the-beginning", Breaks: "none: an expired lease looks alive",
		What: "now() for clock_timestamp(): the time is from before the wait for the locks",
		File: "internal/postgres/transact.go",
		Old: `readClock)
	if tx.GuardList {`,
		New: `"SELECT now()")
	if tx.GuardList {`,
		CaughtBy: contract("locks", "a wait ends when the lock is let go"),
	},
	{
		Name: "keys-not-locked", Breaks: "F10",
		What:     "writers of one key have only the shared lock of its scope in common",
		File:     "internal/postgres/locks.go",
		Old:      `modes[lockID(keyDomain, k.Bucket, k.Key)] = true`,
		New:      `modes[lockID(keyDomain, k.Bucket, k.Key)] = false`,
		CaughtBy: contract("locks", "key: the same"),
	},
	{
		Name: "writers-exclude-nobody", Breaks: "F4",
		What:     "a takeover takes its scope's lock shared",
		File:     "internal/postgres/locks.go",
		Old:      `modes[id] = modes[id] || s.Mode == state.Exclusive`,
		New:      `modes[id] = modes[id] && s.Mode == state.Exclusive`,
		CaughtBy: contract("decisions", "no write is decided under a mark that has risen (F4)"),
	},
	{
		Name: "lock-upgraded", Breaks: "none: takeovers that come together deadlock",
		What: "locks are taken shared first, and then made exclusive",
		File: "internal/postgres/locks.go",
		Old: `	default:
		f.exec(takeLocks, p.scopes.ids, p.scopes.exclusive)`,
		New: `	default:
		f.exec(takeLocks, p.scopes.ids, make([]bool, len(p.scopes.ids)))
		f.exec(takeLocks, p.scopes.ids, p.scopes.exclusive)`,
		CaughtBy: contract("counter", "unique and increasing under concurrency"),
	},
	{
		Name: "locks-in-any-order", Breaks: "none: batches deadlock",
		What:     "the locks of a kind are taken in the order of a map",
		File:     "internal/postgres/locks.go",
		Old:      `l := locks{ids: slices.Sorted(maps.Keys(modes))}`,
		New:      `l := locks{ids: slices.Collect(maps.Keys(modes))}`,
		CaughtBy: contract("locks", "batches that overlap at random do not deadlock"),
	},
	{
		Name: "lock-number-changed", Breaks: "F4, between proxies of two versions",
		What:     "the number of a scope's lock is made of its parts instead of its written form",
		File:     "internal/postgres/locks.go",
		Old:      `lockID(scopeDomain, s.String())`,
		New:      `lockID(scopeDomain, s.Bucket(), s.Prefix())`,
		CaughtBy: pg("TestLockNumbers"),
	},
	{
		Name: "named-requests-not-locked", Breaks: "F7",
		What:     "two requests of one Idempotency-Key with different keys have no lock in common",
		File:     "internal/postgres/locks.go",
		Old:      `modes[requestLock(r.ID)] = true`,
		New:      `modes[requestLock(r.ID)] = false`,
		CaughtBy: contract("locks", "request: the same, for other keys"),
	},
	{
		Name: "counter-drawn-before-the-lock", Breaks: "F2",
		What: "a transaction draws its token before it has its locks",
		File: "internal/postgres/transact.go",
		Old: `	view = newView()
	p := planLocks(tx)
	f := &pipeline{}
	f.exec(begin)
	f.exec(setLimitsAndSign, milliseconds(wait), milliseconds(idleLimit), txLock(tx.ID))
`,
		New: `	view = newView()
	p := planLocks(tx)
	f := &pipeline{}
	if slices.ContainsFunc(tx.Scopes, func(l state.ScopeLock) bool { return l.Mode == state.Exclusive }) {
		early, err := db.draw(ctx, conn, tx.ID)
		if err != nil {
			return nil, nil, err
		}
		defer func() {
			if view != nil {
				view.Draw = func() (fence.Token, error) { return early, nil }
			}
		}()
	}
	f.exec(begin)
	f.exec(setLimitsAndSign, milliseconds(wait), milliseconds(idleLimit), txLock(tx.ID))
`,
		CaughtBy: contract("counter", "unique and increasing under concurrency"),
	},
	{
		Name: "open-uploads-not-referred-to", Breaks: "F6",
		What:     "the collector does not see that an open upload holds its name",
		File:     "internal/postgres/read.go",
		Old:      `}, readReferenced, pgUUIDs(ids))`,
		New:      "}, `SELECT a FROM unnest($1::uuid[]) AS a WHERE EXISTS (SELECT FROM objects WHERE attempt = a)`, pgUUIDs(ids))",
		CaughtBy: contract("records", "attempts are referred to by objects and open uploads"),
	},
	{
		Name: "retries-of-today", Breaks: "F7",
		What:     "a retry after midnight does not find the answer of its first try",
		File:     "internal/postgres/transact.go",
		Old:      `readRetries(f, view, readSomeRetries, tx.Retries)`,
		New:      "readRetries(f, view, `SELECT id, result FROM retries WHERE id = ANY ($1::bytea[]) AND day >= (statement_timestamp() AT TIME ZONE 'UTC')::date`, tx.Retries)",
		CaughtBy: pg("TestRetryAcrossMidnight"),
		Missed:   true,
	},
	{
		Name: "frozen-holder-left-alone", Breaks: "none: a frozen proxy holds up takeovers",
		What: "nobody ends the session that has frozen with a scope's lock",
		File: "internal/postgres/transact.go",
		Old: `	stop := db.breakLocks(txLock(tx.ID), p.urgent(tx.Try), p.others(tx.Try))
`,
		New: `	stop := func() {}
`,
		CaughtBy: pg("TestFrozenHolderDoesNotHoldATakeover/idle_in_transaction/direct/shared"),
	},
	{
		Name: "schema-lets-tokens-fall", Breaks: "F1",
		What:     "PostgreSQL's trigger compares generations only",
		File:     "migrations/postgres/0001_state.sql",
		Old:      `IF (NEW.generation, NEW.token) < (OLD.generation, OLD.token) THEN`,
		New:      `IF NEW.generation < OLD.generation THEN`,
		CaughtBy: pg("TestSchemaRefuses/lower_token"),
	},
	{
		Name: "schema-lets-marks-go", Breaks: "F1",
		What: "SQLite's trigger compares generations only",
		File: "migrations/sqlite/0001_state.sql",
		Old: `  OR (NEW.generation, NEW.token) < (OLD.generation, OLD.token)
  OR NEW.epoch < OLD.epoch OR NEW.horizon < OLD.horizon
BEGIN
    SELECT RAISE(ABORT, 'F1: mark, epoch and horizon of a scope must never fall');`,
		New: `  OR NEW.generation < OLD.generation
  OR NEW.epoch < OLD.epoch OR NEW.horizon < OLD.horizon
BEGIN
    SELECT RAISE(ABORT, 'F1: mark, epoch and horizon of a scope must never fall');`,
		CaughtBy: Test{Package: "internal/sqlite", Name: "TestSchemaRefuses"},
	},
	{
		Name: "begin-deferred", Breaks: "F4, F10",
		What:     "SQLite's write transactions take the file's lock with their first write, after they have read",
		File:     "internal/sqlite/writing.go",
		Old:      `w.exec(beginSQL)`,
		New:      `w.exec(beginReadSQL)`,
		CaughtBy: Test{Package: "internal/sqlite", Name: "TestAnotherProcessWrites"},
	},
	{
		Name: "sqlite-draws-twice", Breaks: "F2",
		What:     "the counter is written back only if a row is written, too, and otherwise given out again",
		File:     "internal/sqlite/transact.go",
		Old:      `n.value, n.moved = value, true`,
		New:      `n.value = value`,
		CaughtBy: Test{Package: "internal/sqlite", Name: "TestState/counter/a_lift_alone_is_kept"},
	},
	{
		Name: "unknown-is-aborted", Breaks: "F7",
		What:     "who cannot learn the verdict on a lost commit is told that nothing happened",
		File:     "internal/state/tx.go",
		Old:      `return fmt.Errorf("%w (and not found out since: %w)", err, rerr)`,
		New:      `return fmt.Errorf("%w: %w", ErrUnavailable, rerr)`,
		CaughtBy: Test{Package: "internal/state", Name: "TestRunDecidesLostAnswers"},
	},
}

func pg(name string) Test { return Test{Package: "internal/postgres", Name: name} }

// contract is a test of the contract that all drivers are held to, on PostgreSQL.
func contract(suite, test string) Test {
	return pg("TestContract/direct/" + suite + "/" + strings.ReplaceAll(test, " ", "_"))
}
