package sqlite_test

import (
	"database/sql"
	"io/fs"
	"path/filepath"
	"testing"

	"github.com/pressly/goose/v3"
	"github.com/stretchr/testify/require"

	"github.com/s3fence/s3fence/internal/fence"
	"github.com/s3fence/s3fence/internal/sqlite"
	"github.com/s3fence/s3fence/internal/state"
	"github.com/s3fence/s3fence/migrations"
)

// F1: a state of the first release keeps its marks and guards.
func TestUpgradeFromTheFirstSchema(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(wal)")
	require.NoError(t, err)
	files, err := fs.Sub(migrations.Files, "sqlite")
	require.NoError(t, err)
	provider, err := goose.NewProvider(goose.DialectSQLite3, db, files, goose.WithDisableGlobalRegistry(true))
	require.NoError(t, err)
	_, err = provider.UpTo(t.Context(), 1)
	require.NoError(t, err)
	_, err = db.Exec(`
		INSERT INTO scopes VALUES ('s3://data/jobs/', 2, 34, 'sealed', 3, 2, NULL, 'AKIA', 'ann', 1, 2000000000000000, 30000000000);
		INSERT INTO guards VALUES (7, 's3://data/*/', 'sealed', 'optional', 's3fence', 5, 'active', NULL)`)
	require.NoError(t, err)
	require.NoError(t, db.Close())

	require.NoError(t, sqlite.Migrate(t.Context(), path))
	sc, err := fence.ParseScope("s3://data/jobs/")
	require.NoError(t, err)
	v, err := open(t, path, sqlite.Options{}).Read(t.Context(), state.Query{Scopes: []fence.Scope{sc}, Guards: []fence.GuardID{7}, Lines: []fence.Scope{sc}})
	require.NoError(t, err)
	row := v.Scopes[sc]
	require.Equal(t, fence.Mark{Generation: 2, Token: 34}, row.Mark)
	require.Equal(t, "ann", row.Last.Owner)
	require.Empty(t, row.Ticket)
	require.Equal(t, fence.Optional, v.Guards[7].Tokens)
	require.Zero(t, v.Guards[7].LockDelay)
	require.Empty(t, v.Heads)
}
