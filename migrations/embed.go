// Package migrations carries the schemas of the state, one folder of numbered
// goose files for each database.
//
// A file that was released is never edited: a later one corrects it. There are
// no down migrations, since a mark that was lowered by one could not be trusted
// again; the way back is a backup.
package migrations

import "embed"

// Files has the folders postgres and sqlite.
//
//go:embed */*.sql
var Files embed.FS
