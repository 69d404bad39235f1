package sqlite_test

import (
	"database/sql"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/sqlite"
	"github.com/s3fence/s3fence/internal/state"
)

// shell is a connection as a person's would be: none of our settings.
func shell(t *testing.T, path string) *sql.DB {
	t.Helper()
	link := filepath.Join(t.TempDir(), "plain.db")
	require.NoError(t, os.Symlink(path, link))
	db, err := sql.Open("sqlite", link)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func TestSchemaThatDoesNotFit(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name    string
		prepare func(t *testing.T, path string)
		says    string
	}{
		{"no file", func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) }, "run s3fence migrate"},
		{"empty file", func(t *testing.T, path string) { require.NoError(t, os.WriteFile(path, nil, 0o600)) }, "run s3fence migrate"},
		{"older", func(t *testing.T, path string) {
			require.NoError(t, sqlite.Migrate(t.Context(), path))
			_, err := shell(t, path).Exec(`UPDATE goose_db_version SET is_applied = 0 WHERE version_id = (SELECT max(version_id) FROM goose_db_version)`)
			require.NoError(t, err)
		}, "run s3fence migrate"},
		{"newer", func(t *testing.T, path string) {
			require.NoError(t, sqlite.Migrate(t.Context(), path))
			_, err := shell(t, path).Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
			require.NoError(t, err)
		}, "run the newer s3fence"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "state.db")
			require.NoError(t, os.WriteFile(path, nil, 0o600))
			c.prepare(t, path)
			_, err := sqlite.Open(t.Context(), path, sqlite.Options{})
			require.ErrorIs(t, err, state.ErrSchema)
			require.ErrorContains(t, err, c.says)
			require.ErrorContains(t, err, path)
		})
	}
	t.Run("not a database", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "state.db")
		require.NoError(t, os.WriteFile(path, make([]byte, 8192), 0o600))
		_, err := sqlite.Open(t.Context(), path, sqlite.Options{})
		require.Error(t, err)
		require.Error(t, sqlite.Migrate(t.Context(), path))
	})
	t.Run("it stops fitting under way", func(t *testing.T) {
		t.Parallel()
		path := migrated(t)
		s := open(t, path, sqlite.Options{})
		require.NoError(t, s.Check(t.Context()))
		_, err := shell(t, path).Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, 1)`)
		require.NoError(t, err)
		require.ErrorIs(t, s.Check(t.Context()), state.ErrSchema)
		require.ErrorIs(t, sqlite.Migrate(t.Context(), path), state.ErrSchema, "there is no way back")
	})
}

func TestMigrateTwiceAndAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := sqlite.Migrate(t.Context(), path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	a, err := open(t, path, sqlite.Options{}).Deployment(t.Context())
	require.NoError(t, err)
	require.NoError(t, sqlite.Migrate(t.Context(), path))
	b, err := open(t, path, sqlite.Options{}).Deployment(t.Context())
	require.NoError(t, err)
	require.Equal(t, a, b, "migrating again changes nothing")
	require.EqualValues(t, 4, a.ID.Version())
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// F1, F2: the schema refuses what no program may do, to people with a shell too.
func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	path := migrated(t)
	s := open(t, path, sqlite.Options{})
	sc, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	tx, _, tok := grantTx(sc)
	require.NoError(t, state.Run(t.Context(), s, tx))
	slot := state.Slot{Job: "nightly", Name: "1"}
	require.NoError(t, state.Run(t.Context(), s, &state.Tx{Slots: []state.Slot{slot}, Decide: func(v *state.View) (state.Changes, error) {
		return state.Changes{Claims: []state.Claim{{Slot: slot, Holder: "ann", At: v.Now, KeepUntil: v.Now.Add(time.Hour)}}}, nil
	}}))
	db := shell(t, path)
	for name, statement := range map[string]string{
		"lower a mark":            `UPDATE scopes SET token = token - 1`,
		"lower a generation":      `UPDATE scopes SET generation = 0`,
		"lower an epoch":          `UPDATE scopes SET epoch = 0`,
		"delete a mark":           `DELETE FROM scopes`,
		"rename a scope":          `UPDATE scopes SET scope = 's3://other/'`,
		"replace a mark":          `INSERT OR REPLACE INTO scopes SELECT scope, 1, 0, 'sealed', 1, 1, NULL, '', '', NULL, NULL, 0, '' FROM scopes`,
		"horizon above epoch":     `UPDATE scopes SET horizon = epoch + 1`,
		"lower the counter":       `UPDATE deployment SET counter = 0`,
		"forget the counter":      `DELETE FROM deployment`,
		"replace the counter":     `INSERT OR REPLACE INTO deployment VALUES (1, randomblob(16), 0, 0)`,
		"another deployment":      `UPDATE deployment SET id = randomblob(16)`,
		"lower the list":          `UPDATE guard_list SET version = version - 1`,
		"forget the list":         `DELETE FROM guard_list`,
		"replace the list":        `INSERT OR REPLACE INTO guard_list VALUES (1, 1)`,
		"another's claim":         `UPDATE claims SET holder = 'bob'`,
		"claim again":             `INSERT OR REPLACE INTO claims SELECT job, slot, 'bob', '', claimed, keep_until FROM claims`,
		"change a verdict":        `UPDATE outcomes SET verdict = 2`,
		"an unknown way to write": `UPDATE scopes SET writes = 'fast'`,
	} {
		_, err := db.Exec(statement)
		require.Error(t, err, name)
	}
	v, err := s.Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}})
	require.NoError(t, err)
	require.Equal(t, *tok, v.Scopes[sc].Mark.Token)
}
