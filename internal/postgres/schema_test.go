package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/object"
	"github.com/s3fence/s3fence/internal/state"
)

func testScope(t testing.TB, written string) fence.Scope {
	t.Helper()
	sc, err := fence.ParseScope(written)
	require.NoError(t, err)
	return sc
}

func shared(sc fence.Scope) []state.ScopeLock {
	return []state.ScopeLock{{Scope: sc, Mode: state.Shared}}
}

func exclusive(sc fence.Scope) []state.ScopeLock {
	return []state.ScopeLock{{Scope: sc, Mode: state.Exclusive}}
}

// putOne is a transaction that puts one object; decided is called in Decide.
func putOne(sc fence.Scope, key string, decided func()) (*state.Tx, object.Ref) {
	attempt := state.NewID()
	ref := object.Ref{Bucket: sc.Bucket(), Key: sc.Prefix() + key}
	o := state.Object{Info: object.Info{Ref: ref, ETag: "e"}, Scope: sc, Attempt: attempt, Physical: attempt.String()}
	return &state.Tx{
		ID: state.NewID(), Scopes: shared(sc), Keys: []object.Ref{ref},
		Decide: func(*state.View) (state.Changes, error) {
			if decided != nil {
				decided()
			}
			return state.Changes{PutObjects: []state.Object{o}}, nil
		},
	}, ref
}

// raise is a transaction that raises a scope's mark to t.
func raise(sc fence.Scope, t fence.Token) *state.Tx {
	return &state.Tx{
		ID: state.NewID(), Scopes: exclusive(sc),
		Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scope(sc, fence.Sealed)
			row.Mark.Token = t
			return state.Changes{Scopes: []state.Scope{row}}, nil
		},
	}
}

func exists(t testing.TB, db *DB, ref object.Ref) bool {
	t.Helper()
	v, err := db.Read(t.Context(), state.Query{Objects: []object.Ref{ref}})
	require.NoError(t, err)
	return v.Objects[ref] != nil
}

// TestSchemaRefuses goes past the driver, as a person with psql does (F1, F2, F7).
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 2)
	sc := testScope(t, "s3://data/jobs/")
	require.NoError(t, db.Transact(t.Context(), &state.Tx{
		ID: state.NewID(), Scopes: exclusive(sc), GuardList: true,
		Decide: func(v *state.View) (state.Changes, error) {
			row := v.Scope(sc, fence.Sealed)
			row.Mark, row.Epoch, row.Horizon = fence.Mark{Generation: 2, Token: 34}, 5, 3
			p, err := fence.ParsePattern("s3://data/*/")
			return state.Changes{Scopes: []state.Scope{row}, PutGuards: []*fence.Guard{{
				Pattern: p, Writes: fence.Sealed, Tokens: fence.Required, Issuer: fence.Own, State: fence.Active,
			}}}, err
		},
	}))
	slot := state.Slot{Job: "nightly", Name: "1"}
	require.NoError(t, db.Transact(t.Context(), &state.Tx{ID: state.NewID(), Slots: []state.Slot{slot}, Decide: func(v *state.View) (state.Changes, error) {
		return state.Changes{Claims: []state.Claim{{Slot: slot, Holder: "ann", At: v.Now, KeepUntil: v.Now.Add(time.Hour)}}}, nil
	}}))
	conn := connect(t, dsn)
	for name, c := range map[string]struct{ sql, code string }{
		"lower token":             {`UPDATE scopes SET token = 33`, markFalls},
		"lower generation":        {`UPDATE scopes SET generation = 1, token = 99`, markFalls},
		"lower epoch":             {`UPDATE scopes SET epoch = 4`, markFalls},
		"lower horizon":           {`UPDATE scopes SET horizon = 2`, markFalls},
		"horizon above epoch":     {`UPDATE scopes SET horizon = 6`, checkViolation},
		"negative token":          {`INSERT INTO scopes SELECT 'x', 1, -1, writes, 1, 1, NULL, '', '', NULL, NULL, 0 FROM scopes`, checkViolation},
		"generation zero":         {`INSERT INTO scopes SELECT 'x', 0, 1, writes, 1, 1, NULL, '', '', NULL, NULL, 0 FROM scopes`, checkViolation},
		"horizon zero":            {`INSERT INTO scopes SELECT 'x', 1, 1, writes, 1, 0, NULL, '', '', NULL, NULL, 0 FROM scopes`, checkViolation},
		"another scope's row":     {`UPDATE scopes SET scope = 'x'`, markFalls},
		"delete a scope":          {`DELETE FROM scopes`, markFalls},
		"truncate scopes":         {`TRUNCATE scopes`, markFalls},
		"truncate all":            {`TRUNCATE objects, scopes`, markFalls},
		"lower list version":      {`UPDATE guard_list SET version = version - 1`, markFalls},
		"lower last guard":        {`UPDATE guard_list SET last_guard = 0`, markFalls},
		"delete the list":         {`DELETE FROM guard_list`, markFalls},
		"move a guard":            {`UPDATE guards SET id = 7`, markFalls},
		"use a guard id again":    {`DELETE FROM guards; INSERT INTO guards VALUES (1, 'p', 'sealed', 'none', 's3fence', 1, 'active', NULL)`, markFalls},
		"another deployment":      {`UPDATE deployment SET id = gen_random_uuid()`, markFalls},
		"delete the deployment":   {`DELETE FROM deployment`, markFalls},
		"second deployment":       {`INSERT INTO deployment DEFAULT VALUES`, uniqueViolation},
		"another's claim":         {`UPDATE claims SET holder = 'bob'`, markFalls},
		"forget a claim":          {`DELETE FROM claims`, markFalls},
		"truncate claims":         {`TRUNCATE claims`, markFalls},
		"another verdict":         {`UPDATE outcomes SET verdict = 2`, markFalls},
		"a verdict that is none":  {`INSERT INTO outcomes VALUES (current_date, gen_random_uuid(), 3)`, checkViolation},
		"counter past its 40 bit": {`SELECT setval('fencing_token', 1099511627776)`, "22003"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := conn.PgConn().Exec(t.Context(), c.sql).ReadAll()
			require.Equal(t, c.code, sqlState(err), "%v", err)
		})
	}
	v, err := db.Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}, Guards: []fence.GuardID{1}})
	require.NoError(t, err)
	require.Equal(t, fence.Mark{Generation: 2, Token: 34}, v.Scopes[sc].Mark)
	require.Len(t, v.Guards, 1)
}

// TestCounterEnds: at its end the counter fails, it does not begin again (F2).
func TestCounterEnds(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 2)
	_, err := connect(t, dsn).Exec(t.Context(), `SELECT setval('fencing_token', 1099511627775)`)
	require.NoError(t, err)
	sc := testScope(t, "s3://data/jobs/")
	tx := raise(sc, 0)
	tx.Decide = func(v *state.View) (state.Changes, error) {
		token, err := v.Draw()
		require.Zero(t, token)
		return state.Changes{}, err
	}
	require.ErrorIs(t, db.Transact(t.Context(), tx), state.ErrUnavailable)
}

// TestRowsThatAreSilentlyNotWritten: a trigger that somebody added swallows a row;
// the whole transaction fails before its COMMIT (F7).
func TestRowsThatAreSilentlyNotWritten(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn, 2)
	_, err := connect(t, dsn).Exec(t.Context(), `
		CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER swallow BEFORE INSERT ON objects FOR EACH ROW EXECUTE FUNCTION swallow()`, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	tx, ref := putOne(testScope(t, "s3://data/jobs/"), "a", nil)
	err = db.Transact(t.Context(), tx)
	require.ErrorIs(t, err, state.ErrUnavailable)
	require.ErrorContains(t, err, "0 of 1 rows were written")
	require.False(t, exists(t, db, ref))
	verdict, err := db.Resolve(context.Background(), tx.ID)
	require.NoError(t, err)
	require.Equal(t, state.Aborted, verdict)
}
