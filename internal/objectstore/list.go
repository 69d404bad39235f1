package objectstore

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"time"
)

// maxKeyBytes is S3's bound on a key.
const maxKeyBytes = 1024

// entry is one line of a list: an object or, when common, a common prefix.
type entry struct {
	key      []byte
	common   bool
	size     int64
	etag     string
	modified time.Time
	upload   string // of a list of uploads
}

// after returns the least byte string above every string that begins with
// prefix, or a string above every key when there is none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] != 0xff {
			up := bytes.Clone(prefix[:i+1])
			up[i]++
			return up
		}
	}
	return bytes.Repeat([]byte{0xff}, maxKeyBytes+1)
}

// next is a source of entries in order of their key bytes: the first one of
// the prefix with a key of at least from, and so on.
type next func(from []byte) (*sql.Rows, error)

// walk collects up to limit entries whose key begins with prefix and lies
// behind marker, rolling keys up at delimiter. Under a common prefix it seeks
// to the end of it, so a list costs what it returns and not what it passes
// over. A common prefix that is not greater than marker was listed before.
func walk(prefix, delimiter, marker []byte, limit int, seek next, scan func(*sql.Rows, *entry) error) (list []entry, more bool, err error) {
	// collect takes entries up to a common prefix, and says where to go on
	// behind it, or nil.
	collect := func(from []byte) (next []byte, more bool, err error) {
		rows, err := seek(from)
		if err != nil {
			return nil, false, err
		}
		defer rows.Close()
		for rows.Next() {
			var e entry
			if err := scan(rows, &e); err != nil {
				return nil, false, err
			}
			if len(list) == limit {
				return nil, true, nil
			}
			if p := commonPrefix(e.key, prefix, delimiter); p != nil {
				list = append(list, entry{key: p, common: true})
				return after(p), false, nil
			}
			list = append(list, e)
		}
		return nil, false, rows.Err()
	}
	from := prefix
	if len(marker) > 0 {
		// The least string above marker.
		if above := append(bytes.Clone(marker), 0); bytes.Compare(above, from) > 0 {
			from = above
		}
		if p := commonPrefix(marker, prefix, delimiter); p != nil {
			from = after(p)
		}
	}
	for {
		if from, more, err = collect(from); err != nil {
			return nil, false, err
		}
		if from == nil {
			return list, more, nil
		}
	}
}

// commonPrefix returns key up to and with the first delimiter behind prefix,
// or nil when there is none.
func commonPrefix(key, prefix, delimiter []byte) []byte {
	if len(delimiter) == 0 || !bytes.HasPrefix(key, prefix) {
		return nil
	}
	i := bytes.Index(key[len(prefix):], delimiter)
	if i < 0 {
		return nil
	}
	return bytes.Clone(key[:len(prefix)+i+len(delimiter)])
}

// snapshot runs fn in a read transaction, so that all its statements see the
// same commits.
func (s *Store) snapshot(ctx context.Context, fn func(*sql.Tx) error) error {
	tx, err := s.readDB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // it only read
	return fn(tx)
}

func snapshotBucket(ctx context.Context, tx *sql.Tx, name string) (id int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT id FROM buckets WHERE name = ?`, name).Scan(&id)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, noSuchBucket(name)
	}
	return id, err
}

// listObjects returns one page of a bucket from one snapshot, ordered by the
// bytes of the keys.
func (s *Store) listObjects(ctx context.Context, bucket string, prefix, delimiter, marker []byte, limit int) (list []entry, more bool, err error) {
	err = s.snapshot(ctx, func(tx *sql.Tx) error {
		id, err := snapshotBucket(ctx, tx, bucket)
		if err != nil {
			return err
		}
		end := after(prefix)
		stmt, err := tx.PrepareContext(ctx, `SELECT key, size, etag, modified FROM objects WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key`)
		if err != nil {
			return err
		}
		defer stmt.Close()
		list, more, err = walk(prefix, delimiter, marker, limit,
			func(from []byte) (*sql.Rows, error) { return stmt.QueryContext(ctx, id, from, end) },
			func(rows *sql.Rows, e *entry) error {
				var modified int64
				err := rows.Scan(&e.key, &e.size, &e.etag, &modified)
				e.modified = time.UnixMilli(modified).UTC()
				return err
			})
		return err
	})
	return list, more, err
}

// listUploads returns one page of the uploads of a bucket, by key and start.
// Behind keyMarker means, as on S3: uploads of that key with an id above
// idMarker, if one is given, then of greater keys.
func (s *Store) listUploads(ctx context.Context, bucket string, prefix, delimiter, keyMarker []byte, idMarker string, limit int) (list []entry, more bool, err error) {
	err = s.snapshot(ctx, func(tx *sql.Tx) error {
		id, err := snapshotBucket(ctx, tx, bucket)
		if err != nil {
			return err
		}
		end := after(prefix)
		scan := func(rows *sql.Rows, e *entry) error {
			var initiated int64
			err := rows.Scan(&e.key, &e.upload, &initiated)
			e.modified = time.UnixMilli(initiated).UTC()
			return err
		}
		if idMarker != "" && len(keyMarker) > 0 && bytes.HasPrefix(keyMarker, prefix) && commonPrefix(keyMarker, prefix, delimiter) == nil {
			list, more, err = walk(prefix, delimiter, nil, limit, func([]byte) (*sql.Rows, error) {
				return tx.QueryContext(ctx, `SELECT key, id, initiated FROM uploads WHERE bucket = ? AND key = ? AND id > ? ORDER BY id`, id, keyMarker, idMarker)
			}, scan)
			if err != nil || more {
				return err
			}
		}
		rest, restMore, err := walk(prefix, delimiter, keyMarker, limit-len(list), func(from []byte) (*sql.Rows, error) {
			return tx.QueryContext(ctx, `SELECT key, id, initiated FROM uploads WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key, id`, id, from, end)
		}, scan)
		list, more = append(list, rest...), restMore
		return err
	})
	return list, more, err
}
